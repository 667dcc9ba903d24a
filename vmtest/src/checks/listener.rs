//! A process that listens on a port.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use infini_protocol::metrics::{MetricsData, PortMetrics, PortProtocol};
use tokio::time::Instant;

use crate::report::Figures;
use crate::tolerance::same;
use crate::workbench::Workbench;

/// Finding owners of ports is dear, so the agent does it on an interval of its own.
const PORTS_DEADLINE: Duration = Duration::from_secs(90);

/// Starts one and looks for its port with its process. Then compares all that listens with what the guest's own tool says.
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
    let real = bench.vm.run("ss --tcp --listening --numeric --no-header | awk '{ print $4 }'").await;
    bench.vm.kill(&listener).await?;
    let (sample, entry) = found?;
    same("ports that something listens on by TCP", listening(&sample.data), ports(&real?))?;
    figures.note("listener seen after", format!("{:.1} s", started.elapsed().as_secs_f64()));
    same("pid of the listener", entry.pid, Some(listener.pid))?;
    same("protocol of the listener", entry.protocol, PortProtocol::Tcp)?;
    same("address of the listener", entry.address.as_deref(), Some("127.0.0.1"))?;
    same("state of the listener", &*entry.state, "LISTEN")?;
    same("process of the listener", entry.process_name.as_deref(), Some("vmtest"))
}

/// By the agent.
fn listening(data: &MetricsData) -> BTreeSet<u16> {
    let is_tcp = |entry: &&PortMetrics| matches!(entry.protocol, PortProtocol::Tcp | PortProtocol::Tcp6);
    let entries = data.ports.iter().flatten().filter(is_tcp);
    entries.filter(|entry| entry.is_listening).map(|entry| entry.port).collect()
}

/// By local addresses as ss prints them, an address a line.
fn ports(addresses: &str) -> BTreeSet<u16> {
    addresses.lines().filter_map(|address| address.rsplit(':').next()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_from_addresses_of_both_families() {
        assert_eq!(ports("127.0.0.1:8080\n[::1]:53\n*:22\n0.0.0.0%lo:53\n"), [22, 53, 8080].into());
    }
}
