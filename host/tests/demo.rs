//! The demo with the real agent on this machine.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tempfile::TempDir;

struct Demo {
    child: Child,
    stdout: BufReader<ChildStdout>,
    directory: TempDir,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_infinihost"))
            .arg("demo")
            .args(arguments)
            .env("TMPDIR", directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout, directory }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    /// A handle of the agent's process that cannot mean another one.
    fn agent(&self) -> (Pid, OwnedFd) {
        let id = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        let pid = Pid::from_raw(children.trim().parse().unwrap_or_else(|_| panic!("children: {children:?}"))).unwrap();
        (pid, pidfd_open(pid, PidfdFlags::empty()).unwrap())
    }

    /// Waits for the end and gives what was said on standard error.
    fn end(&mut self) -> (ExitStatus, String) {
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap(), said)
    }

    fn left_behind(&self) -> Vec<std::path::PathBuf> {
        std::fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

fn assert_ends(agent: &OwnedFd) {
    let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
    let ended = poll(&mut [PollFd::new(agent, PollFlags::IN)], Some(&limit)).unwrap();
    assert_eq!(ended, 1, "the agent outlives the demo");
}

#[test]
fn this_machine_is_shown_and_the_end_comes_by_itself() {
    let start = Instant::now();
    let mut demo = Demo::start(&["--json", "--duration", "2s", "--interval", "500ms"]);
    let line = demo.line();
    let took = start.elapsed();
    let (_, agent) = demo.agent();
    let sample: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
    assert_eq!(sample["vm"], "demo");
    let cores = sample["data"]["system"]["cpu"]["cores_usage"].as_array().map(Vec::len);
    assert_eq!(cores, std::thread::available_parallelism().ok().map(usize::from), "{line}");
    let memory = sample["data"]["system"]["memory"]["total_kb"].as_u64();
    assert!(memory.is_some_and(|kb| kb > 0), "{line}");
    let (status, said) = demo.end();
    assert!(status.success(), "{status}: {said}");
    assert_ends(&agent);
    assert_eq!(demo.left_behind(), Vec::<std::path::PathBuf>::new());
    assert!(took < Duration::from_secs(3), "the first sample took {took:?}");
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let mut demo = Demo::start(&["--interval", "100ms"]);
    assert!(demo.line().starts_with("{\"vm\":\"demo\""));
    let Demo { mut child, stdout, .. } = demo;
    drop(stdout);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[test]
fn no_agent_survives_a_demo_that_is_killed() {
    let mut demo = Demo::start(&["--json"]);
    demo.line();
    let (_, agent) = demo.agent();
    demo.child.kill().unwrap();
    assert_ends(&agent);
    demo.child.wait().unwrap();
}

#[test]
fn a_signal_ends_both_in_order() {
    let mut demo = Demo::start(&["--json"]);
    demo.line();
    let (_, agent) = demo.agent();
    kill_process(Pid::from_child(&demo.child), Signal::TERM).unwrap();
    let (status, said) = demo.end();
    assert!(status.success(), "{status}: {said}");
    assert_ends(&agent);
    assert_eq!(demo.left_behind(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn an_agent_that_dies_is_explained() {
    let mut demo = Demo::start(&["--json"]);
    demo.line();
    let (pid, _agent) = demo.agent();
    kill_process(pid, Signal::KILL).unwrap();
    let (status, said) = demo.end();
    assert_eq!(status.code(), Some(70), "{said}");
    assert!(said.contains("the demo's agent died") && said.contains("last words"), "{said}");
}

#[test]
fn a_terminal_that_goes_away_ends_it_in_order() {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let end =
        || OpenOptions::new().read(true).write(true).custom_flags(OFlags::NOCTTY.bits() as i32).open(&name).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_infinihost"))
        .arg("demo")
        .env("TMPDIR", directory.path())
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .unwrap();
    let mut terminal = File::from(terminal);
    // Something is on the screen.
    terminal.read_exact(&mut [0; 64]).unwrap();
    drop(terminal);
    let status = child.wait().unwrap();
    assert!(status.code().is_some(), "{status}");
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0, "its folder is left behind");
}
