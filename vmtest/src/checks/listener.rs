//! A process that listens on a port.

use std::time::Duration;

use anyhow::Context as _;
use infini_protocol::metrics::PortProtocol;
use tokio::time::Instant;

use crate::report::Figures;
use crate::tolerance::same;
use crate::workbench::Workbench;

/// Finding owners of ports is dear, so the agent does it on an interval of its own.
const PORTS_DEADLINE: Duration = Duration::from_secs(90);

/// Starts one and looks for its port with its process.
pub async fn is_seen(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let mut host = bench.connect().await?;
    let listener = bench.vm.start("vmtest guest listen").await?;
    let port: u16 =
        listener.said.strip_prefix("ready ").and_then(|port| port.parse().ok()).context("it does not listen")?;
    let started = Instant::now();
    let found = host
        .sample_with("the listener's port with its process", PORTS_DEADLINE, |data| {
            let entry = data.ports.as_ref()?.iter().find(|entry| entry.port == port && entry.is_listening)?;
            entry.pid.is_some().then(|| entry.clone())
        })
        .await;
    bench.vm.kill(&listener).await?;
    let entry = found?.1;
    figures.note("listener seen after", format!("{:.1} s", started.elapsed().as_secs_f64()));
    same("pid of the listener", entry.pid, Some(listener.pid))?;
    same("protocol of the listener", entry.protocol, PortProtocol::Tcp)?;
    same("address of the listener", entry.address.as_deref(), Some("127.0.0.1"))?;
    same("state of the listener", &*entry.state, "LISTEN")?;
    same("process of the listener", entry.process_name.as_deref(), Some("vmtest"))
}
