//! 64 MiB over the guest's network card, out of it and into it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use infini_protocol::metrics::{MetricsData, NetworkInterface};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::host_side::{HostSide, Sample, total};
use crate::report::Figures;
use crate::tolerance::{same, within_percent};
use crate::workbench::Workbench;

const BYTES: usize = 64 << 20;

/// Frame headers and acknowledgements count, payload is what is known.
const TOLERANCE_PERCENT: f64 = 5.0;

/// The address that QEMU's user network expects of its first guest.
const ADDRESS: &str = "10.0.2.15";

/// How long the guest may take for all bytes of one direction.
const TRANSFER_DEADLINE: Duration = Duration::from_secs(60);

/// Sends, receives, and compares counters and rates with what crossed.
pub async fn is_seen(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    bench.vm.run(&format!("ip address replace {ADDRESS}/24 dev eth0 && ip link set eth0 up")).await?;
    let mut host = bench.connect().await?;
    host.services_known().await?;
    let here = TcpListener::bind("127.0.0.1:0").await?;
    let there = format!("/dev/tcp/10.0.2.2/{}", here.local_addr()?.port());

    let before = host.sample().await?;
    let send = format!("bash -c 'head -c {BYTES} /dev/zero >{there}'");
    let (sent, received) = tokio::join!(bench.vm.run_for(TRANSFER_DEADLINE, &send), read_all(&here));
    sent?;
    same("bytes that arrived here", received?, BYTES)?;
    let after = settled(&mut host).await?;
    let out = Direction { name: "sent", counter: |card| card.bytes_sent, rate: |card| card.sent_bytes_per_sec };
    out.check(&before, &after, figures)?;

    let before = host.sample().await?;
    let receive = format!("bash -c 'wc -c <{there}'");
    let (received, sent) = tokio::join!(bench.vm.run_for(TRANSFER_DEADLINE, &receive), write_all(&here));
    sent?;
    same("bytes that arrived in the guest", received?.trim(), BYTES.to_string().as_str())?;
    let after = settled(&mut host).await?;
    let into =
        Direction { name: "received", counter: |card| card.bytes_received, rate: |card| card.received_bytes_per_sec };
    into.check(&before, &after, figures)?;

    let card = after.last().and_then(|sample| card(&sample.data)).context("eth0 is not in the sample")?;
    same("eth0 is up", card.is_up, true)?;
    ensure!(
        card.ip_addresses.iter().any(|address| &**address == ADDRESS),
        "{ADDRESS} is not in {:?}",
        card.ip_addresses
    );
    Ok(())
}

/// All samples until one that was made after the last bytes were counted.
async fn settled(host: &mut HostSide) -> anyhow::Result<Vec<Sample>> {
    sleep(Duration::from_secs(2)).await;
    host.samples().await
}

/// One way through the card.
struct Direction {
    name: &'static str,
    counter: fn(&NetworkInterface) -> u64,
    rate: fn(&NetworkInterface) -> Option<u64>,
}

impl Direction {
    fn check(&self, before: &Sample, after: &[Sample], figures: &mut Figures) -> anyhow::Result<()> {
        let count = |sample: &Sample| card(&sample.data).map(self.counter).context("eth0 is not in the sample");
        let counted = count(after.last().context("no sample")?)?.checked_sub(count(before)?);
        let counted = counted.context("the counter went back")?;
        let rated = total(before.at, after, |data| (self.rate)(card(data)?));
        let off = |by: &str, bytes: f64| {
            within_percent(&format!("bytes {}, by the {by}", self.name), bytes, BYTES as f64, TOLERANCE_PERCENT)
        };
        let (off, off_rate) = (off("counter", counted as f64)?, off("rates", rated)?);
        figures.note(
            format!("64 MiB {} over the network", self.name),
            format!("{off:+.2} % by the counter, {off_rate:+.2} % by the rates"),
        );
        Ok(())
    }
}

async fn read_all(listener: &TcpListener) -> anyhow::Result<usize> {
    let (mut stream, _) = listener.accept().await?;
    let mut buffer = vec![0; 1 << 20];
    let mut sum = 0;
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(sum),
            count => sum += count,
        }
    }
}

async fn write_all(listener: &TcpListener) -> anyhow::Result<()> {
    let (mut stream, _) = listener.accept().await?;
    stream.write_all(&vec![0; BYTES]).await?;
    stream.shutdown().await.context("closing the connection")
}

fn card(data: &MetricsData) -> Option<&NetworkInterface> {
    data.system.network.as_ref()?.interfaces.iter().find(|interface| &*interface.name == "eth0")
}
