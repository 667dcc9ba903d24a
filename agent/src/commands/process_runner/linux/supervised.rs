//! A program below a supervisor: the agent's side. [`super::supervisor`] is the other.

use std::fs::File;
use std::io;
use std::io::{Seek as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::super::{Ending, Usage};
use super::child::SCRIPT_DESCRIPTOR;
use super::launch::{Launch, failure};
use super::streams::ProgramEnds;
use super::tree::Ended;

/// The first argument that makes the agent's binary a supervisor. The numbers of the descriptors that are meant for it follow.
pub(super) const SUPERVISE: &str = "__supervise";

/// The agent orders: ask all of it to end.
pub(super) const TERMINATE: u8 = b'T';
/// The agent orders: kill all of it.
pub(super) const KILL: u8 = b'K';

/// What a supervisor has to say, a line of JSON.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) enum Word {
    /// The program could not be started: its process's report.
    Failed(Vec<u8>),
    /// The program has ended.
    Ended { exit: Option<i32>, signal: Option<i32>, cpu_micros: u64, largest_kib: u64 },
}

/// A supervisor and what is below it. Dropping it makes the supervisor kill all of it.
#[derive(Debug)]
pub(super) struct Supervised {
    supervisor: Child,
    words: Lines<BufReader<UnixStream>>,
}

impl Supervised {
    /// Starts a program. Needs a running Tokio runtime.
    pub(super) fn start(
        binary: &Path,
        launch: &Launch,
        ends: ProgramEnds,
        script: Option<OwnedFd>,
    ) -> io::Result<Self> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let task = anonymous_file(&serde_json::to_vec(launch)?)?;
        let mut inherited = vec![theirs.as_raw_fd(), task.as_raw_fd()];
        inherited.extend(script.as_ref().map(OwnedFd::as_raw_fd));
        let [stdin, stdout, stderr] = ends.into_fds().map(Stdio::from);
        let mut command = Command::new(binary);
        command.arg0("infiniservice").arg(SUPERVISE).args(inherited.iter().map(RawFd::to_string));
        // The agent's own environment is nobody's business. A signal from a terminal is for the agent, which gives the orders.
        command.env_clear().stdin(stdin).stdout(stdout).stderr(stderr).process_group(0);
        // SAFETY: the closure makes system calls and nothing else, on descriptors that stay open until the process has been started.
        unsafe { command.pre_exec(move || inherited.iter().try_for_each(|&number| keep_open(number))) };
        // The kind of such an error would be taken for one of the program's.
        let supervisor = command.spawn().map_err(|error| io::Error::other(format!("its supervisor: {error}")))?;
        Ok(Self { supervisor, words: BufReader::new(UnixStream::from_std(ours)?).lines() })
    }

    pub(super) async fn ended(&mut self) -> io::Result<Ended> {
        if let Some(line) = self.words.next_line().await? {
            return serde_json::from_str::<Word>(&line)?.into_ended();
        }
        // It ends without a word where somebody has killed it.
        let status = self.supervisor.wait().await?;
        match status.signal() {
            Some(signal) => Ok(Ended { ending: Ending::Signal(signal), usage: Usage::default() }),
            None => Err(io::Error::other(format!("its supervisor has ended early, with {status}"))),
        }
    }

    pub(super) fn terminate(&mut self) {
        self.order(TERMINATE);
    }

    pub(super) fn kill(&mut self) {
        self.order(KILL);
    }

    pub(super) async fn gone(&mut self) {
        if let Err(error) = self.supervisor.wait().await {
            tracing::warn!(%error, "a supervisor cannot be waited for");
        }
    }

    fn order(&mut self, order: u8) {
        // A supervisor that hears nothing any more has ended.
        let _ = rustix::io::write(self.words.get_mut().get_ref(), &[order]);
    }
}

impl Word {
    fn into_ended(self) -> io::Result<Ended> {
        match self {
            Self::Failed(report) => {
                Err(failure(&report).unwrap_or_else(|| io::Error::other("its supervisor does not say why")))
            }
            Self::Ended { exit, signal, cpu_micros, largest_kib } => {
                let usage = Usage {
                    cpu_time: Some(Duration::from_micros(cpu_micros)),
                    memory_peak_bytes: Some(largest_kib.saturating_mul(1024)),
                };
                let ending = signal.map_or_else(|| Ending::Exit(exit.unwrap_or(-1)), Ending::Signal);
                Ok(Ended { ending, usage })
            }
        }
    }
}

fn keep_open(number: RawFd) -> io::Result<()> {
    // SAFETY: whoever gives the number keeps the descriptor open.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    Ok(fcntl_setfd(descriptor, FdFlags::empty())?)
}

/// A file that has no name, so that nobody else can open it, and a number above those that a program's descriptors get.
pub(super) fn anonymous_file(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(c"infiniservice", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(fcntl_dupfd_cloexec(file.as_fd(), SCRIPT_DESCRIPTOR + 1)?)
}
