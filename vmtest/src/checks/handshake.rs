//! The first words on a connection: who is there, unasked, and a sample right after.

use std::time::Duration;

use anyhow::ensure;
use infini_protocol::PROTOCOL_VERSION;
use infini_protocol::agent::AgentBody;
use tokio::time::Instant;

use crate::host_side::handshake;
use crate::report::Figures;
use crate::tolerance::same;
use crate::workbench::{VM_ID, Workbench};

/// The agent learns of the host by an event, so this is generous.
const FIRST_WORD: Duration = Duration::from_secs(5);

/// The first sample of all asks for what later ones have kept, measures over 250 ms, and that under emulation.
const FIRST_SAMPLE: Duration = Duration::from_secs(5);

/// Every field against what the guest itself says.
pub async fn says_who_is_there(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let connected = Instant::now();
    let mut host = bench.connect().await?;
    let hands = host.wait_for("handshake", FIRST_WORD, handshake).await?;
    figures.note("handshake after connecting", format!("{} ms", connected.elapsed().as_millis()));
    let sample = host
        .wait_for("sample", FIRST_SAMPLE, |message| match &message.body {
            AgentBody::Metrics(metrics) => Some(metrics.data.clone()),
            _ => None,
        })
        .await?;
    figures.note("first sample after connecting", format!("{} ms", connected.elapsed().as_millis()));
    // The first sample waits for no slow group, and systemd is one.
    let lacks: Vec<_> = sample.errors.iter().filter(|error| &*error.component != "services").collect();
    ensure!(lacks.is_empty(), "the first sample lacks groups: {lacks:?}");

    same("vm_id", hands.vm_id.as_str(), VM_ID)?;
    same("platform", hands.platform.as_str(), "linux")?;
    same("arch", hands.arch, bench.vm.run("uname -m").await?)?;
    same("hostname", hands.hostname, bench.vm.run("cat /proc/sys/kernel/hostname").await?)?;
    same("boot_id", hands.boot_id.as_str(), bench.vm.boot_id())?;
    same("protocol_version", hands.protocol_version, PROTOCOL_VERSION)?;
    let version = bench.vm.run("infiniservice --version").await?;
    ensure!(
        version.split_whitespace().any(|word| word == hands.version),
        "version {} is not {version:?}",
        hands.version
    );
    ensure!(!hands.session_id.is_empty(), "the session has no id");
    ensure!(hands.capabilities.iter().any(|name| name == "metrics"), "capabilities: {:?}", hands.capabilities);

    let asked = host.hello().await?;
    same("session_id of the handshake that answers hello", asked.session_id, hands.session_id)?;
    ensure!(host.odd_lines.is_empty(), "lines that are no messages: {:?}", host.odd_lines);
    Ok(())
}
