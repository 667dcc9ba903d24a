//! The one place that starts programs: [`ProgramRunner`], so that tests can put recorded output in its place, and [`Runner`], which
//! starts real ones.

mod output;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub use linux::{Runner, SCRIPT_PATH, supervise};

use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::stop::{Stop, StopReason};

/// A program to be started: never a shell line. Its environment is built from nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The absolute path.
    pub path: PathBuf,
    /// The arguments, without the program's own name.
    pub arguments: Vec<OsString>,
    /// What its environment holds beside `PATH`, `HOME`, `LANG=C.UTF-8` and `USER`.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it runs; absent: `/`.
    pub working_dir: Option<PathBuf>,
    /// As whom it runs; absent: as the agent.
    pub run_as: Option<Account>,
    /// What it reads from standard input.
    pub stdin: Stdin,
    /// The text of an anonymous file that nobody else sees; the program finds it as [`SCRIPT_PATH`].
    pub script: Option<Vec<u8>>,
    /// What it has started by its end is left alone, and no memory limit holds: it starts a daemon that is to stay. Where it has to be
    /// stopped before its end, all of it is killed as ever.
    pub leaves_daemon: bool,
    /// How long it may take to end by itself where it has to: what is left of it then is killed.
    pub grace: Duration,
}

/// For what nobody has said another time of, and for everything at the agent's end.
pub const GRACE: Duration = Duration::from_secs(2);

/// What a program reads from standard input.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Stdin {
    /// Nothing: `/dev/null`.
    #[default]
    Null,
    /// These bytes, and then the end.
    Bytes(Vec<u8>),
}

/// May hold a password, so its bytes are never shown.
impl std::fmt::Debug for Stdin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("Null"),
            Self::Bytes(bytes) => write!(f, "Bytes({} of them)", bytes.len()),
        }
    }
}

/// A user as the kernel knows one, looked up before the program is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The name.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The number of the user's own group.
    pub gid: u32,
    /// All groups.
    pub groups: Vec<u32>,
    /// The home directory.
    pub home: PathBuf,
}

impl Program {
    /// A program with these arguments, nothing on standard input, as the agent.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self {
            path: path.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: Vec::new(),
            working_dir: None,
            run_as: None,
            stdin: Stdin::Null,
            script: None,
            leaves_daemon: false,
            grace: GRACE,
        }
    }

    /// Path and arguments with blanks between them, for people.
    #[must_use]
    pub fn line(&self) -> String {
        let words = std::iter::once(self.path.as_os_str()).chain(self.arguments.iter().map(OsString::as_os_str));
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Ending {
    /// By itself, with this exit code.
    Exit(i32),
    /// By this signal, which the agent did not send.
    Signal(i32),
    /// By its memory limit.
    OutOfMemory,
    /// It still ran when it had to end; what is left of it is killed behind this answer.
    Stopped(StopReason),
}

/// What a program printed on one stream: its head and its tail where it was too much.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Captured {
    /// The text; what was not UTF-8 is replaced. Where the middle is left out, a line in its place says so.
    pub text: String,
    /// How many bytes of the middle are left out.
    pub omitted: u64,
}

/// What a program used, where the system says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Usage {
    /// Processor time of all its processes.
    pub cpu_time: Option<Duration>,
    /// The most memory that it had at once; without a control group, that its largest process had.
    pub memory_peak_bytes: Option<u64>,
}

/// A program that has ended, or had to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Finished {
    /// How.
    pub ending: Ending,
    /// What it printed.
    pub stdout: Captured,
    /// What it printed to standard error.
    pub stderr: Captured,
    /// What it used.
    pub usage: Usage,
}

/// Why a program could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {}: {source}", path.display())]
pub struct StartError {
    /// The program.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// A program at work. Dropping it kills the program and all that it started.
pub type RunningProgram = Pin<Box<dyn Future<Output = Result<Finished, StartError>> + Send>>;

/// Starts programs.
pub trait ProgramRunner: Send + Sync {
    /// Runs a program until it ends or must end.
    fn run(&self, program: Program, stop: Stop) -> RunningProgram;

    /// The agent ends: of what had to end before, whatever is left after `grace` is killed, its own grace notwithstanding. Waits until
    /// nothing of it is left, which is at once where no real program was started.
    fn end(&self, _grace: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }
}
