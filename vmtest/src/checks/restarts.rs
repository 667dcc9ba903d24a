//! Either side goes and comes back.

use anyhow::ensure;
use tokio::time::Instant;

use crate::report::Figures;
use crate::tolerance::same;
use crate::workbench::Workbench;

/// The host side closes its connection and opens another: the agent's session goes on.
pub async fn host_side(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let mut host = bench.connect().await?;
    let before = host.hello().await?;
    drop(host);
    let started = Instant::now();
    let mut host = bench.connect().await?;
    host.sample().await?;
    figures.note("sample after a restart of the host side", format!("{} ms", started.elapsed().as_millis()));
    let after = host.hello().await?;
    same("session_id", after.session_id, before.session_id)
}

/// systemd restarts the agent under a connected host: another session of the same boot.
pub async fn agent(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let mut host = bench.connect().await?;
    let before = host.hello().await?;
    let started = Instant::now();
    bench.restart_agent().await?;
    host.sample().await?;
    figures.note("sample after a restart of the agent", format!("{} ms", started.elapsed().as_millis()));
    let after = host.hello().await?;
    ensure!(after.session_id != before.session_id, "the session has not changed: {}", after.session_id);
    same("boot_id", after.boot_id, before.boot_id)
}
