//! The agent dials out over vsock instead of opening a port.
//!
//! No hypervisor is asked: vhost-vsock needs a kernel module that few machines for tests have. The guest's own loopback (context 1) takes
//! the same system calls, and a relay carries what arrives there to a port, behind which the host side is.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::Instant;

use crate::host_side::HostSide;
use crate::report::Figures;
use crate::tolerance::same;
use crate::workbench::{VM_ID, Workbench};

/// Where the relay listens.
const ADDRESS: &str = "vsock:1:5000";
const LISTEN: &str = "VSOCK-LISTEN:5000";

const RELAY_PORT_NAME: &str = "org.infinibay.vmtest.relay";
const RELAY: &str = "vmtest-relay";

/// The agent tries again after 1 s, then 2 s.
const RECOVERY: Duration = Duration::from_secs(5);

/// Moves the agent to vsock and back.
pub async fn dials_out(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    bench.vm.run("modprobe vsock_loopback").await.context("the guest's kernel has no loopback for vsock")?;
    let port = bench.vm.plug_port("relay", RELAY_PORT_NAME).await?;
    let outcome = async {
        let until = Instant::now() + RECOVERY;
        // First, for the relay takes a port without a host for one whose host has left.
        let mut host = HostSide::connect(&port.socket, &bench.key, until).await?;
        start_relay(bench).await?;
        bench.change_unit(&[&format!("Environment=INFINISERVICE_DEVICE={ADDRESS}")]).await?;
        talks(bench, &mut host, figures).await
    };
    let outcome = outcome.await;
    bench.vm.run(&format!("systemctl stop {RELAY}")).await?;
    bench.reset_unit().await?;
    bench.vm.unplug_port(port).await?;
    outcome
}

async fn talks(bench: &Workbench, host: &mut HostSide, figures: &mut Figures) -> anyhow::Result<()> {
    let greeting = host.hello().await?;
    same("vm_id over vsock", greeting.vm_id.as_str(), VM_ID)?;
    host.sample().await?;
    let connections = bench.vm.run("ss --vsock --no-header state established | wc -l").await?;
    ensure!(connections != "0", "no vsock connection is there");
    ensure!(!bench.vm.agent_port_is_open().await?, "the agent has its port open as well");
    bench.vm.run(&format!("systemctl stop {RELAY}")).await?;
    start_relay(bench).await?;
    let back = Instant::now();
    host.samples_until(back + RECOVERY).await?;
    figures
        .note("vsock loopback: sample after the listener came back", format!("{:.1} s", back.elapsed().as_secs_f64()));
    same("session_id", host.hello().await?.session_id, greeting.session_id)
}

/// For one connection, which is all that an agent makes.
async fn start_relay(bench: &Workbench) -> anyhow::Result<()> {
    let port = format!("/dev/virtio-ports/{RELAY_PORT_NAME}");
    let wait = format!("udevadm wait --timeout=20 {port}");
    let listening = "ss --vsock --listening --no-header | grep -q :5000";
    let start = format!("systemd-run --quiet --collect --unit={RELAY} socat {LISTEN} OPEN:{port}");
    let line = format!("{wait} && {start} && until {listening}; do sleep 0.1; done");
    bench.vm.run(&line).await.map(drop)
}
