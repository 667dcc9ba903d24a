//! How much memory the agent takes once it has worked.

use anyhow::{Context as _, ensure};

use crate::report::Figures;
use crate::workbench::Workbench;

const SAMPLES: usize = 100;
const LIMIT_KIB: u64 = 8 << 10;

/// Restarts it, takes 100 samples and looks at its resident memory.
pub async fn stays_small(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    bench.restart_agent().await?;
    let mut host = bench.connect().await?;
    for _ in 0..SAMPLES {
        host.sample().await?;
    }
    let pid = bench.agent_pid().await?;
    let status = bench.vm.run(&format!("cat /proc/{pid}/status")).await?;
    let kib = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok())
            .with_context(|| format!("no {field}"))
    };
    let (now, peak) = (kib("VmRSS")?, kib("VmHWM")?);
    // A debug build is several times as large, and so is its memory.
    let judged = if cfg!(debug_assertions) { "; not judged, this is a debug build" } else { "" };
    figures.note("agent's memory after 100 samples", format!("{now} KiB, at most {peak} KiB before{judged}"));
    ensure!(cfg!(debug_assertions) || now <= LIMIT_KIB, "{now} KiB are resident, {LIMIT_KIB} KiB are allowed");
    Ok(())
}
