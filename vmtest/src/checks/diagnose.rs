//! The agent's own diagnosis, asked while its service runs.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::report::Figures;
use crate::tolerance::same;
use crate::workbench::Workbench;

/// How soon the guest's driver knows that the host side is gone.
const GONE: Duration = Duration::from_secs(5);

/// Wants it to find nothing wrong while a host is there, and to say so once it has left.
pub async fn finds_what_is_so(bench: &mut Workbench, _figures: &mut Figures) -> anyhow::Result<()> {
    let host = bench.connect().await?;
    let report = diagnose(bench).await?;
    ensure!(report["healthy"] == true, "not healthy: {report:#}");
    same("level of the finding on the host while it is there", host_finding(&report)?.0, "ok")?;
    drop(host);
    let until = Instant::now() + GONE;
    loop {
        let report = diagnose(bench).await?;
        let (level, message) = host_finding(&report)?;
        if level == "warning" && message.contains("nobody is attached") {
            return Ok(());
        }
        ensure!(Instant::now() < until, "the host has left, and the diagnosis says {level}: {message}");
        sleep(Duration::from_millis(200)).await;
    }
}

async fn diagnose(bench: &Workbench) -> anyhow::Result<Value> {
    let outcome = bench.vm.try_run_for(Duration::from_secs(30), "infiniservice --diagnose --json").await?;
    ensure!(outcome.code == Some(0), "exit code {:?}\n{}{}", outcome.code, outcome.stdout, outcome.stderr);
    serde_json::from_str(&outcome.stdout).context("--json gave no JSON")
}

/// The level and the words of what was found on the host.
fn host_finding(report: &Value) -> anyhow::Result<(&str, &str)> {
    let findings = report["findings"].as_array().context("no findings")?;
    let host = findings.iter().find(|finding| finding["subject"] == "host").context("nothing is said of the host")?;
    host["level"].as_str().zip(host["message"].as_str()).with_context(|| format!("an odd finding: {host}"))
}
