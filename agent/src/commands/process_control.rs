//! `ProcessList`, `ProcessTop`, `ProcessKill`.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as platform;
pub use platform::{ProcessFacts, facts};

use std::cmp::Reverse;
use std::thread;
use std::time::Instant;

use infini_protocol::ErrorCode;
use infini_protocol::host::SafeCommand;
use infini_protocol::metrics::{ProcessMetrics, ProcessStatus};
use infini_protocol::{Finite, Text, Timestamp};
use serde::{Deserialize, Serialize};

use super::action::{Action, Context, Running, Target, fields};
use super::outcome::{CommandError, Outcome};
use super::validation::{ListLimit, Pid};
use crate::collector::{List, SHORTEST_RATE, SystemMetricsProvider};

/// How many `ProcessTop` tells of where nobody says.
const TOP: usize = 20;

/// `ProcessList`: the heaviest first.
#[derive(Debug, Deserialize)]
struct ProcessList {
    limit: Option<ListLimit>,
}

/// `ProcessTop`.
#[derive(Debug, Deserialize)]
struct ProcessTop {
    limit: Option<ListLimit>,
    sort_by: Option<SortBy>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SortBy {
    Cpu,
    Memory,
}

/// `ProcessKill`.
#[derive(Debug, Deserialize)]
struct ProcessKill {
    pid: Pid,
    force: Option<bool>,
}

/// Makes a `ProcessList`.
///
/// # Errors
/// `INVALID_PARAMETERS` where the limit is no number above 0.
pub fn list(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    fields::<ProcessList>(command)
}

/// Makes a `ProcessTop`.
///
/// # Errors
/// `INVALID_PARAMETERS` where a field holds no legal value.
pub fn top(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    fields::<ProcessTop>(command)
}

/// Makes a `ProcessKill`.
///
/// # Errors
/// `INVALID_PARAMETERS` where `pid` is no process id.
pub fn kill(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    fields::<ProcessKill>(command)
}

/// One process, as the protocol's section 6 has it.
#[derive(Debug, Serialize)]
struct Entry {
    pid: u32,
    name: Text,
    cpu_usage: Finite,
    memory_kb: u64,
    status: ProcessStatus,
    command_line: Option<Text>,
    user: Option<Text>,
    start_time: Option<Timestamp>,
}

impl From<ProcessMetrics> for Entry {
    fn from(process: ProcessMetrics) -> Self {
        Self {
            pid: process.pid,
            name: process.name,
            cpu_usage: process.cpu_percent,
            memory_kb: process.memory_kb,
            status: process.status,
            command_line: process.cmd_line,
            user: process.user,
            start_time: process.start_time,
        }
    }
}

impl Action for ProcessList {
    fn run(self: Box<Self>, context: Context) -> Running {
        listed(context, move |heaviest| self.choose(heaviest))
    }
}

impl Action for ProcessTop {
    fn run(self: Box<Self>, context: Context) -> Running {
        listed(context, move |heaviest| self.choose(heaviest))
    }
}

/// Gives that many of the heaviest processes.
type Heaviest<'a> = &'a dyn Fn(usize) -> Result<List<ProcessMetrics>, CommandError>;

/// Measures on a thread where waiting is allowed, and tells which processes were chosen.
fn listed(
    context: Context,
    choose: impl FnOnce(Heaviest<'_>) -> Result<Outcome, CommandError> + Send + 'static,
) -> Running {
    Box::pin(async move {
        let chosen = context.blocking(move |context| choose(&|limit| measure(context, limit))).await;
        chosen.unwrap_or_else(Outcome::from)
    })
}

impl ProcessList {
    fn choose(&self, heaviest: Heaviest<'_>) -> Result<Outcome, CommandError> {
        let limit = self.limit.map_or(ListLimit::MOST, ListLimit::get);
        outcome(heaviest(limit)?, limit)
    }
}

impl ProcessTop {
    fn choose(&self, heaviest: Heaviest<'_>) -> Result<Outcome, CommandError> {
        let limit = self.limit.map_or(TOP, ListLimit::get);
        if self.sort_by != Some(SortBy::Memory) {
            return outcome(heaviest(limit)?, limit);
        }
        // The heaviest by memory may use no processor at all, so they are chosen among all.
        let mut all = heaviest(usize::MAX)?;
        all.entries.sort_by_key(|process| (Reverse(process.memory_kb), process.pid));
        all.entries.truncate(limit);
        outcome(all, limit)
    }
}

/// A list that ends where the host wanted it to is whole; one that ends where every list does is not.
fn outcome(processes: List<ProcessMetrics>, limit: usize) -> Result<Outcome, CommandError> {
    let truncated = limit >= ListLimit::MOST && processes.total > processes.entries.len();
    let entries: Vec<Entry> = processes.entries.into_iter().map(Entry::from).collect();
    let data = serde_json::to_value(entries);
    let data = data.map_err(|error| CommandError::new(ErrorCode::Internal, error.to_string()))?;
    Ok(Outcome { truncated, ..Outcome::data(data) })
}

/// The heaviest processes, by what they use over a quarter of a second.
fn measure(context: &Context, limit: usize) -> Result<List<ProcessMetrics>, CommandError> {
    let wait = || {
        thread::sleep(SHORTEST_RATE);
        Instant::now()
    };
    heaviest((context.collector)(), limit, Instant::now(), wait)
}

/// The heaviest processes, by what they use from now until `wait` is over.
fn heaviest(
    mut collector: Box<dyn SystemMetricsProvider>,
    limit: usize,
    now: Instant,
    wait: impl FnOnce() -> Instant,
) -> Result<List<ProcessMetrics>, CommandError> {
    collector.collect_processes(now, 0)?;
    Ok(collector.collect_processes(wait(), limit)?)
}

impl Action for ProcessKill {
    fn targets(&self) -> Vec<Target> {
        vec![Target::Process(self.pid)]
    }

    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move {
            let (pid, force) = (self.pid, self.force.unwrap_or(false));
            let kill = move |context: &Context| platform::kill(&context.roots.proc, pid, force, &context.judge);
            let killed = context.blocking(kill).await;
            Outcome::from(killed)
        })
    }
}

#[cfg(test)]
mod tests;
