//! The folders that a target means, and what may go there.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::CleanupTarget;
use crate::collector::linux::Roots;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// As systemd-tmpfiles has it for `/tmp` and `/var/tmp`.
const TMP_AGE: Duration = DAY.saturating_mul(10);
const VAR_TMP_AGE: Duration = DAY.saturating_mul(30);

/// A cache that nobody read for a month is not missed.
const CACHE_AGE: Duration = DAY.saturating_mul(30);

/// What was rotated this week may still be looked at.
const LOG_AGE: Duration = DAY.saturating_mul(7);

/// As desktops empty it where they are told to.
const TRASH_AGE: Duration = DAY.saturating_mul(30);

/// As systemd-tmpfiles has it for core dumps.
const DUMP_AGE: Duration = DAY.saturating_mul(14);

/// A folder to sweep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Nobody but root decides where this leads.
    pub trusted: PathBuf,
    /// Below it: a user may have put links here, so none is followed.
    pub below: &'static str,
    /// What may go.
    pub rule: Rule,
}

/// What may be removed below a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Files that were neither read, written nor moved for so long, and folders that are empty since.
    Unused(Duration),
    /// The same, for names that log rotation makes.
    RotatedLogs(Duration),
    /// Whole entries that came here so long ago, with all that is below them.
    Entries(Duration),
    /// All that is in it, whatever it is.
    Everything,
    /// Files and links of these names that are directly in it; one `*` in a name stands for any text.
    Named(&'static [&'static str]),
    /// Rotated files go, all others are emptied: whoever writes a log holds it open.
    Logs,
    /// Nothing: it is only measured.
    Nothing,
}

impl Place {
    /// What lies below a folder.
    pub fn new(trusted: impl Into<PathBuf>, below: &'static str, rule: Rule) -> Self {
        Self { trusted: trusted.into(), below, rule }
    }

    /// A folder that is only measured.
    #[must_use]
    pub fn measuring(folder: &str) -> Self {
        Self::new(folder, "", Rule::Nothing)
    }

    /// The whole path.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        if self.below.is_empty() { self.trusted.clone() } else { self.trusted.join(self.below) }
    }
}

/// The places of a target. Packages have none: their managers remove them.
#[must_use]
pub fn places(roots: &Roots, target: CleanupTarget) -> Vec<Place> {
    let in_homes = |below: &'static [&'static str], rule: Rule| {
        let mut paths: Vec<PathBuf> = homes(roots).into_iter().map(|home| home.path).collect();
        paths.dedup();
        paths
            .into_iter()
            .flat_map(|path| below.iter().map(move |below| Place::new(path.clone(), below, rule)))
            .collect()
    };
    match target {
        CleanupTarget::Temp => {
            vec![Place::new("/tmp", "", Rule::Unused(TMP_AGE)), Place::new("/var/tmp", "", Rule::Unused(VAR_TMP_AGE))]
        }
        CleanupTarget::Cache => in_homes(&[".cache"], Rule::Unused(CACHE_AGE)),
        CleanupTarget::Logs => vec![Place::new("/var/log", "", Rule::RotatedLogs(LOG_AGE))],
        CleanupTarget::Trash => {
            in_homes(&[".local/share/Trash/files", ".local/share/Trash/info"], Rule::Entries(TRASH_AGE))
        }
        CleanupTarget::Packages => Vec::new(),
        CleanupTarget::CrashDumps => vec![
            Place::new("/var/crash", "", Rule::Unused(DUMP_AGE)),
            Place::new("/var/lib/systemd/coredump", "", Rule::Unused(DUMP_AGE)),
        ],
    }
}

/// Somebody's home.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Home {
    /// Where it is.
    pub path: PathBuf,
    /// Whose it is.
    pub uid: u32,
    /// By name.
    pub user: String,
}

/// Of root and of people: system accounts have theirs in `/var` and `/`, and caches there are not for anybody to drop.
#[must_use]
pub fn homes(roots: &Roots) -> Vec<Home> {
    let passwd = fs::read_to_string(roots.etc.join("passwd")).unwrap_or_default();
    let home = |line: &str| {
        let mut fields = line.split(':');
        let user = fields.next()?.to_owned();
        let uid: u32 = fields.nth(1)?.parse().ok()?;
        let path = PathBuf::from(fields.nth(2)?);
        // login.defs(5): UID_MIN to UID_MAX, and 65534 is nobody.
        let is_of_somebody = uid == 0 || (1000..=60_000).contains(&uid);
        (is_of_somebody && path.is_absolute() && path != Path::new("/")).then_some(Home { path, uid, user })
    };
    let mut homes: Vec<Home> = passwd.lines().filter_map(home).collect();
    homes.sort_unstable();
    homes
}

/// Whether a file's name is this one, in which one `*` stands for any text.
#[must_use]
pub fn is_named(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => name.strip_prefix(start).is_some_and(|rest| rest.ends_with(end)),
        None => name == pattern,
    }
}

/// Endings of compressed files, which are taken off before a name is looked at.
const COMPRESSED: [&str; 4] = [".gz", ".xz", ".bz2", ".zst"];

/// Names such as `syslog.1`, `dpkg.log.2.gz`, `messages-20260131`, `Xorg.0.log.old`.
#[must_use]
pub fn is_rotated(name: &str) -> bool {
    let plain = COMPRESSED.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
    let ends_with = |separator: char, digits: std::ops::RangeInclusive<usize>| {
        let end = plain.rsplit_once(separator).filter(|(stem, _)| !stem.is_empty());
        end.is_some_and(|(_, end)| digits.contains(&end.len()) && end.bytes().all(|byte| byte.is_ascii_digit()))
    };
    plain.ends_with(".old") || ends_with('.', 1..=3) || ends_with('-', 8..=10)
}
