//! Linux: a control group for each program where systemd has delegated them, elsewhere a supervisor process above each.

mod account;
mod child;
mod descendants;
mod group;
mod groups;
mod launch;
mod signals;
mod streams;
mod supervised;
mod supervisor;
mod tree;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{WaitId, WaitIdOptions, waitid};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use self::groups::{GroupLimits, Groups, NoGroups};
use self::launch::{Descriptors, Launch, Prepared, start_in_group};
use self::streams::Streams;
use self::supervised::{Supervised, anonymous_file};
use self::tree::{Ended, Grouped, Tree};
use super::{Account, Ending, Finished, Program, ProgramRunner, RunningProgram, StartError};
use crate::commands::stop::Stop;

pub use self::launch::SCRIPT_PATH;
pub use self::supervisor::supervise;

/// How many processes and threads a command may have.
const MAX_TASKS: u32 = 512;

/// Starts real programs.
///
/// Where systemd delegates control groups, each program gets one: half of the machine's memory, 512 processes and threads, and an end
/// that nothing in it escapes. Elsewhere a supervisor process is above each program, and half of the memory is the limit of each process
/// alone (`RLIMIT_DATA`, which counts what a process can write and not the address space that some only reserve). Processes are not
/// limited there: `RLIMIT_NPROC` does not bind root, and for others it counts all that the user has elsewhere.
#[derive(Clone, Debug)]
pub struct Runner(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    agent: Account,
    groups: Option<Groups>,
    /// The agent's binary, for supervisors.
    binary: PathBuf,
    /// How many programs are not yet gone with all that they started.
    present: watch::Sender<usize>,
    /// When the agent ends: what had to end by then is killed, whatever grace it was given.
    end: watch::Sender<Option<Instant>>,
}

impl Runner {
    /// Finds out which way this machine offers. Where control groups are delegated this moves the agent into one of its own, so there is
    /// one runner in an agent. Needs a running Tokio runtime.
    #[must_use]
    pub fn new() -> Self {
        let groups = Groups::take_over(Path::new("/proc"), limits()).and_then(|groups| match try_out(&groups) {
            Ok(()) => Ok(groups),
            Err(error) => Err(NoGroups::NoStart(error)),
        });
        match &groups {
            Ok(_) => tracing::info!("each command gets a control group of its own"),
            Err(reason) => tracing::info!(%reason, "each command gets a supervisor process of its own"),
        }
        // Not the path: what is there after an upgrade is another version.
        Self::with(groups.ok(), "/proc/self/exe".into())
    }

    /// Starts each program in a control group of its own below `base`, which holds no process and which nobody else uses. Limits are set
    /// where `base` has the controllers enabled. What leaves a daemon gets a supervisor, for which `binary` is the agent's.
    #[must_use]
    pub fn with_groups(base: impl Into<PathBuf>, binary: impl Into<PathBuf>) -> Self {
        Self::with(Some(Groups::in_folder(base.into(), limits())), binary.into())
    }

    /// Starts each program below a supervisor, for which `binary` is the agent's.
    #[must_use]
    pub fn with_supervisors(binary: impl Into<PathBuf>) -> Self {
        Self::with(None, binary.into())
    }

    fn with(groups: Option<Groups>, binary: PathBuf) -> Self {
        let (present, end) = (watch::Sender::new(0), watch::Sender::new(None));
        Self(Arc::new(Shared { agent: Account::of_the_agent(), groups, binary, present, end }))
    }

    /// Waits until nothing is left of any program that was started. Each kills what is left of it on its own; this gives no order.
    pub async fn drain(&self) {
        // The sender is this value's own, so waiting cannot fail.
        let _ = self.0.present.subscribe().wait_for(|&count| count == 0).await;
    }
}

impl Default for Runner {
    fn default() -> Self {
        Self::new()
    }
}

impl ProgramRunner for Runner {
    fn run(&self, program: Program, stop: Stop) -> RunningProgram {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let path = program.path.clone();
            let finished = async {
                let (leaves_daemon, grace) = (program.leaves_daemon, program.grace);
                let (tree, streams) = shared.start(program)?;
                let presence = Presence::new(&shared);
                let (answer, finished) = oneshot::channel();
                let end = shared.end.subscribe();
                let attendance = Attendance { tree, streams, stop, leaves_daemon, grace, end };
                tokio::spawn(async move {
                    attendance.attend(answer).await;
                    drop(presence);
                });
                // The task answers unless the agent ends.
                finished.await.unwrap_or_else(|_| Err(io::Error::other("the agent ends")))
            };
            finished.await.map_err(|source| StartError { path, source })
        })
    }

    fn end(&self, grace: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.0.end.send_replace(Some(Instant::now() + grace));
        let runner = self.clone();
        Box::pin(async move { runner.drain().await })
    }
}

impl Shared {
    fn start(&self, program: Program) -> io::Result<(Tree, Streams)> {
        let groups = self.groups.as_ref().filter(|_| !program.leaves_daemon);
        let data_limit = groups.is_none().then(half_of_memory);
        let launch = Launch::new(&program, &self.agent, data_limit);
        let prepared = Prepared::new(launch.clone())?;
        let script = program.script.as_deref().map(anonymous_file).transpose()?;
        let (streams, ends) = Streams::open(program.stdin)?;
        let tree = match groups {
            Some(groups) => {
                let script = script.as_ref().map(OwnedFd::as_fd);
                let descriptors = Descriptors { standard: Some(ends.as_fds()), script };
                // The kind of such an error would be taken for one of the program's.
                let group = groups.create().map_err(|error| io::Error::other(format!("its control group: {error}")))?;
                Tree::Group(Grouped::start(group, &prepared, descriptors)?)
            }
            None => Tree::Supervised(Supervised::start(&self.binary, &launch, ends, script)?),
        };
        Ok((tree, streams))
    }
}

/// Counts a program among those that are not gone.
struct Presence(Arc<Shared>);

impl Presence {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.present.send_modify(|count| *count += 1);
        Self(Arc::clone(shared))
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.present.send_modify(|count| *count -= 1);
    }
}

/// What attends a program from its start to the end of the last process that it has started, whoever still waits for the answer.
struct Attendance {
    tree: Tree,
    streams: Streams,
    stop: Stop,
    leaves_daemon: bool,
    grace: Duration,
    end: watch::Receiver<Option<Instant>>,
}

type Answer = oneshot::Sender<io::Result<Finished>>;

impl Attendance {
    async fn attend(mut self, mut answer: Answer) {
        let ended = tokio::select! {
            biased;
            ended = self.streams.alongside(self.tree.ended()) => Some(ended),
            reason = self.stop.reached() => Some(Ok(Ended { ending: Ending::Stopped(reason), usage: self.tree.usage() })),
            () = answer.closed() => None,
        };
        let has_ended = !matches!(ended, None | Some(Ok(Ended { ending: Ending::Stopped(_), .. })));
        if has_ended && !self.leaves_daemon {
            self.tree.kill();
        }
        if let Some(ended) = ended {
            let finished = ended.map(|ended| self.finish(ended));
            // Whoever is not there any more does not need it.
            let _ = answer.send(finished);
        }
        if !has_ended {
            self.stop().await;
        }
        self.streams.alongside(self.tree.gone()).await;
    }

    fn finish(&mut self, ended: Ended) -> Finished {
        let [stdout, stderr] = self.streams.finish();
        Finished { ending: ended.ending, stdout, stderr, usage: ended.usage }
    }

    /// Asks all of it to end, and where it does not, kills it.
    async fn stop(&mut self) {
        self.tree.terminate();
        let is_gone = tokio::select! {
            () = self.streams.alongside(self.tree.gone()) => true,
            () = sleep(self.grace) => false,
            () = reached(&mut self.end) => false,
        };
        if !is_gone {
            self.tree.kill();
        }
    }
}

/// Waits for a moment that somebody may still have to set.
async fn reached(end: &mut watch::Receiver<Option<Instant>>) {
    // Copied before anything is awaited: the borrowed value holds a lock.
    let moment = end.wait_for(Option::is_some).await.map_or(None, |moment| *moment);
    match moment {
        Some(moment) => sleep_until(moment).await,
        // Nobody is left to set it.
        None => std::future::pending().await,
    }
}

/// Starts what ends at once, to see whether kernel and sandbox let a process start inside a group.
fn try_out(groups: &Groups) -> io::Result<()> {
    let group = groups.create()?;
    let no_program = Launch::new(&Program::new("/", [""; 0]), &Account::of_the_agent(), None);
    let starting = start_in_group(&Prepared::new(no_program)?, Descriptors::default(), group.as_fd())?;
    waitid(WaitId::PidFd(starting.process.as_fd()), WaitIdOptions::EXITED)?;
    Ok(())
}

fn limits() -> GroupLimits {
    GroupLimits { memory: half_of_memory(), tasks: MAX_TASKS }
}

/// Half of the machine's memory, in bytes.
fn half_of_memory() -> u64 {
    let memory = rustix::system::sysinfo();
    (memory.totalram as u64).saturating_mul(u64::from(memory.mem_unit)) / 2
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// Groups below a new one of this machine's, or why there are none.
    fn groups(name: &str) -> Result<(Groups, PathBuf), String> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").map_err(|error| error.to_string())?;
        let mount =
            mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|fields| fields[2] == "cgroup2");
        let mount = mount.ok_or("version 2 is not mounted")?[1];
        let base = Path::new(mount).join(format!("infiniservice-unit-test-{name}-{}", std::process::id()));
        std::fs::create_dir(&base).map_err(|error| error.to_string())?;
        Ok((Groups::in_folder(base.clone(), limits()), base))
    }

    #[tokio::test]
    async fn a_group_is_emptied_also_without_the_kill_file() {
        let (groups, base) = match groups("kill") {
            Ok(groups) => groups,
            Err(reason) => return println!("there is no control group here: {reason}"),
        };
        let mut group = groups.create().unwrap();
        // Each one forks and ends, so that whoever is killed one by one is replaced meanwhile.
        let program = Program::new("/bin/sh", ["-c", "f() { (f) & }; f; f; f; exec sleep 999"]);
        let prepared = Prepared::new(Launch::new(&program, &Account::of_the_agent(), None)).unwrap();
        let starting = start_in_group(&prepared, Descriptors::default(), group.as_fd()).unwrap();
        group.kill_singly();
        timeout(Duration::from_secs(20), group.emptied()).await.expect("something is left in the group");
        let status = waitid(WaitId::PidFd(starting.process.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
        assert_eq!(status.terminating_signal(), Some(9), "{status:?}");
        std::fs::remove_dir(base).unwrap();
    }

    #[tokio::test]
    async fn a_machine_is_tried_before_it_is_relied_on() {
        match groups("try") {
            Ok((groups, base)) => {
                try_out(&groups).unwrap();
                std::fs::remove_dir(base).unwrap();
            }
            Err(reason) => println!("there is no control group here: {reason}"),
        }
    }
}
