//! Signals to processes of which only the number is known.
//!
//! A number passes to a stranger when its process has been reaped, and a root process may signal any stranger. So a process is held
//! first, looked at again, and signalled by what holds it: what was looked at gets the signal, or nobody.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

/// How many processes of a list are held at once: far fewer than the files that the agent may have open.
const HELD: usize = 64;

/// What leads to a process.
enum Handle {
    /// To this one and no other.
    Process(OwnedFd),
    /// The kernel holds none (before Linux 5.3), or no file can be opened: whoever has the number.
    Number(Pid),
}

impl Handle {
    /// `None` where nobody has the number.
    fn hold(pid: Pid) -> Option<Self> {
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => Some(Self::Process(process)),
            Err(Errno::SRCH) => None,
            Err(_) => Some(Self::Number(pid)),
        }
    }

    fn signal(&self, signal: Signal) {
        // It may have ended by itself.
        let _ = match self {
            Self::Process(process) => pidfd_send_signal(process, signal),
            Self::Number(pid) => kill_process(*pid, signal),
        };
    }
}

/// Signals a process where, once it is held, it still is the one that is meant.
pub(super) fn signal_if(pid: Pid, signal: Signal, is_meant: impl FnOnce() -> bool) {
    if let Some(handle) = Handle::hold(pid)
        && is_meant()
    {
        handle.signal(signal);
    }
}

/// Signals each process of a list that is still on it once it is held.
pub(super) fn signal_listed(list: impl Fn() -> Vec<Pid>, signal: Signal) {
    for some in list().chunks(HELD) {
        let held: Vec<(Pid, Handle)> = some.iter().filter_map(|&pid| Some((pid, Handle::hold(pid)?))).collect();
        let listed = list();
        for (_, handle) in held.iter().filter(|(pid, _)| listed.contains(pid)) {
            handle.signal(signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Child, Command};

    use super::*;

    fn sleeper() -> (Child, Pid) {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_child(&child);
        (child, pid)
    }

    /// Ends it, where nothing did before.
    fn ended_by(mut child: Child) -> Option<i32> {
        child.kill().unwrap();
        child.wait().unwrap().signal()
    }

    #[test]
    fn a_stranger_under_a_known_number_gets_no_signal() {
        let (stranger, pid) = sleeper();
        signal_if(pid, Signal::TERM, || false);
        assert_eq!(ended_by(stranger), Some(9));
        let (meant, pid) = sleeper();
        signal_if(pid, Signal::TERM, || true);
        assert_eq!(ended_by(meant), Some(15));
    }

    #[test]
    fn who_has_left_the_list_meanwhile_gets_no_signal() {
        let [(left, gone), (stayed, there)] = [sleeper(), sleeper()];
        let looks = Cell::new(0);
        let list = || {
            looks.set(looks.get() + 1);
            if looks.get() == 1 { vec![gone, there] } else { vec![there] }
        };
        signal_listed(list, Signal::TERM);
        assert_eq!((ended_by(left), ended_by(stayed)), (Some(9), Some(15)));
    }

    #[test]
    fn every_process_of_a_long_list_is_reached_and_none_stays_held() {
        let sleepers: Vec<(Child, Pid)> = (0..HELD + 3).map(|_| sleeper()).collect();
        signal_listed(|| sleepers.iter().map(|(_, pid)| *pid).collect(), Signal::TERM);
        let endings: Vec<Option<i32>> = sleepers.into_iter().map(|(child, _)| ended_by(child)).collect();
        assert_eq!(endings, vec![Some(15); HELD + 3]);
    }
}
