//! What the agent holds.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use infinihost::vm::Vm;

use crate::agent::Agent;

/// How long what a command leaves may outlive its answer: 2 s until it is killed, and some for a busy machine.
const LAST_REMAINS: Duration = Duration::from_secs(20);

/// How long one answer is waited for: what is asked in a connection that breaks has none.
const ONE_ANSWER: Duration = Duration::from_secs(1);

/// What an agent holds at a moment.
#[derive(Debug, PartialEq, Eq)]
pub struct Vitals {
    pub resident_kib: u64,
    /// The part of it that is no file's, and so its own.
    pub anonymous_kib: u64,
    pub threads: u64,
    /// What its descriptors are of.
    pub descriptors: Vec<String>,
    pub children: Vec<u32>,
}

impl Vitals {
    pub fn of(agent: &Agent) -> Self {
        let proc = agent.proc();
        let status = fs::read_to_string(proc.join("status")).unwrap();
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
            value.split_whitespace().next().unwrap().parse().unwrap()
        };
        Self {
            resident_kib: field("VmRSS"),
            anonymous_kib: field("RssAnon"),
            threads: field("Threads"),
            descriptors: descriptors(&proc),
            children: children(&proc),
        }
    }
}

impl fmt::Display for Vitals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resident_kib, anonymous_kib, threads, descriptors, children } = self;
        let (descriptors, children) = (descriptors.len(), children.len());
        write!(
            f,
            "{resident_kib} KiB resident ({anonymous_kib} anonymous), {threads} threads, {descriptors} descriptors, {children} children"
        )
    }
}

/// Waits until all children and all descriptors are gone that were not there before.
pub async fn nothing_is_left(agent: &Agent, vm: &Vm, before: &Vitals) {
    let deadline = Instant::now() + LAST_REMAINS;
    loop {
        let now = Vitals::of(agent);
        if now.children.is_empty() && now.descriptors == before.descriptors {
            return;
        }
        assert!(Instant::now() < deadline, "left:   {now:?}\nbefore: {before:?}");
        // Whatever it is about to do, it has done a bit of it when it has answered.
        vm.keep_alive(ONE_ANSWER).await.ok();
    }
}

/// Without those of the machine's other processes, which come and go: the collector keeps files of each open.
fn descriptors(proc: &Path) -> Vec<String> {
    let target = |entry: fs::DirEntry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned());
    let targets = fs::read_dir(proc.join("fd")).unwrap().filter_map(|entry| target(entry.unwrap()));
    // Sockets, pipes and the files of the audit are numbered.
    let kind = |target: String| target.replace(|letter: char| letter.is_ascii_digit(), "");
    let mut found: Vec<_> = targets.filter(|target| !is_of_another_process(target.as_ref(), proc)).map(kind).collect();
    found.sort_unstable();
    found
}

fn is_of_another_process(target: &Path, agent: &Path) -> bool {
    let pid = target.strip_prefix("/proc").ok().and_then(|path| path.iter().next()?.to_str());
    pid.is_some_and(|pid| pid.parse::<u32>().is_ok()) && !target.starts_with(agent)
}

fn children(proc: &Path) -> Vec<u32> {
    let threads = fs::read_dir(proc.join("task")).unwrap();
    // A thread that has just ended has none.
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()).collect()
}
