//! 64 MiB sent by the guest over its network card.

use std::time::Duration;

use anyhow::Context as _;
use infini_protocol::metrics::{MetricsData, NetworkInterface};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::host_side::total;
use crate::report::Figures;
use crate::tolerance::{same, within_percent};
use crate::workbench::Workbench;

const BYTES: usize = 64 << 20;

/// The address that QEMU's user network expects of its first guest.
const ADDRESS: &str = "10.0.2.15";

/// Sends to this machine and compares counters and rates with what arrived.
pub async fn is_seen(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    bench.vm.run(&format!("ip address replace {ADDRESS}/24 dev eth0 && ip link set eth0 up")).await?;
    let mut host = bench.connect().await?;
    let sink = TcpListener::bind("127.0.0.1:0").await?;
    let port = sink.local_addr()?.port();
    let before = host.sample().await?;
    let send = format!("bash -c 'head -c {BYTES} /dev/zero >/dev/tcp/10.0.2.2/{port}'");
    let (sent, received) = tokio::join!(bench.vm.run_for(Duration::from_secs(60), &send), receive(&sink));
    sent?;
    same("bytes that arrived", received?, BYTES)?;
    sleep(Duration::from_secs(2)).await;
    let samples = host.samples().await?;
    let after = samples.last().and_then(|sample| card(&sample.data)).context("eth0 is not in the sample")?;
    let counted = after.bytes_sent - card(&before.data).context("eth0 is not in the sample")?.bytes_sent;
    let rated = total(before.at, &samples, |data| card(data)?.sent_bytes_per_sec);
    let off = within_percent("bytes sent, by the counter", counted as f64, BYTES as f64, 5.0)?;
    let off_rate = within_percent("bytes sent, by the rates", rated, BYTES as f64, 5.0)?;
    figures.note("64 MiB over the network", format!("{off:+.2} % by the counter, {off_rate:+.2} % by the rates"));
    same("eth0 is up", after.is_up, true)?;
    same("eth0 has its address", after.ip_addresses.iter().any(|address| &**address == ADDRESS), true)
}

async fn receive(sink: &TcpListener) -> anyhow::Result<usize> {
    let (mut stream, _) = sink.accept().await?;
    let mut buffer = vec![0; 1 << 20];
    let mut sum = 0;
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(sum),
            count => sum += count,
        }
    }
}

fn card(data: &MetricsData) -> Option<&NetworkInterface> {
    data.system.network.as_ref()?.interfaces.iter().find(|interface| &*interface.name == "eth0")
}
