//! The agent's own diagnosis, asked while its service runs.

use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::time::Duration;

use crate::report::Figures;
use crate::workbench::Workbench;

/// Wants it to find nothing wrong.
pub async fn finds_the_agent_healthy(bench: &mut Workbench, _figures: &mut Figures) -> anyhow::Result<()> {
    // The host must be attached, or its absence would be a finding.
    let _host = bench.connect().await?;
    let outcome = bench.vm.try_run_for(Duration::from_secs(30), "infiniservice --diagnose --json").await?;
    ensure!(outcome.code == Some(0), "exit code {:?}\n{}{}", outcome.code, outcome.stdout, outcome.stderr);
    let report: Value = serde_json::from_str(&outcome.stdout).context("--json gave no JSON")?;
    ensure!(report["healthy"] == true, "not healthy: {report:#}");
    Ok(())
}
