//! What the agent's process itself is left with, and what is left when it is killed. The tests run themselves again as that process.

use std::io::Read as _;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use infiniservice::commands::process_runner::{Program, ProgramRunner as _, Runner};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::ways::{AGENT, LONG, new_base, stop_after, ways};

const ROLE: &str = "INFINISERVICE_TEST_AGENT";

/// Runs the test of that name again, in the role of the agent.
fn again(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("outside::{test}"), "--nocapture"]).env(ROLE, "1");
    command
}

fn is_the_agent() -> bool {
    std::env::var_os(ROLE).is_some()
}

/// Waits for a process's end.
pub fn ended(process: impl AsFd) {
    let mut waited = [PollFd::new(&process, PollFlags::IN)];
    let time = Timespec { tv_sec: 10, tv_nsec: 0 };
    assert_eq!(poll(&mut waited, Some(&time)).unwrap(), 1, "the process still runs after 10 s");
}

#[test]
fn what_runs_below_a_supervisor_ends_with_the_agent() {
    if is_the_agent() {
        be_killed();
        return;
    }
    let mut agent = again("what_runs_below_a_supervisor_ends_with_the_agent")
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut pid = [0; 16];
    // The program says its number on the agent's standard error.
    let length = agent.stderr.as_mut().unwrap().read(&mut pid).unwrap();
    let pid = String::from_utf8_lossy(&pid[..length]);
    let pid = pid.trim().parse().unwrap_or_else(|error| panic!("{error}: {pid:?}"));
    let program = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();
    ended(&program);
}

fn be_killed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // In the background, where setsid is no leader of a group and becomes the program itself.
        let line = format!("setsid sleep 999 & echo $! > /proc/{}/fd/2; wait", std::process::id());
        let (_order, stop) = stop_after(LONG);
        let finished = Runner::with_supervisors(AGENT).run(Program::new("/bin/sh", ["-c", &line]), stop).await;
        panic!("it ended by itself: {finished:?}");
    });
}

#[test]
fn hundreds_of_programs_leave_no_descriptor() {
    if is_the_agent() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run_hundreds());
        return;
    }
    let output = again("hundreds_of_programs_leave_no_descriptor").output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    println!("{said}");
    assert!(output.status.success(), "{said}");
}

async fn run_hundreds() {
    const COUNT: u32 = 300;
    for way in ways() {
        // The first one opens what stays open for all.
        way.run(way.program("/bin/true", &[])).await;
        way.runner.drain().await;
        let before = open_descriptors();
        let start = std::time::Instant::now();
        for _ in 0..COUNT {
            way.run(way.program("/bin/true", &[])).await;
        }
        let each = start.elapsed() / COUNT;
        way.runner.drain().await;
        let after = open_descriptors();
        println!("{}: {each:?} each, {} descriptors before, {} after", way.name, before.len(), after.len());
        assert_eq!(before, after, "{}", way.name);
    }
}

fn open_descriptors() -> Vec<std::path::PathBuf> {
    let mut open: Vec<_> = std::fs::read_dir("/proc/self/fd").unwrap().flatten().map(|entry| entry.path()).collect();
    open.sort();
    open
}

/// As systemd does it. Whether commands then get groups depends on the machine's controllers; without them the agent stays where it is.
#[test]
fn a_delegated_group_is_taken_over_where_it_can_limit() {
    if is_the_agent() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(be_delegated());
        return;
    }
    let base = match new_base() {
        Ok(base) => base,
        Err(reason) => return println!("there is no control group here: {reason}"),
    };
    std::fs::write(base.join("cgroup.subtree_control"), "-memory -pids").unwrap_or_default();
    rustix::fs::setxattr(&base, "trusted.delegate", b"1", rustix::fs::XattrFlags::empty()).unwrap();
    let controllers = std::fs::read_to_string(base.join("cgroup.controllers")).unwrap();
    let can_limit = ["memory", "pids"].iter().all(|name| controllers.contains(name));
    let output = again("a_delegated_group_is_taken_over_where_it_can_limit").env("BASE", &base).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}");
    assert!(output.status.success(), "{said}");
    let name = base.file_name().unwrap().to_string_lossy().into_owned();
    let (agent, command) = if can_limit { ("/agent", "/cmd-2") } else { ("", "") };
    assert!(said.contains(&format!("agent in 0::/{name}{agent}\n")), "{controllers}: {said}");
    assert!(said.contains(&format!("command in 0::/{name}{command}\n")), "{controllers}: {said}");
    let _ = std::fs::remove_dir(base.join("agent"));
    std::fs::remove_dir(base).unwrap();
}

async fn be_delegated() {
    let base = std::path::PathBuf::from(std::env::var_os("BASE").unwrap());
    std::fs::write(base.join("cgroup.procs"), "0").unwrap();
    let runner = Runner::new();
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    println!("agent in {}", own.lines().find(|line| line.starts_with("0::")).unwrap());
    if !own.contains("/agent") {
        // A supervisor would be this test's own binary, which is none.
        println!("command in {}", own.lines().find(|line| line.starts_with("0::")).unwrap());
        return;
    }
    let (_order, stop) = stop_after(LONG);
    let finished = runner.run(Program::new("/bin/grep", ["^0::", "/proc/self/cgroup"]), stop).await.unwrap();
    println!("command in {}", finished.stdout.text);
    runner.drain().await;
}
