//! The control group of one command.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::super::Usage;
use super::groups::GroupLimits;
use super::signals::signal_listed;
use crate::descriptor;

/// How often, and how long each time, the end of an emptied group is awaited: the kernel may announce it before all is put away.
const REMOVALS: u32 = 3;
const REMOVAL_TIME: Duration = Duration::from_secs(1);

/// A group, which ends with all that is in it.
#[derive(Debug)]
pub(super) struct Group {
    path: PathBuf,
    folder: OwnedFd,
    /// `cgroup.events`, which becomes ready when it changes.
    events: AsyncFd<OwnedFd>,
    /// Whoever is still in it is to be killed one by one.
    is_killed_singly: bool,
    is_removed: bool,
}

impl Group {
    /// Makes the group and limits it.
    pub(super) fn create(path: PathBuf, limits: Option<GroupLimits>) -> io::Result<Self> {
        fs::create_dir(&path)?;
        let limited = limits.map_or(Ok(()), |limits| limit(&path, limits));
        limited.and_then(|()| Self::open(&path)).inspect_err(|_| drop(fs::remove_dir(&path)))
    }

    fn open(path: &Path) -> io::Result<Self> {
        let open = |path: &Path, flags| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
        let events = open(&path.join("cgroup.events"), OFlags::RDONLY)?;
        let events = descriptor::exceptional(events)?;
        let folder = open(path, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(Self { path: path.to_owned(), folder, events, is_killed_singly: false, is_removed: false })
    }

    /// For a process to be started in it.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// What all that was ever in it has used.
    pub(super) fn usage(&self) -> Usage {
        usage(&self.path)
    }

    /// Whether the kernel has killed it because of its memory limit.
    pub(super) fn ran_out_of_memory(&self) -> bool {
        read_field(&self.path.join("memory.events"), "oom_kill").is_some_and(|count| count > 0)
    }

    /// Asks all processes in it to end.
    pub(super) fn terminate(&self) {
        self.signal_each(Signal::TERM);
    }

    /// Kills all that is in it, at once.
    pub(super) fn kill(&mut self) {
        if write(&self.path, "cgroup.kill", "1").is_err() {
            self.kill_singly();
        }
    }

    /// Before Linux 5.14 they are frozen first: a process that is to freeze can no longer fork. One whose fork was already under way is
    /// found when the group says that it is frozen. What is frozen can be killed, so nothing has to be thawed.
    pub(super) fn kill_singly(&mut self) {
        self.is_killed_singly = true;
        let _ = write(&self.path, "cgroup.freeze", "1");
        self.signal_each(Signal::KILL);
    }

    /// Waits until nothing is left in it, and takes it away. Cancel safe.
    pub(super) async fn emptied(&mut self) {
        if self.is_removed {
            return;
        }
        while self.is_populated() {
            if self.changed().await.is_err() {
                break;
            }
            if self.is_killed_singly {
                self.signal_each(Signal::KILL);
            }
        }
        for _ in 0..REMOVALS {
            match remove(&self.path) {
                Ok(()) => {
                    self.is_removed = true;
                    return;
                }
                Err(error) => tracing::debug!(path = %self.path.display(), %error, "a control group is not gone yet"),
            }
            let _ = timeout(REMOVAL_TIME, self.changed()).await;
        }
        tracing::warn!(path = %self.path.display(), "a control group without processes cannot be removed");
    }

    async fn changed(&self) -> io::Result<()> {
        self.events.ready(Interest::PRIORITY).await?.clear_ready();
        Ok(())
    }

    fn signal_each(&self, signal: Signal) {
        signal_listed(|| processes(&self.path), signal);
    }

    /// Reads the one open file each time: that is what makes it ready again at the next change.
    fn is_populated(&self) -> bool {
        let mut text = [0; 128];
        let length = rustix::io::pread(self.events.get_ref(), &mut text, 0).unwrap_or(0);
        field(&String::from_utf8_lossy(&text[..length]), "populated") == Some(1)
    }
}

/// Where nobody can wait any longer for its end, all that is in it is killed at least.
impl Drop for Group {
    fn drop(&mut self) {
        if !self.is_removed {
            self.kill();
            let _ = remove(&self.path);
        }
    }
}

fn limit(group: &Path, limits: GroupLimits) -> io::Result<()> {
    write(group, "memory.max", &limits.memory.to_string())?;
    // One killed process out of many would leave a half of something.
    write(group, "memory.oom.group", "1")?;
    write(group, "pids.max", &limits.tasks.to_string())?;
    // A command over its limit shall end and not make the machine crawl. A kernel without swap does not have the file.
    let _ = write(group, "memory.swap.max", "0");
    Ok(())
}

fn usage(group: &Path) -> Usage {
    Usage {
        cpu_time: read_field(&group.join("cpu.stat"), "usage_usec").map(Duration::from_micros),
        // Since Linux 5.19.
        memory_peak_bytes: fs::read_to_string(group.join("memory.peak")).ok().and_then(|text| text.trim().parse().ok()),
    }
}

/// Into a file that is there: a control group has its files from the start.
fn write(group: &Path, file: &str, text: &str) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(group.join(file))?.write_all(text.as_bytes())
}

fn read_field(path: &Path, name: &str) -> Option<u64> {
    field(&fs::read_to_string(path).ok()?, name)
}

/// A value in a file of the form `name value`, one a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// The processes in a group and in the groups that those may have made below it.
fn processes(group: &Path) -> Vec<Pid> {
    let own = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let own = own.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?));
    own.chain(below(group).flat_map(|group| processes(&group))).collect()
}

/// Removes a group and those below it, the deepest first.
fn remove(group: &Path) -> io::Result<()> {
    for group in below(group) {
        remove(&group)?;
    }
    fs::remove_dir(group)
}

fn below(group: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_usage_are_in_the_files_that_the_kernel_documents() {
        let folder = tempfile::tempdir().unwrap();
        let path = |file: &str| folder.path().join(file);
        let limits = GroupLimits { memory: 1 << 30, tasks: 512 };
        assert!(limit(folder.path(), limits).is_err(), "a group without controllers was taken for limited");
        // Without swap, as some kernels are.
        for file in ["memory.max", "memory.oom.group", "pids.max"] {
            fs::write(path(file), "").unwrap();
        }
        limit(folder.path(), limits).unwrap();
        let written =
            ["memory.max", "memory.oom.group", "pids.max"].map(|file| fs::read_to_string(path(file)).unwrap());
        assert_eq!(written, ["1073741824", "1", "512"]);

        assert_eq!(usage(folder.path()), Usage::default());
        fs::write(path("cpu.stat"), "usage_usec 1500\nuser_usec 1000\n").unwrap();
        fs::write(path("memory.peak"), "4096\n").unwrap();
        let expected = Usage { cpu_time: Some(Duration::from_micros(1500)), memory_peak_bytes: Some(4096) };
        assert_eq!(usage(folder.path()), expected);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "oom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!((field(text, "oom_kill"), field(text, "oom"), field(text, "max")), (Some(2), Some(3), None));
    }
}
