//! Ending a process on Linux.

use std::fs;
use std::io;
use std::path::Path;

use infini_protocol::ErrorCode;
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::{Value, json};

use crate::commands::outcome::CommandError;
use crate::commands::policy::{Judge, process_facts};
use crate::commands::validation::Pid;

/// What the policy must know of a process before it is touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessFacts {
    /// The kernel's name for it.
    pub name: String,
    /// It belongs to the kernel.
    pub is_kernel_thread: bool,
    /// When it began, in the kernel's ticks since boot: another process under the same number began later.
    pub started: Option<u64>,
}

/// `PF_KTHREAD` of the kernel's sched.h, in the flags of `/proc/PID/stat`.
const PF_KTHREAD: u64 = 0x0020_0000;

/// What the process is; `None` where there is none of that number.
///
/// # Errors
/// Where its `stat` is there and cannot be read.
pub fn facts(proc: &Path, pid: Pid) -> io::Result<Option<ProcessFacts>> {
    let stat = match fs::read_to_string(proc.join(pid.get().to_string()).join("stat")) {
        Ok(stat) => stat,
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_gone(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    // The name stands in parentheses and may hold some itself.
    let parsed = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).and_then(|(name, rest)| {
        // After the name, fields 3 and on of proc_pid_stat(5): flags is the 9th, starttime the 22nd.
        let mut fields = rest.split_whitespace();
        let flags: u64 = fields.nth(6)?.parse().ok()?;
        let started = fields.nth(12).and_then(|ticks| ticks.parse().ok());
        Some(ProcessFacts { name: name.to_owned(), is_kernel_thread: flags & PF_KTHREAD != 0, started })
    });
    parsed.map(Some).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "stat is not what it should be"))
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

/// Sends the signal that ends a process: SIGTERM, or SIGKILL by force. `data` of `ProcessKill`.
///
/// # Errors
/// `PROCESS_NOT_FOUND`, `PERMISSION_DENIED`, or `COMMAND_FAILED` with what the kernel says.
pub fn kill(proc: &Path, pid: Pid, force: bool, judge: &Judge) -> Result<Value, CommandError> {
    let not_found = || CommandError::new(ErrorCode::ProcessNotFound, format!("there is no process {}", pid.get()));
    let refused = |error: Errno| match error {
        Errno::SRCH => not_found(),
        Errno::PERM => {
            let sentence = format!("the agent may not send signals to process {}", pid.get());
            CommandError::new(ErrorCode::PermissionDenied, sentence)
        }
        error => CommandError::failed(format!("process {} could not be told to end: {error}", pid.get())),
    };
    let raw = rustix::process::Pid::from_raw(pid.get()).ok_or_else(not_found)?;
    // Held from before it is looked at: the command may have waited in the queue, and what has the number by now, and what it runs, is
    // judged anew. The signal reaches the process that was judged, or none.
    let handle = pidfd_open(raw, PidfdFlags::empty()).map_err(refused)?;
    let facts = process_facts(proc, pid).ok_or_else(not_found)?;
    let name = facts.name.clone();
    judge.process(pid, facts)?;
    let (signal, signal_name) = if force { (Signal::KILL, "SIGKILL") } else { (Signal::TERM, "SIGTERM") };
    pidfd_send_signal(&handle, signal).map_err(refused)?;
    Ok(json!({ "pid": pid.get(), "name": name, "signal": signal_name }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Child, Command};

    use super::*;
    use crate::commands::testing::assert_golden;

    fn sleeper() -> (Child, Pid) {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::try_from(i64::from(child.id())).unwrap();
        // Whoever started it goes on a little before the kernel has given it its new name.
        while fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap() != "sleep\n" {
            std::thread::yield_now();
        }
        (child, pid)
    }

    #[test]
    fn a_process_is_asked_to_end_or_made_to() {
        for (force, signal) in [(false, "SIGTERM"), (true, "SIGKILL")] {
            let (mut child, pid) = sleeper();
            let mut data = kill(Path::new("/proc"), pid, force, &Judge::lenient()).unwrap();
            assert_eq!((&data["signal"], &data["pid"]), (&json!(signal), &json!(pid.get())), "{data}");
            if !force {
                data["pid"] = 4242.into();
                assert_golden("ProcessKill", &data);
            }
            let number = if force { 9 } else { 15 };
            assert_eq!(child.wait().unwrap().signal(), Some(number));
        }
    }

    #[test]
    fn who_is_not_there_cannot_end() {
        let (mut child, pid) = sleeper();
        child.kill().unwrap();
        child.wait().unwrap();
        let error = kill(Path::new("/proc"), pid, true, &Judge::lenient()).unwrap_err();
        assert_eq!(error.code, ErrorCode::ProcessNotFound);
        assert_eq!(facts(Path::new("/proc"), pid).unwrap(), None);
    }

    #[test]
    fn names_may_hold_parentheses_and_kernel_threads_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let whole = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 2 0 0 4 1 0 0 20 0 1 0 987 8192 3";
        for (pid, stat) in [(7, whole), (2, "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0")] {
            fs::create_dir(folder.path().join(pid.to_string())).unwrap();
            fs::write(folder.path().join(format!("{pid}/stat")), stat).unwrap();
        }
        let facts = |pid| facts(folder.path(), Pid::try_from(pid).unwrap()).unwrap().unwrap();
        assert_eq!(facts(7), ProcessFacts { name: "a) b (c)".to_owned(), is_kernel_thread: false, started: Some(987) });
        assert_eq!(facts(2), ProcessFacts { name: "kthreadd".to_owned(), is_kernel_thread: true, started: None });
    }
}
