//! systemd asks the agent to end.

use anyhow::{Context as _, ensure};

use crate::report::Figures;
use crate::tolerance::same;
use crate::workbench::{UNIT, Workbench};

const LIMIT_MS: u64 = 3000;

/// It ends by itself, soon, and with success.
pub async fn is_clean(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let _host = bench.connect().await?;
    bench.vm.run(&format!("systemctl stop {UNIT}")).await?;
    // From SIGTERM until the last process was gone, by systemd's own clock: starting systemctl is not the agent's time.
    let began = moment(bench, "ActiveExitTimestampMonotonic").await?;
    let ended = moment(bench, "InactiveEnterTimestampMonotonic").await?;
    let took = ended.saturating_sub(began) / 1000;
    let end = bench.vm.run(&format!("systemctl show --property=Result,ExecMainCode,ExecMainStatus {UNIT}")).await;
    bench.vm.run(&format!("systemctl start {UNIT}")).await?;
    figures.note("stopping by SIGTERM", format!("{took} ms"));
    ensure!(took <= LIMIT_MS, "stopping took {took} ms, {LIMIT_MS} ms are allowed");
    // 1 is CLD_EXITED: it ended by itself and not by a signal.
    let mut end: Vec<String> = end?.lines().map(str::to_owned).collect();
    end.sort();
    same("how it ended", end.join(" ").as_str(), "ExecMainCode=1 ExecMainStatus=0 Result=success")
}

/// One of the unit's moments, in microseconds since boot.
async fn moment(bench: &Workbench, property: &str) -> anyhow::Result<u64> {
    let value = bench.vm.run(&format!("systemctl show --property={property} --value {UNIT}")).await?;
    value.parse().with_context(|| format!("{property} is {value:?}"))
}
