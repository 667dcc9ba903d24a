//! The port is taken out of the running machine and put back in.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep};

use crate::report::Figures;
use crate::tolerance::same;
use crate::workbench::Workbench;

/// As after a kill.
const RECOVERY: Duration = Duration::from_secs(5);

/// The agent survives and is back in the same session.
pub async fn recovers(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let mut host = bench.connect().await?;
    let before = host.hello().await?;
    bench.vm.unplug_agent_port().await?;
    drop(host);
    // Long enough for the agent to look for its port in vain.
    sleep(Duration::from_secs(3)).await;
    ensure!(bench.agent_pid().await? > 0, "the agent ended");
    let plugged = Instant::now();
    bench.vm.plug_agent_port().await?;
    let mut host = bench.connect().await?;
    host.samples_until(plugged + RECOVERY).await?;
    figures.note("sample after the port was plugged in", format!("{:.1} s", plugged.elapsed().as_secs_f64()));
    same("session_id", host.hello().await?.session_id, before.session_id)
}
