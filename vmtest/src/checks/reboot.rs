//! The guest restarts under a host that stays and has asked for it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use infini_protocol::agent::AgentBody;
use serde_json::json;

use crate::host_side::{HostSide, handshake};
use crate::report::Figures;
use crate::tolerance::same;
use crate::vm::BOOT_DEADLINE;
use crate::workbench::{UNIT, Workbench};

/// From the start of the agent's process to its first sample. How long systemd and the kernel take before is not the agent's doing,
/// and under emulation it varies between 10 and 60 s.
const FIRST_SAMPLE: f64 = 10.0;

/// The answer comes while the machine is still up, and has this time at most.
const ANSWER: Duration = Duration::from_secs(20);

/// An answer, then a new boot, a new session, and a first sample soon, all on the connection from before.
pub async fn recovers(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let mut host = bench.connect().await?;
    let before = host.hello().await?;
    let action = json!({ "action": "RebootSystem" });
    host.send(&HostSide::message(json!({ "type": "SafeCommand", "id": "reboot", "command_type": action }))?)?;
    let response = host.response(ANSWER).await?;
    ensure!(response.id == "reboot" && response.success, "{response:?}");
    let (rebooted, first) = tokio::join!(bench.vm.rebooted(), first_sample(&mut host, &before.boot_id));
    rebooted?;
    let (boot_id, uptime) = first?;
    same("boot_id", boot_id.as_str(), bench.vm.boot_id())?;
    let started = agent_started(bench).await?;
    // The sample tells whole seconds: it was made up to one later.
    let took = (uptime + 1) as f64 - started;
    figures.note("agent started after boot", format!("{started:.1} s"));
    figures.note("first sample after that", format!("at most {took:.1} s"));
    ensure!(
        took <= FIRST_SAMPLE,
        "the first sample was made {uptime} s after boot, the agent started after {started:.1} s; {FIRST_SAMPLE} s are allowed"
    );
    let after = host.hello().await?;
    ensure!(after.session_id != before.session_id, "the session has not changed: {}", after.session_id);
    host.sample().await.map(drop)
}

/// When systemd started the agent's process, in seconds since the boot.
async fn agent_started(bench: &Workbench) -> anyhow::Result<f64> {
    let show = format!("systemctl show --property=ExecMainStartTimestampMonotonic --value {UNIT}");
    let microseconds: u64 = bench.vm.run(&show).await?.parse().context("when systemd started the agent")?;
    Ok(microseconds as f64 / 1e6)
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
