//! What happens when the agent itself is gone. The test runs itself again as the process that is killed.

use std::io::Read as _;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use infiniservice::commands::process_runner::{Program, ProgramRunner as _, Runner};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::ways::{AGENT, LONG, stop_after};

const ROLE: &str = "INFINISERVICE_TEST_KILLED_AGENT";

/// Waits for a process's end.
pub fn ended(process: impl AsFd) {
    let mut waited = [PollFd::new(&process, PollFlags::IN)];
    let time = Timespec { tv_sec: 10, tv_nsec: 0 };
    assert_eq!(poll(&mut waited, Some(&time)).unwrap(), 1, "the process still runs after 10 s");
}

#[test]
fn what_runs_below_a_supervisor_ends_with_the_agent() {
    if std::env::var_os(ROLE).is_some() {
        be_the_agent();
        return;
    }
    let mut agent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "outside::what_runs_below_a_supervisor_ends_with_the_agent", "--nocapture"])
        .env(ROLE, "1")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut pid = [0; 16];
    // The program says its number on the agent's standard error.
    let length = agent.stderr.as_mut().unwrap().read(&mut pid).unwrap();
    let pid = String::from_utf8_lossy(&pid[..length]).trim().parse().unwrap();
    let program = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();
    ended(&program);
}

fn be_the_agent() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let line = format!("echo $$ > /proc/{}/fd/2; exec setsid sleep 999", std::process::id());
        let (_order, stop) = stop_after(LONG);
        let finished = Runner::with_supervisors(AGENT).run(Program::new("/bin/sh", ["-c", &line]), stop).await;
        panic!("it ended by itself: {finished:?}");
    });
}
