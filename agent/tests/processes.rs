//! Processes and ports of a recorded machine, before and after ten seconds. The expected values are worked out by hand.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use infini_protocol::metrics::{PortMetrics, PortProtocol, ProcessMetrics, ProcessStatus};
use infiniservice::collector::List;
use infiniservice::collector::linux::{PortReader, ProcessReader, Roots};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tempfile::TempDir;

const INTERVAL: Duration = Duration::from_secs(10);

/// A copy of the recorded machine that can go on living.
struct Machine(TempDir);

impl Machine {
    fn before() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        copy(&recorded("before"), machine.0.path());
        machine
    }

    fn roots(&self) -> Roots {
        let root = self.0.path();
        Roots { proc: root.join("proc"), sys: root.join("sys"), etc: root.join("etc") }
    }

    /// Ten seconds later: files change in place, so that kept descriptors see it as they do in `/proc`.
    fn go_on(&self) {
        self.end(700);
        self.end(800);
        copy(&recorded("after"), self.0.path());
    }

    /// A process ends: descriptors of its files give nothing more.
    fn end(&self, pid: u32) {
        let process = self.roots().proc.join(pid.to_string());
        for file in ["stat", "io"] {
            fs::write(process.join(file), "").unwrap();
        }
        fs::remove_dir_all(process).unwrap();
    }
}

fn recorded(moment: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trees/processes").join(moment)
}

/// What is a link in `/proc` is recorded as a file with the link's text: its target exists on no other machine, and not every checkout
/// can hold links.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target);
        } else if entry.file_name() == "exe" || from.ends_with("fd") {
            let _ = fs::remove_file(&target);
            symlink(fs::read_to_string(&source).unwrap(), &target).unwrap();
        } else {
            fs::write(&target, fs::read(source).unwrap()).unwrap();
        }
    }
}

/// Reads twice before, so that descriptors are kept, and once after.
fn before_and_after(limit: usize) -> (List<ProcessMetrics>, List<ProcessMetrics>) {
    let machine = Machine::before();
    let mut reader = ProcessReader::new(machine.roots());
    let start = Instant::now();
    reader.read(start, limit).unwrap();
    let before = reader.read(start + INTERVAL, limit).unwrap();
    machine.go_on();
    (before, reader.read(start + 2 * INTERVAL, limit).unwrap())
}

fn process(list: &List<ProcessMetrics>, pid: u32) -> &ProcessMetrics {
    list.entries.iter().find(|process| process.pid == pid).unwrap_or_else(|| panic!("no process {pid} in {list:#?}"))
}

fn kib(pages: u64) -> u64 {
    pages * rustix::param::page_size() as u64 / 1024
}

#[test]
fn a_process_is_described_whole() {
    let (_, after) = before_and_after(100);
    let expected = ProcessMetrics {
        pid: 400,
        ppid: Some(1),
        name: "weird) (R 1 2".into(),
        exe_path: Some("/opt/weird) (R 1 2".into()),
        cmd_line: Some("./weird) (R caf\u{fffd} --x".into()),
        user: Some("4242".into()),
        cpu_percent: infini_protocol::Finite::new(150.0).unwrap(),
        memory_kb: kib(25600),
        disk_read_bytes: Some(1_048_576),
        disk_write_bytes: Some(67_117_056),
        status: ProcessStatus::Running,
        start_time: Some("2026-01-01T00:00:40.000Z".parse().unwrap()),
    };
    assert_eq!(*process(&after, 400), expected);
}

#[test]
fn the_heaviest_come_first() {
    let (before, after) = before_and_after(100);
    let weights = |list: &List<ProcessMetrics>| -> Vec<(u32, f64)> {
        list.entries.iter().map(|process| (process.pid, process.cpu_percent.get())).collect()
    };
    let idle = [400, 1, 700, 800, 600, 777, 950, 2, 30, 500].map(|pid| (pid, 0.0));
    assert_eq!(weights(&before), idle, "nothing ran, so memory decides, then the id");
    assert_eq!(
        weights(&after),
        [
            (400, 150.0),
            (900, 15.0),
            (700, 3.0),
            (950, 2.0),
            (1, 1.5),
            (30, 0.1),
            (600, 0.0),
            (777, 0.0),
            (2, 0.0),
            (500, 0.0)
        ]
    );
    assert_eq!((after.total, after.errors.len()), (10, 0));
}

#[test]
fn the_limit_keeps_the_heaviest_and_says_how_many_there_are() {
    let (_, after) = before_and_after(3);
    let pids: Vec<u32> = after.entries.iter().map(|process| process.pid).collect();
    assert_eq!((pids, after.total), (vec![400, 900, 700], 10));
}

#[test]
fn a_number_that_is_used_again_is_another_process() {
    let (before, after) = before_and_after(100);
    assert_eq!(process(&before, 700).cmd_line.as_deref(), Some("old"));
    let new = process(&after, 700);
    assert_eq!((&*new.name, new.cmd_line.as_deref(), new.user.as_deref()), ("new", Some("new -v"), Some("alice")));
    assert_eq!((new.disk_read_bytes, new.start_time), (Some(2), Some("2026-01-01T00:15:00.000Z".parse().unwrap())));
}

#[test]
fn another_program_in_the_same_process_is_noticed() {
    let (before, after) = before_and_after(100);
    assert_eq!(process(&before, 950).exe_path.as_deref(), Some("/usr/bin/dash"));
    let python = process(&after, 950);
    assert_eq!((&*python.name, python.exe_path.as_deref()), ("python3", Some("/usr/bin/python3.11")));
    assert_eq!(python.cmd_line.as_deref(), Some("python3 job.py"));
}

#[test]
fn kernel_threads_and_zombies_have_no_program() {
    let (_, after) = before_and_after(100);
    for (pid, name, status, user) in [
        (2, "kthreadd", ProcessStatus::Sleeping, "root"),
        (30, "kworker/0:1", ProcessStatus::Idle, "root"),
        (500, "defunct", ProcessStatus::Zombie, "alice"),
    ] {
        let found = process(&after, pid);
        assert_eq!((&*found.name, found.status, found.user.as_deref()), (name, status, Some(user)));
        assert_eq!((&found.exe_path, &found.cmd_line, found.memory_kb), (&None, &None, 0));
    }
}

#[test]
fn odd_text_is_told_as_well_as_it_can_be() {
    let (_, after) = before_and_after(100);
    let long = process(&after, 600);
    assert_eq!(long.cmd_line.as_deref(), Some(format!("longline {}", "x".repeat(4096 - 9)).as_str()));
    assert_eq!(long.exe_path.as_deref(), Some("/usr/bin/longline"), "the program was deleted since");
    assert_eq!(long.user.as_deref(), Some("www-data"), "the effective user counts");
    let latin = process(&after, 777);
    assert_eq!((&*latin.name, latin.cmd_line.as_deref()), ("caf\u{fffd}", Some("café")));
}

#[test]
fn what_is_hidden_is_absent_and_no_error() {
    let (_, after) = before_and_after(100);
    let init = process(&after, 1);
    assert_eq!((init.disk_read_bytes, init.disk_write_bytes, init.ppid), (None, None, None));
    assert_eq!(init.cmd_line.as_deref(), Some("/sbin/init splash"));
}

#[test]
fn a_corrected_clock_does_not_move_the_start_of_a_process() {
    let (before, after) = before_and_after(100);
    let start = Some("2026-01-01T00:00:00.210Z".parse().unwrap());
    assert_eq!((process(&before, 1).start_time, process(&after, 1).start_time), (start, start));
}

#[test]
fn a_real_process_is_seen_and_its_end_too() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let mut reader = ProcessReader::new(Roots::default());
    let now = Instant::now();
    let mut read = |seconds| reader.read(now + Duration::from_secs(seconds), usize::MAX).unwrap();
    for seconds in 0..3 {
        let list = read(seconds);
        assert_eq!(process(&list, child.id()).ppid, Some(std::process::id()));
    }
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(read(3).entries.iter().all(|process| process.pid != child.id()));
}

/// A process of the recorded machine whose `schedstat` the test writes, read until its descriptors are kept.
struct Sleeper {
    machine: Machine,
    reader: ProcessReader,
    now: Instant,
}

impl Sleeper {
    const PID: u32 = 600;

    fn new() -> Self {
        let machine = Machine::before();
        let reader = ProcessReader::new(machine.roots());
        let mut sleeper = Self { machine, reader, now: Instant::now() };
        sleeper.runs_for(1_000_000);
        // Of the next samples the fourth, which is the eighth of all, is this process's turn.
        (0..4).for_each(|_| drop(sleeper.read()));
        sleeper
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.machine.roots().proc.join(Self::PID.to_string()).join(name), text).unwrap();
    }

    fn runs_for(&self, nanos: u64) {
        self.write("schedstat", &format!("{nanos} 0 1\n"));
    }

    fn becomes(&self, ppid: u32, ticks: u32, written: u32) {
        let stat = format!("600 (longline) S {ppid} 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 5000 1 10 0 0 0 0 0 0\n");
        self.write("stat", &stat);
        self.write("io", &format!("read_bytes: 0\nwrite_bytes: {written}\n"));
    }

    fn read(&mut self) -> ProcessMetrics {
        self.now += INTERVAL;
        process(&self.reader.read(self.now, 100).unwrap(), Self::PID).clone()
    }
}

#[test]
fn who_has_not_run_is_as_it_was_and_who_has_is_read() {
    let mut sleeper = Sleeper::new();
    let before = sleeper.read();
    // The kernel changes none of this while a process sleeps: here it shows what is read.
    sleeper.becomes(1, 200, 4096);
    assert_eq!(sleeper.read(), before);
    sleeper.runs_for(1_000_001_000);
    let after = sleeper.read();
    assert_eq!((after.cpu_percent.get(), after.disk_write_bytes, after.memory_kb), (10.0, Some(4096), kib(10)));
}

#[test]
fn who_sleeps_is_read_at_its_turn_because_others_may_take_its_memory() {
    let mut sleeper = Sleeper::new();
    sleeper.becomes(1, 100, 0);
    let memory: Vec<u64> = (0..4).map(|_| sleeper.read().memory_kb).collect();
    assert_eq!(memory, [kib(1024), kib(1024), kib(1024), kib(10)]);
}

#[test]
fn who_sleeps_while_its_parent_ends_has_another_one_at_once() {
    let mut sleeper = Sleeper::new();
    sleeper.becomes(700, 100, 0);
    sleeper.runs_for(2_000_000);
    assert_eq!(sleeper.read().ppid, Some(700));
    sleeper.becomes(1, 100, 0);
    assert_eq!(sleeper.read().ppid, Some(700), "it was read although it slept");
    sleeper.machine.end(700);
    assert_eq!(sleeper.read().ppid, Some(1));
}

#[test]
fn a_real_process_that_is_stopped_in_its_sleep_is_seen_to_be() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let pid = Pid::from_child(&child);
    let mut reader = ProcessReader::new(Roots::default());
    let mut now = Instant::now();
    let mut read = || {
        now += INTERVAL;
        process(&reader.read(now, usize::MAX).unwrap(), child.id()).status
    };
    // More often than there are samples between two turns.
    for _ in 0..10 {
        stdin.write_all(b"x").unwrap();
        stdout.read_exact(&mut [0]).unwrap();
        (0..3).for_each(|_| _ = read());
        kill_process(pid, Signal::STOP).unwrap();
        waitpid(Some(pid), WaitOptions::UNTRACED).unwrap();
        assert_eq!(read(), ProcessStatus::Stopped);
        kill_process(pid, Signal::CONT).unwrap();
    }
    drop(stdin);
    child.wait().unwrap();
}

#[cfg(target_endian = "little")]
mod ports {
    use super::*;

    type Summary<'l> = (PortProtocol, u16, &'l str, &'l str, Option<u32>, u32);

    fn summary<'l>(list: &'l List<PortMetrics>) -> Vec<Summary<'l>> {
        let line = |port: &'l PortMetrics| {
            let address = port.address.as_deref().unwrap();
            (port.protocol, port.port, &*port.state, address, port.pid, port.connection_count)
        };
        list.entries.iter().map(line).collect()
    }

    #[test]
    fn ports_have_owners_and_connections() {
        use PortProtocol::{Tcp, Tcp6, Udp};
        let machine = Machine::before();
        let list = PortReader::new(machine.roots()).read(100).unwrap();
        assert_eq!(
            summary(&list),
            [
                (Tcp6, 8080, "LISTEN", "::", Some(400), 1),
                (Tcp, 22, "LISTEN", "0.0.0.0", Some(600), 0),
                (Udp, 323, "UNCONN", "127.0.0.1", None, 0),
                (Tcp, 40000, "ESTABLISHED", "10.0.0.5", Some(950), 1),
                (Tcp, 40001, "TIME_WAIT", "10.0.0.5", None, 1),
            ]
        );
        let http = &list.entries[0];
        assert_eq!(
            (http.process_name.as_deref(), http.exe_path.as_deref()),
            (Some("weird) (R 1 2"), Some("/opt/weird) (R 1 2"))
        );
        assert_eq!((list.total, list.errors.len()), (5, 0));
    }

    #[test]
    fn a_new_listener_gets_its_owner_before_the_minute_is_over() {
        let machine = Machine::before();
        let mut reader = PortReader::new(machine.roots());
        let start = Instant::now();
        reader.read_at(start, 100).unwrap();
        machine.go_on();
        let list = reader.read_at(start + INTERVAL, 100).unwrap();
        let multicast = list.entries.iter().find(|port| port.port == 5353).unwrap();
        assert_eq!((multicast.pid, multicast.process_name.as_deref()), (Some(900), Some("fresh")), "{list:#?}");
        assert_eq!(
            list.entries.iter().find(|port| port.port == 40000).unwrap().process_name.as_deref(),
            Some("python3")
        );
    }

    #[test]
    fn an_owner_that_ended_is_forgotten() {
        let machine = Machine::before();
        let mut reader = PortReader::new(machine.roots());
        let start = Instant::now();
        reader.read_at(start, 100).unwrap();
        machine.end(600);
        let list = reader.read_at(start + INTERVAL, 2).unwrap();
        let ssh = &list.entries[1];
        assert_eq!((ssh.port, ssh.pid), (22, Some(1)), "the other process that holds the socket: {list:#?}");
        assert_eq!((list.entries.len(), list.total), (2, 5));
    }

    #[test]
    fn a_real_listener_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let list = PortReader::new(Roots::default()).read(usize::MAX).unwrap();
        let found = list.entries.iter().find(|entry| entry.is_listening && entry.port == port).unwrap();
        assert_eq!((found.pid, found.address.as_deref()), (Some(std::process::id()), Some("127.0.0.1")));
    }
}
