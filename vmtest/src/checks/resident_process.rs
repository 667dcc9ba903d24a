//! A process of 100 MiB.

use std::time::Duration;

use crate::report::Figures;
use crate::tolerance::within_percent;
use crate::workbench::Workbench;

const MIB: f64 = 100.0;

/// Starts one and looks at it.
pub async fn is_seen(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let mut host = bench.connect().await?;
    let process = bench.vm.start(&format!("vmtest guest resident --mib {MIB}")).await?;
    let found = host
        .sample_with("the process of 100 MiB", Duration::from_secs(10), |data| {
            data.processes.as_ref()?.iter().find(|entry| entry.pid == process.pid).map(|entry| entry.memory_kb)
        })
        .await;
    bench.vm.kill(&process).await?;
    let kib = found?.1 as f64;
    let off = within_percent("KiB of the process", kib, MIB * 1024.0, 5.0)?;
    figures.note("process of 100 MiB", format!("{:.2} MiB ({off:+.2} %)", kib / 1024.0));
    Ok(())
}
