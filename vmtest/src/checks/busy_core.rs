//! A loop that does nothing as fast as it can, on one core.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::sleep;

use crate::report::Figures;
use crate::workbench::Workbench;

const CORE: usize = 1;

/// What the core must read at least.
const CORE_PERCENT: f64 = 90.0;

/// The agent and the kernel run on this core too, and their share is not the loop's.
const PROCESS_PERCENT: f64 = 80.0;

/// Pins a loop to a core and looks at that core.
pub async fn is_seen(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let mut host = bench.connect().await?;
    let looping = bench.vm.start(&format!("taskset -c {CORE} sh -c 'echo ready; while :; do :; done'")).await?;
    let result = async {
        host.sample().await?;
        sleep(Duration::from_secs(5)).await;
        host.sample().await
    };
    let result = result.await;
    bench.vm.kill(&looping).await?;
    let data = result?.data;
    let cores = &data.system.cpu.as_ref().context("no cpu")?.cores_usage;
    let core = cores.get(CORE).context("no such core")?.get();
    let processes = data.processes.as_ref().context("no processes")?;
    let process = processes.iter().find(|process| process.pid == looping.pid).context("the loop is not in the list")?;
    figures.note("busy loop: its core, its process", format!("{core:.1} %, {:.1} %", process.cpu_percent.get()));
    ensure!(core >= CORE_PERCENT, "the loop's core reads {core} %; all cores: {cores:?}");
    ensure!(process.cpu_percent.get() >= PROCESS_PERCENT, "the loop's process reads {:?}", process.cpu_percent);
    Ok(())
}
