//! What a new process does before it is the program.
//!
//! It is the copy of a process that may have had other threads, and those are gone with whatever locks they held. So it may only do what
//! signal-safety(7) allows: system calls. It allocates nothing and takes no lock.

use std::ffi::c_int;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::libc;
use nix::sys::signal::SigSet;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::{fs, process, stdio, thread};

use super::launch::{Descriptors, Prepared};

/// The number at which a program finds its script.
pub(super) const SCRIPT_DESCRIPTOR: c_int = 3;

/// What programs take for granted: select(2) knows no more, and some close as many as they may have.
const OPEN_FILES: u64 = 1024;

/// Signals are numbered from 1 to this, those for real time included.
const LAST_SIGNAL: c_int = 64;

/// Of close_range(2).
const CLOSE_RANGE_CLOEXEC: c_int = 4;

/// What may go wrong before a program runs.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Step {
    Program,
    Descriptors,
    Limits,
    Identity,
    WorkingDirectory,
}

impl Step {
    /// What went wrong, where it was not the program itself.
    pub(super) fn said(step: u8) -> Option<&'static str> {
        match step {
            step if step == Self::Descriptors as u8 => Some("its standard input and output"),
            step if step == Self::Limits as u8 => Some("its limits"),
            step if step == Self::Identity as u8 => Some("cannot become that user"),
            step if step == Self::WorkingDirectory as u8 => Some("its working directory"),
            _ => None,
        }
    }
}

/// Becomes the program, or reports through `told` why not, and ends.
pub(super) fn become_program(prepared: &Prepared, descriptors: Descriptors<'_>, told: &OwnedFd) -> ! {
    let (step, errno) = match prepare(prepared, descriptors) {
        Ok(()) => (Step::Program, execute(prepared)),
        Err(failure) => failure,
    };
    let mut report = [step as u8, 0, 0, 0, 0];
    report[1..].copy_from_slice(&errno.raw_os_error().to_ne_bytes());
    // Nobody is left to hear of a failure.
    let _ = rustix::io::write(told, &report);
    // SAFETY: ends the process at once, without running what the copied process has registered for its own end.
    unsafe { libc::_exit(127) }
}

fn prepare(prepared: &Prepared, descriptors: Descriptors<'_>) -> Result<(), (Step, Errno)> {
    let at = |step: Step| move |errno: Errno| (step, errno);
    // It fails only for the leader of a group, and a process this young leads none.
    let _ = process::setsid();
    hand_over(descriptors).map_err(at(Step::Descriptors))?;
    process::umask(Mode::WGRP | Mode::WOTH);
    forget_the_agents_importance();
    limit(prepared).map_err(at(Step::Limits))?;
    change_identity(prepared).map_err(at(Step::Identity))?;
    // As the user that it is now: a directory that is closed to that user stays closed.
    process::chdir(prepared.working_dir.as_c_str()).map_err(at(Step::WorkingDirectory))?;
    default_signals();
    Ok(())
}

fn hand_over(descriptors: Descriptors<'_>) -> Result<(), Errno> {
    if let Some([stdin, stdout, stderr]) = descriptors.standard {
        stdio::dup2_stdin(stdin)?;
        stdio::dup2_stdout(stdout)?;
        stdio::dup2_stderr(stderr)?;
    }
    // All that the agent opens is closed by exec. This is for what it was itself started with; the kernel can do it since 5.11.
    // SAFETY: marks descriptors and touches no memory.
    unsafe { libc::syscall(libc::SYS_close_range, SCRIPT_DESCRIPTOR, c_int::MAX, CLOSE_RANGE_CLOEXEC) };
    let Some(script) = descriptors.script else { return Ok(()) };
    // SAFETY: this process is about to be another program: whatever had that number, nothing here uses it any more.
    match unsafe { libc::dup3(script.as_raw_fd(), SCRIPT_DESCRIPTOR, 0) } {
        SCRIPT_DESCRIPTOR => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::BADF)),
    }
}

/// When memory is short the agent is among the last to go, and what it starts is not. Where this is not allowed the agent was never
/// protected.
fn forget_the_agents_importance() {
    if let Ok(file) = fs::open(c"/proc/self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::io::write(file, b"0");
    }
}

fn limit(prepared: &Prepared) -> Result<(), Errno> {
    let files = getrlimit(Resource::Nofile);
    let soft = files.maximum.map_or(OPEN_FILES, |most| most.min(OPEN_FILES));
    setrlimit(Resource::Nofile, Rlimit { current: Some(soft), ..files })?;
    let Some(bytes) = prepared.data_limit else { return Ok(()) };
    setrlimit(Resource::Data, Rlimit { current: Some(bytes), maximum: Some(bytes) })
}

/// The groups first, for only root may set them.
fn change_identity(prepared: &Prepared) -> Result<(), Errno> {
    let Some((uid, gid, groups)) = &prepared.identity else { return Ok(()) };
    thread::set_thread_groups(groups)?;
    thread::set_thread_res_gid(*gid, *gid, *gid)?;
    thread::set_thread_res_uid(*uid, *uid, *uid)
}

/// exec keeps what is ignored and what is blocked. Set by the system call, for the C library keeps two signals to itself.
fn default_signals() {
    // All zero is SIG_DFL without flags, and this is more than the kernel's `struct sigaction` takes on any machine.
    const DEFAULT: [u64; 8] = [0; 8];
    const SET_BYTES: usize = 8;
    for signal in 1..=LAST_SIGNAL {
        let none = std::ptr::null_mut::<u64>();
        // SAFETY: the action is valid for the call and runs no code of ours. It fails for KILL and STOP, which have no other.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), none, SET_BYTES) };
    }
    let _ = SigSet::empty().thread_set_mask();
}

fn execute(prepared: &Prepared) -> Errno {
    let (path, arguments) = (prepared.path.as_ptr(), prepared.arguments.as_ptr());
    // SAFETY: a path and two lists that end with null, all owned by `prepared`.
    unsafe { libc::execve(path, arguments, prepared.environment.as_ptr()) };
    // Errno is read right behind the call; on success there is nobody here to read it.
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::NOEXEC)
}
