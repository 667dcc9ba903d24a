//! From a program to a process.

use std::ffi::{CString, OsStr, OsString, c_char, c_int};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;
use rustix::thread::{Gid, Uid};
use serde::{Deserialize, Serialize};

use super::super::{Account, Program};
use super::child;

/// Where programs are looked for.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Where a program finds its [`Program::script`].
pub const SCRIPT_PATH: &str = "/proc/self/fd/3";

/// All that a new process needs to be told, also by one process to another.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Launch {
    path: OsString,
    arguments: Vec<OsString>,
    environment: Vec<OsString>,
    working_dir: OsString,
    identity: Option<Identity>,
    /// How much private writable memory each of its processes may have, in bytes.
    data_limit: Option<u64>,
    /// What it has started stays when it ends.
    pub(super) leaves_daemon: bool,
}

/// Whom a process becomes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Identity {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Launch {
    /// What starts this program, where the agent runs as `agent`, with memory limited to `data_limit` bytes a process.
    pub(super) fn new(program: &Program, agent: &Account, data_limit: Option<u64>) -> Self {
        let identity =
            |account: &Account| Identity { uid: account.uid, gid: account.gid, groups: account.groups.clone() };
        Self {
            path: program.path.clone().into(),
            arguments: program.arguments.clone(),
            environment: environment(program, program.run_as.as_ref().unwrap_or(agent)),
            working_dir: program.working_dir.clone().map_or_else(|| "/".into(), Into::into),
            identity: program.run_as.as_ref().map(identity),
            data_limit: data_limit.filter(|_| !program.leaves_daemon),
            leaves_daemon: program.leaves_daemon,
        }
    }
}

/// The whole environment, from nothing. What the program brings counts more than what every program gets.
fn environment(program: &Program, account: &Account) -> Vec<OsString> {
    let common: [(&str, &OsStr); 4] = [
        ("PATH", PATH.as_ref()),
        ("HOME", account.home.as_os_str()),
        ("USER", account.name.as_ref()),
        ("LANG", "C.UTF-8".as_ref()),
    ];
    let own = &program.environment;
    let line = |name: &OsStr, value: &OsStr| {
        let mut line = name.to_owned();
        line.push("=");
        line.push(value);
        line
    };
    let is_common = |name: &str| !own.iter().any(|(own, _)| own == name);
    let common = common.iter().filter(|(name, _)| is_common(name)).map(|(name, value)| line(name.as_ref(), value));
    common.chain(own.iter().map(|(name, value)| line(name, value))).collect()
}

/// A [`Launch`] in the shape in which the kernel wants it, because the child may allocate nothing.
pub(super) struct Prepared {
    pub(super) path: CString,
    pub(super) arguments: Strings,
    pub(super) environment: Strings,
    pub(super) working_dir: CString,
    pub(super) identity: Option<(Uid, Gid, Vec<Gid>)>,
    pub(super) data_limit: Option<u64>,
}

impl Prepared {
    /// # Errors
    /// Where a text holds a NUL.
    pub(super) fn new(launch: Launch) -> io::Result<Self> {
        let mut arguments = vec![launch.path.clone()];
        arguments.extend(launch.arguments);
        Ok(Self {
            path: CString::new(launch.path.into_vec())?,
            arguments: Strings::new(arguments)?,
            environment: Strings::new(launch.environment)?,
            working_dir: CString::new(launch.working_dir.as_bytes())?,
            identity: launch.identity.map(|identity| {
                let groups = identity.groups.into_iter().map(Gid::from_raw).collect();
                (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid), groups)
            }),
            data_limit: launch.data_limit,
        })
    }
}

/// A list of strings as execve(2) takes it.
pub(super) struct Strings {
    pointers: Vec<*const c_char>,
    _owned: Vec<CString>,
}

// SAFETY: the pointers point into what the same value owns and never changes.
unsafe impl Send for Strings {}

impl Strings {
    fn new(strings: Vec<OsString>) -> io::Result<Self> {
        let owned = strings.into_iter().map(|text| CString::new(text.into_vec())).collect::<Result<Vec<_>, _>>()?;
        let pointers = owned.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
        Ok(Self { pointers, _owned: owned })
    }

    /// The strings' addresses, and a null at the end.
    pub(super) fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

/// The descriptors that a new process gets; it keeps none but these.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Descriptors<'a> {
    /// Its standard input, output and error; absent: those of its parent.
    pub(super) standard: Option<[BorrowedFd<'a>; 3]>,
    /// What it finds at [`SCRIPT_PATH`].
    pub(super) script: Option<BorrowedFd<'a>>,
}

/// A process whose start is under way.
pub(super) struct Starting<Handle> {
    /// The process.
    pub(super) process: Handle,
    /// Says why the program could not be started, where it could not.
    pub(super) report: Report,
}

/// How a new process reports why it does not become the program.
#[derive(Debug)]
pub(super) struct Report(OwnedFd);

impl Report {
    /// What it reported, to be asked when it has ended: for [`failure`].
    pub(super) fn read(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 8];
        let length = rustix::io::read(&self.0, &mut bytes).ok()?;
        bytes.truncate(length);
        (length > 0).then_some(bytes)
    }
}

/// Why a program could not be started, as its process reported it.
pub(super) fn failure(report: &[u8]) -> Option<io::Error> {
    let (step, errno) = report.split_first()?;
    let errno = i32::from_ne_bytes(errno.try_into().ok()?);
    let source = io::Error::from_raw_os_error(errno);
    Some(match child::Step::said(*step) {
        Some(what) => io::Error::new(source.kind(), format!("{what}: {source}")),
        None => source,
    })
}

/// Starts a process inside a control group. It is never outside of it, and unlike a move into a group, which waits until all processors
/// have passed a quiet state, this costs nothing. Needs Linux 5.7.
pub(super) fn start_in_group(
    prepared: &Prepared,
    descriptors: Descriptors<'_>,
    group: BorrowedFd<'_>,
) -> io::Result<Starting<OwnedFd>> {
    let mut pidfd: c_int = -1;
    let mut arguments = CloneArguments {
        flags: CLONE_PIDFD | CLONE_INTO_CGROUP,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: u64::try_from(group.as_raw_fd()).unwrap_or(u64::MAX),
        ..CloneArguments::default()
    };
    let size = size_of::<CloneArguments>();
    // SAFETY: the arguments are valid for the call, and without CLONE_VM and a stack of its own this is a fork: the child goes on with a
    // copy of this stack, where `start` lets it do only what a child of a process with threads may.
    let clone = || unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size) };
    let (_, report) = start(prepared, descriptors, clone)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else has it.
    let process = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Starting { process, report })
}

/// Starts a process.
pub(super) fn start_alone(prepared: &Prepared, descriptors: Descriptors<'_>) -> io::Result<Starting<Pid>> {
    // SAFETY: `start` lets the child do only what a child of a process with threads may.
    let fork = || libc::c_long::from(unsafe { libc::fork() });
    let (pid, report) = start(prepared, descriptors, fork)?;
    let process = Pid::from_raw(pid).ok_or_else(|| io::Error::other("a process without a number"))?;
    Ok(Starting { process, report })
}

fn start(
    prepared: &Prepared,
    descriptors: Descriptors<'_>,
    fork: impl FnOnce() -> libc::c_long,
) -> io::Result<(i32, Report)> {
    let (report, told) = report_pipe()?;
    // A signal that reached the child before it has its own dispositions would run the agent's handlers in it.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let forked = fork();
    let error = io::Error::last_os_error();
    if forked == 0 {
        child::become_program(prepared, descriptors, &told);
    }
    before.thread_set_mask()?;
    match i32::try_from(forked) {
        Ok(pid) if pid > 0 => Ok((pid, Report(report))),
        _ => Err(error),
    }
}

/// Both ends are closed by exec, and reading never waits. The child's is above the numbers that it will give to others.
fn report_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (report, told) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let told = rustix::io::fcntl_dupfd_cloexec(&told, child::SCRIPT_DESCRIPTOR + 1)?;
    Ok((report, told))
}

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` of clone3(2).
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_built_from_nothing_and_the_programs_own_word_counts() {
        let mut program = Program::new("/bin/true", ["x"]);
        program.environment = vec![("LANG".into(), "de".into()), ("A".into(), "=b".into())];
        program.run_as =
            Some(Account { name: "anna".to_owned(), uid: 7, gid: 8, groups: vec![8, 9], home: "/home/anna".into() });
        let launch = Launch::new(&program, &Account::of_the_agent(), None);
        let path = format!("PATH={PATH}");
        assert_eq!(launch.environment, [path.as_str(), "HOME=/home/anna", "USER=anna", "LANG=de", "A==b"]);
        let sent = serde_json::to_vec(&launch).unwrap();
        assert_eq!(serde_json::from_slice::<Launch>(&sent).unwrap(), launch);
    }

    #[test]
    fn a_nul_is_refused_before_anything_starts() {
        let program = Program::new("/bin/echo", ["a\0b"]);
        assert!(Prepared::new(Launch::new(&program, &Account::of_the_agent(), None)).is_err());
    }
}
