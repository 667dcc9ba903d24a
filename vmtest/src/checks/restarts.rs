//! Either side goes and comes back.

use anyhow::ensure;
use tokio::time::Instant;

use crate::host_process::HostProcess;
use crate::host_side::ANSWER_DEADLINE;
use crate::report::Figures;
use crate::tolerance::same;
use crate::workbench::Workbench;

/// infinihost is killed and started again: the agent's session goes on.
pub async fn host_side(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let before = bench.connect().await?.hello().await?;
    let socket = bench.vm.agent_socket();
    let mut host = HostProcess::start(bench, &socket)?;
    host.answered(bench.guest_time().await?, Instant::now() + ANSWER_DEADLINE).await?;
    host.kill().await?;
    let started = Instant::now();
    let mut host = HostProcess::start(bench, &socket)?;
    host.answered(bench.guest_time().await?, Instant::now() + ANSWER_DEADLINE).await?;
    figures.note("sample after a restart of the host side", format!("{} ms", started.elapsed().as_millis()));
    host.kill().await?;
    let after = bench.connect().await?.hello().await?;
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
