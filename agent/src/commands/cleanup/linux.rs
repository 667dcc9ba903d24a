//! Cleaning a Linux machine: which folders, by which rules, and which programs help.

mod places;
mod sweep;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use infini_protocol::ErrorCode;

pub use places::{Home, Place, Rule, homes, places};
pub use sweep::{Sweep, Swept};

use super::{Cleaned, CleanedTarget, CleanupTarget, Step};
use crate::collector::linux::{Roots, mount_points};
use crate::commands::action::Context;
use crate::commands::outcome::CommandError;
use crate::commands::process_runner::Ending;
use crate::commands::tools;

/// Journals of a week stay, as rotated logs do.
const JOURNAL_TIME: &str = "7d";

/// The package managers that keep what they download: the program, how it is told to drop that, and where it lies.
pub const PACKAGE_CACHES: [(&str, &[&str], &str); 6] = [
    ("apt-get", &["clean"], "/var/cache/apt"),
    ("dnf", &["clean", "packages"], "/var/cache/dnf"),
    ("yum", &["clean", "packages"], "/var/cache/yum"),
    ("zypper", &["--non-interactive", "clean"], "/var/cache/zypp"),
    ("pacman", &["-Sc", "--noconfirm"], "/var/cache/pacman/pkg"),
    ("apk", &["cache", "clean"], "/var/cache/apk"),
];

/// Where the journal of more than this boot is.
pub const JOURNAL: &str = "/var/log/journal";

/// Removes what the targets say, on one file system or on all.
///
/// # Errors
/// Where `drive` is no mount point, or the command has to end.
pub async fn clean(
    context: &Context,
    drive: Option<PathBuf>,
    targets: &[CleanupTarget],
) -> Result<Cleaned, CommandError> {
    let drives = Drives::read(&context.roots, drive)?;
    let mut cleaned = Cleaned { freed_bytes: 0, removed_files: 0, targets: Vec::with_capacity(targets.len()) };
    for &target in targets {
        let swept = clean_target(context, &drives, target).await?;
        cleaned.freed_bytes += swept.freed_bytes;
        cleaned.removed_files += swept.removed_files;
        cleaned.targets.push(CleanedTarget { name: target, freed_bytes: swept.freed_bytes, error: swept.error() });
    }
    Ok(cleaned)
}

async fn clean_target(context: &Context, drives: &Drives, target: CleanupTarget) -> Result<Swept, CommandError> {
    let at = drives.clone();
    let places = move |context: &Context| {
        Ok(places(&context.roots, target).into_iter().filter(|p| at.hold(&p.path())).collect())
    };
    let places: Vec<Place> = context.blocking(places).await?;
    let mut swept = sweep(context, drives, places).await?;
    match target {
        CleanupTarget::Logs => vacuum_if_there(context, drives, &mut swept).await?,
        CleanupTarget::Packages => {
            for (program, arguments, folder) in PACKAGE_CACHES {
                if tools::installed(&context.roots, program).is_some() && drives.hold(Path::new(folder)) {
                    swept.add(measured(context, drives, folder, program, arguments).await?);
                }
            }
        }
        _ => {}
    }
    Ok(swept)
}

async fn vacuum_if_there(context: &Context, drives: &Drives, swept: &mut Swept) -> Result<(), CommandError> {
    let has_journal = context.roots.file(JOURNAL).is_dir() && tools::installed(&context.roots, "journalctl").is_some();
    if has_journal && drives.hold(Path::new(JOURNAL)) {
        swept.add(vacuum(context, drives, JOURNAL_TIME).await?);
    }
    Ok(())
}

/// Has journald drop what is older than, say, `7d`.
async fn vacuum(context: &Context, drives: &Drives, older_than: &str) -> Result<Swept, CommandError> {
    let time = format!("--vacuum-time={older_than}");
    measured(context, drives, JOURNAL, "journalctl", &["--rotate", &time]).await
}

/// The same by itself, with what it freed in bytes.
///
/// # Errors
/// Where journalctl complains or is not there.
pub async fn vacuum_journal(context: &Context, older_than: &str) -> Result<u64, CommandError> {
    vacuum(context, &Drives::read(&context.roots, None)?, older_than).await?.into_result()
}

/// Walks places of the whole machine. What is mounted inside of them is not entered, and what stands in `left` neither.
///
/// # Errors
/// Where the list of mounts cannot be read, or the command has to end.
pub async fn sweep_places(context: &Context, places: Vec<Place>, left: &[&str]) -> Result<Swept, CommandError> {
    let mut drives = Drives::read(&context.roots, None)?;
    Arc::make_mut(&mut drives.mounted).extend(left.iter().map(PathBuf::from));
    sweep(context, &drives, places).await
}

/// Has the package managers drop what they downloaded; gives what that freed in bytes.
///
/// # Errors
/// Where one complains.
pub async fn clean_package_caches(context: &Context) -> Result<u64, CommandError> {
    clean_target(context, &Drives::read(&context.roots, None)?, CleanupTarget::Packages).await?.into_result()
}

/// Runs a program that removes files itself, and measures what it removed. Its complaint is the target's error, not the command's.
async fn measured(
    context: &Context,
    drives: &Drives,
    folder: &'static str,
    program: &str,
    arguments: &[&str],
) -> Result<Swept, CommandError> {
    let (before, files) = usage(context, drives, folder).await?;
    let result = tools::output(context, program, arguments).await;
    let (after, left) = usage(context, drives, folder).await?;
    let mut swept = Swept {
        freed_bytes: before.saturating_sub(after),
        removed_files: files.saturating_sub(left),
        ..Swept::default()
    };
    match result {
        Ok(_) => Ok(swept),
        Err(error) if error.code == ErrorCode::CommandFailed => {
            swept.complain(error.sentence);
            Ok(swept)
        }
        Err(stopped) => Err(stopped),
    }
}

/// What the files below a folder take on disk, in bytes.
///
/// # Errors
/// Where the list of mounts cannot be read, or the command has to end.
pub async fn usage_of(context: &Context, folder: &'static str) -> Result<u64, CommandError> {
    Ok(usage(context, &Drives::read(&context.roots, None)?, folder).await?.0)
}

/// What the files below a folder take, and how many there are.
async fn usage(context: &Context, drives: &Drives, folder: &'static str) -> Result<(u64, u64), CommandError> {
    let measured = sweep(context, drives, vec![Place::measuring(folder)]).await?;
    Ok((measured.seen_bytes, measured.seen_files))
}

/// Walks the places on a thread that stops when nobody waits for it any more.
async fn sweep(context: &Context, drives: &Drives, places: Vec<Place>) -> Result<Swept, CommandError> {
    let mounted = Arc::clone(&drives.mounted);
    let (_guard, stop) = StopWhenDropped::new();
    let work = move |context: &Context| {
        let deadline = context.stop.deadline().into_std();
        let mut sweep = Sweep::new(&context.roots, &mounted, SystemTime::now(), || {
            stop.load(Ordering::Relaxed) || std::time::Instant::now() >= deadline
        });
        for place in &places {
            sweep.place(place);
        }
        Ok(sweep.into_swept())
    };
    context.blocking(work).await
}

/// Tells a thread that its command is over, however that came.
struct StopWhenDropped(Arc<AtomicBool>);

impl StopWhenDropped {
    fn new() -> (Self, Arc<AtomicBool>) {
        let flag = Arc::new(AtomicBool::new(false));
        (Self(Arc::clone(&flag)), flag)
    }
}

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The file systems of the machine, and the one that is meant.
#[derive(Clone)]
struct Drives {
    mounted: Arc<Vec<PathBuf>>,
    only: Option<PathBuf>,
}

impl Drives {
    fn read(roots: &Roots, only: Option<PathBuf>) -> Result<Self, CommandError> {
        let path = roots.proc.join("self/mountinfo");
        let mountinfo =
            fs::read(&path).map_err(|error| CommandError::failed(format!("{}: {error}", path.display())))?;
        let mounted = mount_points(&mountinfo);
        match only.as_ref().filter(|only| !mounted.contains(only)) {
            None => Ok(Self { mounted: Arc::new(mounted), only }),
            Some(only) => {
                let sentence = format!("{} is no mount point; `CheckDiskSpace` lists them", only.display());
                Err(CommandError::new(ErrorCode::InvalidParameters, sentence))
            }
        }
    }

    /// Whether a path is on the file system that is meant: the innermost one that it is below.
    fn hold(&self, path: &Path) -> bool {
        let above = self.mounted.iter().filter(|mount| path.starts_with(mount));
        let innermost = above.max_by_key(|mount| mount.components().count());
        self.only.as_ref().is_none_or(|only| innermost == Some(only))
    }
}

/// Tells the disks below all file systems which blocks nobody uses.
///
/// # Errors
/// Where fstrim or the list of file systems is not there, or the command has to end.
pub async fn trim(context: &Context) -> Result<Vec<Step>, CommandError> {
    if tools::installed(&context.roots, "fstrim").is_none() {
        return Err(CommandError::failed("fstrim is not installed; it is part of util-linux"));
    }
    let usage = context.blocking(|context| Ok((context.collector)().collect_disk_usage()?.entries)).await?;
    let mut steps = Vec::with_capacity(usage.len());
    // One by one: busybox's fstrim has no option for all.
    for on_device in
        usage.iter().filter(|usage| usage.device.as_ref().is_some_and(|device| device.starts_with("/dev/")))
    {
        let mount_point = on_device.mount_point.to_string();
        let finished = tools::run(context, "fstrim", ["-v", &mount_point]).await?;
        let is_unsupported = finished.stderr.text.contains("not supported");
        let message = tools::last_line(&finished.stdout.text).unwrap_or("done").to_owned();
        let result = match finished.ending {
            Ending::Exit(0) => Ok(message),
            _ if is_unsupported => Ok(format!("{mount_point}: its device takes no discards; nothing to do")),
            _ => Err(tools::complaint("fstrim", &finished)),
        };
        steps.push(Step::new(format!("fstrim {mount_point}"), result));
    }
    Ok(steps)
}
