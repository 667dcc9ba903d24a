//! Walking a folder and removing what may go, by directory descriptors: what a user exchanges for a link meanwhile is not followed, and
//! nothing that is mounted inside is entered.

use std::ffi::{CStr, OsStr};
use std::fmt::Display;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use infini_protocol::ErrorCode;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, ResolveFlags, Stat, flock, fstat, ftruncate, openat,
    openat2, statat, unlinkat,
};
use rustix::io::Errno;

use super::places::{Place, Rule, is_named, is_rotated};
use crate::collector::linux::Roots;
use crate::commands::outcome::CommandError;

/// Names in temporary folders that belong to what runs: systemd's PrivateTmp, snap's, the sockets of X, and what mkfs makes.
const KEPT: [&str; 7] =
    ["systemd-private-", "snap-private-tmp", "snap.", ".X11-unix", ".ICE-unix", ".font-unix", "lost+found"];

/// Deeper than this lies nothing that anybody put there on purpose; each level holds a descriptor open.
const DEEPEST: usize = 64;

/// `st_blocks` counts these, whatever the file system's own block is (stat(2)).
const BLOCK: u64 = 512;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What a walk did and saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// What the removed files took on disk.
    pub freed_bytes: u64,
    /// How many files and links were removed.
    pub removed_files: u64,
    /// How many files were emptied.
    pub emptied_files: u64,
    /// What all files took that were seen.
    pub seen_bytes: u64,
    /// How many files were seen.
    pub seen_files: u64,
    pub(super) failures: u64,
    pub(super) first_failure: Option<String>,
}

impl Swept {
    /// Adds another's.
    pub fn add(&mut self, other: Self) {
        self.freed_bytes += other.freed_bytes;
        self.removed_files += other.removed_files;
        self.emptied_files += other.emptied_files;
        self.failures += other.failures;
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }

    /// Counts a failure; the first is kept.
    pub fn complain(&mut self, failure: String) {
        self.failures += 1;
        self.first_failure.get_or_insert(failure);
    }

    /// The first failure, and how many there were.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        let first = self.first_failure.clone()?;
        Some(if self.failures > 1 { format!("{first} (and {} more)", self.failures - 1) } else { first })
    }

    /// What was freed, where nothing failed.
    ///
    /// # Errors
    /// The first failure.
    pub fn into_result(self) -> Result<u64, CommandError> {
        self.error().map_or(Ok(self.freed_bytes), |error| Err(CommandError::new(ErrorCode::CommandFailed, error)))
    }
}

/// A walk.
pub struct Sweep<'a, S: Fn() -> bool> {
    roots: &'a Roots,
    mounted: &'a [PathBuf],
    now: SystemTime,
    must_stop: S,
    swept: Swept,
}

/// What of a folder's entries may go.
#[derive(Clone, Copy)]
enum Fate {
    /// Files that are old enough, where the rule allows their names.
    Old(Rule, Duration),
    /// All of them.
    All,
}

impl<'a, S: Fn() -> bool> Sweep<'a, S> {
    /// A walk at this time that ends early when `must_stop` says so. What is `mounted` is not entered.
    pub fn new(roots: &'a Roots, mounted: &'a [PathBuf], now: SystemTime, must_stop: S) -> Self {
        Self { roots, mounted, now, must_stop, swept: Swept::default() }
    }

    /// What came of it.
    pub fn into_swept(self) -> Swept {
        self.swept
    }

    /// Sweeps a place; one that is not there has nothing to remove.
    pub fn place(&mut self, place: &Place) {
        let path = place.path();
        match self.open(place) {
            Ok(Some(folder)) => self.folder(&folder, &path, Fate::of(place.rule), 0),
            Ok(None) | Err(Errno::NOENT) => {}
            Err(error) => self.fail(&path, error),
        }
    }

    /// Root's part is opened as it is, a user's one name at a time. `None` where the user's part leads through a link or a mount.
    fn open(&self, place: &Place) -> Result<Option<OwnedFd>, Errno> {
        let mut shown = place.trusted.clone();
        let mut folder = openat(CWD, self.roots.file(&place.trusted), FOLDER, Mode::empty())?;
        for name in Path::new(place.below) {
            shown.push(name);
            let device = fstat(&folder)?.st_dev;
            match self.enter(folder.as_fd(), name, &shown, device)? {
                Some(inner) => folder = inner,
                None => return Ok(None),
            }
        }
        Ok(Some(folder))
    }

    /// Opens a folder inside of another; `None` where it is a link, no folder any more, or something is mounted there.
    fn enter(&self, parent: BorrowedFd<'_>, name: &OsStr, shown: &Path, device: u64) -> Result<Option<OwnedFd>, Errno> {
        if self.mounted.iter().any(|mount| mount == shown) {
            return Ok(None);
        }
        let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
        let opened = match openat2(parent, name, FOLDER, Mode::empty(), resolve) {
            // Before Linux 5.6, or a sandbox that does not know it: one name without following says the same but for mounts.
            Err(Errno::NOSYS | Errno::PERM) => openat(parent, name, FOLDER, Mode::empty()),
            opened => opened,
        };
        match opened {
            Ok(folder) if fstat(&folder)?.st_dev == device => Ok(Some(folder)),
            Ok(_) | Err(Errno::LOOP | Errno::NOTDIR | Errno::XDEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn folder(&mut self, folder: &OwnedFd, shown: &Path, fate: Fate, depth: usize) {
        let stat = match fstat(folder) {
            Ok(stat) => stat,
            Err(error) => return self.fail(shown, error),
        };
        let entries = match Dir::read_from(folder) {
            Ok(entries) => entries,
            Err(error) => return self.fail(shown, error),
        };
        for entry in entries {
            if (self.must_stop)() {
                return;
            }
            match entry {
                Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                Ok(entry) => self.entry(folder.as_fd(), entry.file_name(), shown, fate, depth, stat.st_dev),
                Err(error) => return self.fail(shown, error),
            }
        }
    }

    fn entry(&mut self, parent: BorrowedFd<'_>, name: &CStr, shown: &Path, fate: Fate, depth: usize, device: u64) {
        let shown = shown.join(OsStr::from_bytes(name.to_bytes()));
        let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return,
            Err(error) => return self.fail(&shown, error),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.inner(parent, name, &shown, fate, depth, (&stat, device)),
            FileType::RegularFile | FileType::Symlink => self.file(parent, name, &shown, fate, &stat),
            _ if matches!(fate, Fate::All) => self.file(parent, name, &shown, fate, &stat),
            // Sockets and pipes are names that programs wait at; devices are no files.
            _ => {}
        }
    }

    fn inner(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        shown: &Path,
        fate: Fate,
        depth: usize,
        (stat, device): (&Stat, u64),
    ) {
        if fate.keeps(name) || !fate.enters() {
            return;
        }
        if depth == DEEPEST {
            if matches!(fate, Fate::All) {
                self.fail(shown, "it lies too deep and stays");
            }
            return;
        }
        let inside = fate.inside(self.age_of_entry(stat));
        let entered = self.enter(parent, OsStr::from_bytes(name.to_bytes()), shown, device);
        let folder = match entered {
            Ok(Some(folder)) => folder,
            Ok(None) | Err(Errno::NOENT) => return,
            Err(error) => return self.fail(shown, error),
        };
        // Whoever works in a temporary folder can lock it; systemd-tmpfiles leaves such a folder alone too.
        if inside.minds_locks() && flock(&folder, FlockOperation::NonBlockingLockExclusive).is_err() {
            return;
        }
        self.folder(&folder, shown, inside, depth + 1);
        if inside.takes_folders(self.age(stat.st_mtime, stat.st_mtime_nsec)) {
            match unlinkat(parent, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT | Errno::BUSY) => {}
                Err(error) => self.fail(shown, error),
            }
        }
    }

    fn file(&mut self, parent: BorrowedFd<'_>, name: &CStr, shown: &Path, fate: Fate, stat: &Stat) {
        let bytes = (stat.st_blocks as u64).saturating_mul(BLOCK);
        self.swept.seen_files += 1;
        self.swept.seen_bytes += bytes;
        if !fate.takes(name, self.age_of_file(stat), self.age_of_entry(stat)) {
            if fate.empties(stat) {
                self.empty(parent, name, shown, bytes);
            }
            return;
        }
        match unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) => {
                self.swept.removed_files += 1;
                self.swept.freed_bytes += if stat.st_nlink == 1 { bytes } else { 0 };
            }
            Err(Errno::NOENT) => {}
            Err(error) => self.fail(shown, error),
        }
    }

    /// Empties a file where it stands, unless it has another name: it may be no log at all, and only be linked to from here.
    fn empty(&mut self, parent: BorrowedFd<'_>, name: &CStr, shown: &Path, bytes: u64) {
        // Without waiting, for a pipe may have taken its place.
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let emptied = openat(parent, name, flags, Mode::empty()).and_then(|file| {
            if !is_plain(&fstat(&file)?) {
                return Err(Errno::MLINK);
            }
            ftruncate(&file, 0)
        });
        match emptied {
            Ok(()) => {
                self.swept.emptied_files += 1;
                self.swept.freed_bytes += bytes;
            }
            Err(Errno::NOENT) => {}
            Err(Errno::MLINK) => self.fail(shown, "it has another name, so it stays as it is"),
            Err(error) => self.fail(shown, error),
        }
    }

    /// Since it was last read, written, or had its name, owner or links changed.
    fn age_of_file(&self, stat: &Stat) -> Duration {
        let read = self.age(stat.st_atime, stat.st_atime_nsec);
        let written = self.age(stat.st_mtime, stat.st_mtime_nsec);
        read.min(written).min(self.age_of_entry(stat))
    }

    /// Since it was moved here, at the most: moving a file changes this time and no other.
    fn age_of_entry(&self, stat: &Stat) -> Duration {
        self.age(stat.st_ctime, stat.st_ctime_nsec)
    }

    /// What lies in the future is new.
    fn age(&self, seconds: i64, nanoseconds: u64) -> Duration {
        let since = u64::try_from(seconds).map(Duration::from_secs).unwrap_or_default();
        self.now.duration_since(UNIX_EPOCH + since + Duration::from_nanos(nanoseconds)).unwrap_or_default()
    }

    fn fail(&mut self, shown: &Path, error: impl Display) {
        self.swept.complain(format!("{}: {error}", shown.display()));
    }
}

/// A file that has no other name.
fn is_plain(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink == 1
}

impl Fate {
    const fn of(rule: Rule) -> Self {
        match rule {
            Rule::Unused(age) | Rule::RotatedLogs(age) | Rule::Entries(age) => Self::Old(rule, age),
            Rule::Named(_) | Rule::Logs => Self::Old(rule, Duration::ZERO),
            Rule::Nothing => Self::Old(rule, Duration::MAX),
            Rule::Everything => Self::All,
        }
    }

    /// Whether what is inside of folders is meant, too.
    const fn enters(self) -> bool {
        !matches!(self, Self::Old(Rule::Named(_), _))
    }

    /// Whether a file that stays is to be empty.
    fn empties(self, stat: &Stat) -> bool {
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        matches!(self, Self::Old(Rule::Logs, _)) && is_file && stat.st_size > 0
    }

    fn keeps(self, name: &CStr) -> bool {
        let name = name.to_bytes();
        matches!(self, Self::Old(Rule::Unused(_), _)) && KEPT.iter().any(|kept| name.starts_with(kept.as_bytes()))
    }

    /// Of what is inside of a folder: a thrown away one goes as a whole, or not at all.
    fn inside(self, age_of_entry: Duration) -> Self {
        match self {
            Self::Old(Rule::Entries(_), age) if age_of_entry >= age => Self::All,
            Self::Old(Rule::Entries(_), _) => Self::of(Rule::Nothing),
            fate => fate,
        }
    }

    const fn minds_locks(self) -> bool {
        matches!(self, Self::Old(Rule::Unused(_), _))
    }

    fn takes(self, name: &CStr, age_of_file: Duration, age_of_entry: Duration) -> bool {
        match self {
            Self::All => true,
            Self::Old(Rule::Unused(_), age) => age_of_file >= age && !self.keeps(name),
            Self::Old(Rule::RotatedLogs(_), age) => {
                // Reading a log does not make it new: whoever looks through all of them would keep them for ever.
                age_of_entry >= age && name.to_str().is_ok_and(is_rotated)
            }
            Self::Old(Rule::Entries(_), age) => age_of_entry >= age,
            Self::Old(Rule::Named(patterns), _) => {
                name.to_str().is_ok_and(|name| patterns.iter().any(|pattern| is_named(name, pattern)))
            }
            Self::Old(Rule::Logs, _) => name.to_str().is_ok_and(is_rotated),
            Self::Old(Rule::Nothing | Rule::Everything, _) => false,
        }
    }

    /// Whether an empty folder goes too. Reading one changes its time of access, so only the other counts.
    fn takes_folders(self, age: Duration) -> bool {
        match self {
            Self::All => true,
            Self::Old(Rule::Unused(_), least) => age >= least,
            Self::Old(..) => false,
        }
    }
}

#[cfg(test)]
mod tests;
