//! 64 MiB written past the page cache.

use std::time::Duration;

use anyhow::Context as _;
use infini_protocol::metrics::{DiskIo, MetricsData};
use tokio::time::sleep;

use crate::host_side::total;
use crate::report::Figures;
use crate::tolerance::within_percent;
use crate::workbench::Workbench;

const MIB: f64 = 64.0;

/// Writes and sums what the samples around it say.
pub async fn is_seen(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let mut host = bench.connect().await?;
    host.services_known().await?;
    bench.vm.run("sync").await?;
    let before = host.sample().await?;
    let write = format!("dd if=/dev/zero of=/var/tmp/vmtest.data bs=1M count={MIB} oflag=direct status=none");
    bench.vm.run(&write).await?;
    sleep(Duration::from_secs(2)).await;
    let samples = host.samples().await?;
    bench.vm.run("rm /var/tmp/vmtest.data").await?;
    let all = total(before.at, &samples, |data| Some(data.system.disk.as_ref()?.io_stats?.write_bytes_per_sec));
    let one = total(before.at, &samples, |data| Some(root_disk(data)?.write_bytes_per_sec));
    let expected = MIB * f64::from(1 << 20);
    let off = within_percent("bytes written to all disks", all, expected, 5.0)?;
    within_percent("bytes written to vda", one, expected, 5.0)?;
    figures.note("64 MiB written with O_DIRECT", format!("{:.2} MiB ({off:+.2} %)", all / f64::from(1 << 20)));
    samples.last().and_then(|sample| root_disk(&sample.data)).context("vda is not among the disks").map(drop)
}

fn root_disk(data: &MetricsData) -> Option<DiskIo> {
    let devices = data.system.disk.as_ref()?.devices.as_ref()?;
    devices.iter().find(|device| &*device.name == "vda").map(|device| device.io)
}
