//! How much memory the agent takes once it has worked.

use std::fmt;

use anyhow::{Context as _, ensure};

use crate::report::Figures;
use crate::workbench::Workbench;

const SAMPLES: usize = 100;
const LIMIT_KIB: u64 = 8 << 10;

/// What the longest answer takes for a moment, on top: what the program printed, joined to one text, and the line that is made of it.
const ANSWER_KIB: u64 = 4 << 10;

/// Restarts it, takes 100 samples and looks at its resident memory.
pub async fn stays_small(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    bench.restart_agent().await?;
    let mut host = bench.connect().await?;
    for _ in 0..SAMPLES {
        host.sample().await?;
    }
    let memory = of_the_agent(bench).await?;
    figures.note("agent's memory after 100 samples", &memory);
    memory.judge()
}

/// Resident memory, in KiB.
#[derive(Debug)]
pub struct Memory {
    now: u64,
    peak: u64,
}

/// What the agent takes now, and the most that it took since its start.
pub async fn of_the_agent(bench: &Workbench) -> anyhow::Result<Memory> {
    let pid = bench.agent_pid().await?;
    let status = bench.vm.run(&format!("cat /proc/{pid}/status")).await?;
    let kib = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.and_then(|value| value.split_whitespace().next()?.parse().ok()).with_context(|| format!("no {field}"))
    };
    Ok(Memory { now: kib("VmRSS")?, peak: kib("VmHWM")? })
}

impl Memory {
    /// A debug build is several times as large, and so is its memory: that is not judged.
    const IS_JUDGED: bool = !cfg!(debug_assertions);

    /// What the agent has now must be within its budget.
    pub fn judge(&self) -> anyhow::Result<()> {
        ensure!(!Self::IS_JUDGED || self.now <= LIMIT_KIB, "{self}; {LIMIT_KIB} KiB are allowed");
        Ok(())
    }

    /// The most that it ever had must be within its budget and one answer.
    pub fn judge_peak(&self) -> anyhow::Result<()> {
        let limit = LIMIT_KIB + ANSWER_KIB;
        ensure!(!Self::IS_JUDGED || self.peak <= limit, "{self}; {limit} KiB are allowed at any time");
        Ok(())
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let judged = if Self::IS_JUDGED { "" } else { "; not judged, this is a debug build" };
        write!(f, "{} KiB, at most {} KiB before{judged}", self.now, self.peak)
    }
}
