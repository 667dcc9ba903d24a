//! The install script takes back what it did.

use std::time::Duration;

use anyhow::ensure;

use crate::report::Figures;
use crate::workbench::{UNIT, Workbench};

/// No file, no unit, no process.
pub async fn leaves_nothing(bench: &mut Workbench, _figures: &mut Figures) -> anyhow::Result<()> {
    bench.vm.run_for(Duration::from_secs(40), "sh /opt/vmtest/package/install-linux.sh --uninstall").await?;
    // The second disk, where the script came from, is another file system.
    let files = bench.vm.run("find / /run /tmp -xdev -iname '*infiniservice*'").await?;
    ensure!(files.is_empty(), "these are still there:\n{files}");
    let unit = bench.vm.run(&format!("systemctl show --property=LoadState --value {UNIT}")).await?;
    ensure!(unit == "not-found", "systemd still knows the unit: {unit}");
    let processes = bench.vm.run("pgrep -l infiniservice || true").await?;
    ensure!(processes.is_empty(), "still running: {processes}");
    Ok(())
}
