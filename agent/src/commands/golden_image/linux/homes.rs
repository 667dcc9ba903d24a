//! What people left: history, caches, and all of it where the host says so.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{UNUSED, told};
use crate::collector::linux::{Roots, mount_types, types_on_devices};
use crate::commands::action::Context;
use crate::commands::cleanup::linux::{Home, Place, Rule, homes, sweep_places};
use crate::commands::outcome::CommandError;

/// Where shells and what people type into beside them write down what was typed.
const HISTORIES: [(&str, Rule); 3] = [
    ("", Rule::Named(&[".*_history", ".zhistory", ".histfile", ".lesshst", ".viminfo"])),
    (".local/share/fish", Rule::Named(&["fish_history"])),
    (".local/share/powershell/PSReadLine", Rule::Named(&["*_history.txt"])),
];

/// Of root's home only this goes: the rest may be what administers the machine.
const OF_ROOT: [(&str, Rule); 3] = [
    (".cache", Rule::Everything),
    (".local/share/Trash", Rule::Everything),
    (".ssh", Rule::Named(&["id_*", "known_hosts*"])),
];

/// One is a link to the other on most systems, and a link is not followed.
const MAIL: [&str; 2] = ["/var/mail", "/var/spool/mail"];

/// Where homes of people are that nothing but people use.
const HOMES: &str = "/home";

pub async fn forget_history(context: &Context) -> Result<String, CommandError> {
    let homes = on_disk(context).await?.0;
    told(sweep_places(context, below(&homes, &HISTORIES), &[]).await?)
}

pub async fn empty_caches(context: &Context) -> Result<String, CommandError> {
    let homes = on_disk(context).await?.0;
    told(sweep_places(context, below(&homes, &[(".cache", UNUSED)]), &[]).await?)
}

/// Empties homes: of people all that a folder directly below `/home` holds that belongs to them, of root what [`OF_ROOT`] says, and
/// everybody's mail. What else stands in passwd as a home may be where a service keeps its data, and stays.
pub async fn empty(context: &Context) -> Result<String, CommandError> {
    let (homes, away) = on_disk(context).await?;
    let (root, people): (Vec<Home>, Vec<Home>) = homes.into_iter().partition(|home| home.uid == 0);
    let (own, others): (Vec<Home>, Vec<Home>) = people.into_iter().partition(|home| is_own(&context.roots, home));
    let mut places = below(&own, &[("", Rule::Everything)]);
    places.extend(below(&root, &OF_ROOT));
    let is_folder = |path: &&str| context.roots.file(path).symlink_metadata().is_ok_and(|found| found.is_dir());
    places.extend(MAIL.into_iter().filter(is_folder).map(|path| Place::new(path, "", Rule::Everything)));
    let mut detail = told(sweep_places(context, places, &[]).await?)?;
    if !own.is_empty() {
        detail += &format!("; emptied: {}", named(&own));
    }
    if !others.is_empty() {
        detail += &format!("; not directly below {HOMES} or not theirs, so left: {}", named(&others));
    }
    if !away.is_empty() {
        detail += &format!("; not on a disk of this machine, so left: {}", named(&away));
    }
    Ok(detail)
}

fn named(homes: &[Home]) -> String {
    homes.iter().map(|home| home.path.to_string_lossy()).collect::<Vec<_>>().join(", ")
}

fn below(homes: &[Home], what: &[(&'static str, Rule)]) -> Vec<Place> {
    let in_home = |home: &Home| {
        let path = home.path.clone();
        what.iter().map(move |(below, rule)| Place::new(path.clone(), below, *rule)).collect::<Vec<_>>()
    };
    homes.iter().flat_map(in_home).collect()
}

/// Whether a home is its owner's own folder and nothing else.
fn is_own(roots: &Roots, home: &Home) -> bool {
    let found = roots.file(&home.path).symlink_metadata();
    home.path.parent() == Some(Path::new(HOMES)) && found.is_ok_and(|found| found.is_dir() && found.uid() == home.uid)
}

/// The homes that are there: first those on a disk of this machine. On a file server they are not this machine's to clean.
async fn on_disk(context: &Context) -> Result<(Vec<Home>, Vec<Home>), CommandError> {
    let found = context.blocking(|context| {
        let disks = Disks::read(&context.roots)?;
        let is_there =
            |home: &Home| context.roots.file(&home.path).symlink_metadata().is_ok_and(|found| found.is_dir());
        let there = homes(&context.roots).into_iter().filter(is_there);
        Ok(there.partition(|home| disks.hold(&home.path)))
    });
    found.await
}

/// Which mounts are disks of this machine.
struct Disks(Vec<(PathBuf, bool)>);

impl Disks {
    fn read(roots: &Roots) -> Result<Self, CommandError> {
        let read = |name: &str| {
            let path = roots.proc.join(name);
            fs::read(&path).map_err(|error| CommandError::failed(format!("{}: {error}", path.display())))
        };
        let (mountinfo, filesystems) = (read("self/mountinfo")?, read("filesystems")?);
        let on_devices = types_on_devices(&filesystems);
        let mounts = mount_types(&mountinfo).into_iter();
        Ok(Self(mounts.map(|(path, kind)| (path, on_devices.contains(&kind.as_str()))).collect()))
    }

    /// Whether a path is on one: on the innermost mount that it is below.
    fn hold(&self, path: &Path) -> bool {
        let above = self.0.iter().filter(|(mount, _)| path.starts_with(mount));
        above.max_by_key(|(mount, _)| mount.components().count()).is_some_and(|(_, is_disk)| *is_disk)
    }
}
