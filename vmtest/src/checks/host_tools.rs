//! The infinihost program, as a person uses it on the hypervisor.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::time::timeout;

use crate::qemu::bound_to_us;
use crate::report::Figures;
use crate::workbench::Workbench;

/// The guest's name, which its image gives it.
const HOSTNAME: &str = "vmtest-guest";

const DEADLINE: Duration = Duration::from_secs(30);

/// One sample.
pub async fn metrics(bench: &mut Workbench, _figures: &mut Figures) -> anyhow::Result<()> {
    let output = infinihost(bench, "metrics", &["--json"]).await?;
    ensure!(output.len() == 1, "not one line but {}: {output:?}", output.len());
    check_sample(&output[0])
}

/// Samples for five seconds.
pub async fn watch(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let output = infinihost(bench, "watch", &["--json", "--duration", "5s"]).await?;
    let samples: Vec<&Value> = output.iter().filter(|line| line.pointer("/data/system").is_some()).collect();
    figures.note("samples of infinihost watch in 5 s", samples.len());
    ensure!(samples.len() >= 3, "only {} samples in 5 s: {output:?}", samples.len());
    samples.into_iter().try_for_each(check_sample)
}

async fn infinihost(bench: &Workbench, verb: &str, options: &[&str]) -> anyhow::Result<Vec<Value>> {
    let mut command = bound_to_us(&bench.args.host);
    command.arg(verb).arg(bench.vm.agent_socket()).arg("--secret-file").arg(&bench.secret_file).args(options);
    let output =
        timeout(DEADLINE, command.output()).await.with_context(|| format!("infinihost {verb} did not end"))??;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "infinihost {verb} ended with {}\n{stdout}{stderr}", output.status);
    stdout.lines().map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))).collect()
}

fn check_sample(line: &Value) -> anyhow::Result<()> {
    let cores =
        line.pointer("/data/system/cpu/cores_usage").and_then(Value::as_array).context("no cores in the sample")?;
    ensure!(cores.len() == 2, "the guest has 2 cores, not {}", cores.len());
    let name = line.pointer("/data/system/info/hostname").and_then(Value::as_str);
    ensure!(name == Some(HOSTNAME), "the sample's hostname is {name:?}");
    Ok(())
}
