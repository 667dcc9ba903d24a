//! The guest restarts under a host that stays.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use infini_protocol::agent::AgentBody;

use crate::host_side::{HostSide, handshake};
use crate::report::Figures;
use crate::tolerance::same;
use crate::vm::BOOT_DEADLINE;
use crate::workbench::Workbench;

/// Under emulation most of it is the boot itself: the guest answers its control channel after about 11 s.
const FIRST_SAMPLE: u64 = 60;

/// A new boot, a new session, and a first sample soon, all on the connection from before.
pub async fn recovers(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let mut host = bench.connect().await?;
    let before = host.hello().await?;
    let (rebooted, first) = tokio::join!(bench.vm.reboot(), first_sample(&mut host, &before.boot_id));
    rebooted?;
    let (boot_id, uptime) = first?;
    figures.note("first sample after boot", format!("{uptime} s"));
    same("boot_id", boot_id.as_str(), bench.vm.boot_id())?;
    ensure!(uptime <= FIRST_SAMPLE, "the first sample was made {uptime} s after boot, {FIRST_SAMPLE} s are allowed");
    let after = host.hello().await?;
    ensure!(after.session_id != before.session_id, "the session has not changed: {}", after.session_id);
    host.sample().await.map(drop)
}

/// Waits for a handshake of another boot and for the sample after it; gives the boot and the sample's uptime.
async fn first_sample(host: &mut HostSide, old_boot: &str) -> anyhow::Result<(String, u64)> {
    let is_new = |hands: &infini_protocol::agent::Handshake| hands.boot_id != old_boot;
    let hands =
        host.wait_for("handshake of a new boot", BOOT_DEADLINE, |message| handshake(message).filter(is_new)).await?;
    let uptime = host
        .wait_for("first sample", Duration::from_secs(10), |message| match &message.body {
            AgentBody::Metrics(metrics) => Some(metrics.data.system.uptime_seconds),
            _ => None,
        })
        .await?;
    Ok((hands.boot_id, uptime.context("the first sample has no uptime")?))
}
