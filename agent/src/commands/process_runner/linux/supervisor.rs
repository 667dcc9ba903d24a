//! The supervisor of one program: a process of the agent's own binary above it, for machines without delegated control groups.
//!
//! It is the subreaper of all that the program starts, so that a daemon which forks twice ends up below it and not below process 1. When
//! the program has ended, when the agent says so, and when the agent is gone, it kills every process below it; it ends last.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, set_child_subreaper, wait};
use rustix::stdio;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};

use super::descendants::descendants;
use super::launch::{Descriptors, Launch, Prepared, Report, Starting, start_alone};
use super::supervised::{KILL, SUPERVISE, TERMINATE, Word};

/// Runs as a supervisor where the command line says so, and gives the exit code.
#[must_use]
pub fn supervise(arguments: &[OsString]) -> Option<u8> {
    let [_, first, numbers @ ..] = arguments else { return None };
    if first != SUPERVISE {
        return None;
    }
    Some(u8::from(run(numbers).is_err()))
}

fn run(numbers: &[OsString]) -> io::Result<()> {
    let mut descriptors = numbers.iter().map(inherited);
    let mut next = || descriptors.next().transpose();
    let (Some(control), Some(task), script) = (next()?, next()?, next()?) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let launch: Launch = serde_json::from_reader(io::BufReader::new(File::from(task)))?;
    set_child_subreaper(Some(getpid()))?;
    let leaves_daemon = launch.leaves_daemon;
    let descriptors = Descriptors { standard: None, script: script.as_ref().map(OwnedFd::as_fd) };
    let Starting { process, report } = start_alone(&Prepared::new(launch)?, descriptors)?;
    let_go_of_standard_streams()?;
    drop(script);
    let control = StdUnixStream::from(control);
    control.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let agent = Some(UnixStream::from_std(control)?);
        Supervisor { agent, main: process, report, leaves_daemon, is_stopping: false, is_killing: false }.run().await
    })
}

/// A descriptor that the agent has left open for this process.
fn inherited(number: &OsString) -> io::Result<OwnedFd> {
    let number = number.to_str().and_then(|text| text.parse().ok()).filter(|&number: &i32| number > 2);
    let number = number.ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: only borrowed to see whether it is open.
    fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) })?;
    // SAFETY: it is open, and this process, which has opened nothing yet that it keeps, knows it by this number alone.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&descriptor, FdFlags::CLOEXEC)?;
    Ok(descriptor)
}

/// They are the program's: while they are open here, the agent would never see their end.
fn let_go_of_standard_streams() -> io::Result<()> {
    let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    stdio::dup2_stdin(&null)?;
    stdio::dup2_stdout(&null)?;
    stdio::dup2_stderr(&null)?;
    Ok(())
}

struct Supervisor {
    /// Until it is gone.
    agent: Option<UnixStream>,
    main: Pid,
    report: Report,
    leaves_daemon: bool,
    /// All of it was asked to end, and the agent says when it has had its time.
    is_stopping: bool,
    is_killing: bool,
}

/// What may happen next.
enum Event {
    ChildEnded,
    Order(u8),
    AgentGone,
}

impl Supervisor {
    async fn run(mut self) -> io::Result<()> {
        let mut child_ended = signal(SignalKind::child())?;
        let mut asked_to_end = signal(SignalKind::terminate())?;
        while self.reap() {
            if self.is_killing {
                signal_each(Signal::KILL);
            }
            let event = tokio::select! {
                _ = child_ended.recv() => Event::ChildEnded,
                _ = asked_to_end.recv() => Event::Order(KILL),
                event = next_order(self.agent.as_ref()) => event,
            };
            self.handle(&event);
        }
        Ok(())
    }

    fn handle(&mut self, event: &Event) {
        match event {
            Event::Order(TERMINATE) => {
                self.is_stopping = true;
                signal_each(Signal::TERM);
            }
            Event::Order(_) => self.is_killing = true,
            // A daemon that is on its way may be the agent itself, started anew.
            Event::AgentGone => {
                self.agent = None;
                self.is_killing |= self.is_stopping || !self.leaves_daemon;
            }
            Event::ChildEnded => {}
        }
    }

    /// Takes note of who has ended. False where nobody is left to wait for.
    fn reap(&mut self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.main => {
                    self.tell_end(status);
                    if self.leaves_daemon && !self.is_stopping && !self.is_killing {
                        return false;
                    }
                    self.is_killing |= !self.is_stopping;
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return true,
                // As the subreaper this process is the parent of each orphan below it: no child, no descendant.
                Err(_) => return false,
            }
        }
    }

    fn tell_end(&self, status: WaitStatus) {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok();
        let cpu = usage.map_or(0, |usage| (usage.user_time() + usage.system_time()).num_microseconds());
        let word = self.report.read().map_or_else(
            || Word::Ended {
                exit: status.exit_status(),
                signal: status.terminating_signal(),
                cpu_micros: u64::try_from(cpu).unwrap_or(0),
                largest_kib: usage.map_or(0, |usage| u64::try_from(usage.max_rss()).unwrap_or(0)),
            },
            Word::Failed,
        );
        if let (Some(agent), Ok(mut line)) = (&self.agent, serde_json::to_vec(&word)) {
            line.push(b'\n');
            // The socket holds this much without waiting; an agent that is gone is noticed elsewhere.
            let _ = rustix::io::write(agent, &line);
        }
    }
}

/// Cancel safe.
async fn next_order(agent: Option<&UnixStream>) -> Event {
    let Some(agent) = agent else { return std::future::pending().await };
    let mut order = [0];
    loop {
        if agent.readable().await.is_err() {
            return Event::AgentGone;
        }
        match agent.try_read(&mut order) {
            Ok(1) => return Event::Order(order[0]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => return Event::AgentGone,
        }
    }
}

/// Who is born while this looks around is found when the next child ends, and the parents of those have just been killed.
fn signal_each(signal: Signal) {
    let proc = Path::new("/proc");
    for process in descendants(proc, getpid()) {
        process.signal(proc, signal);
    }
}
