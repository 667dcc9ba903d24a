//! Provisioning: the install script puts the agent into the machine, and run again it changes only the program.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::Instant;

use crate::report::Figures;
use crate::tolerance::same;
use crate::workbench::{UNIT, VM_ID, Workbench};

const INSTALL_DEADLINE: Duration = Duration::from_secs(100);

/// How soon a started agent has its port open.
const OPEN_DEADLINE: Duration = Duration::from_secs(20);

/// Calls the script as provisioning does, and waits until the agent opens its port.
pub async fn installs(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let started = Instant::now();
    let script = "cd /opt/vmtest/package && \
                  INFINISERVICE_SHARED_SECRET=$(cat ../secret) sh ./install-linux.sh normal";
    bench.vm.run_for(INSTALL_DEADLINE, &format!("{script} {VM_ID}")).await?;
    figures.note("installing and starting", format!("{:.1} s", started.elapsed().as_secs_f64()));
    bench.vm.agent_port_opened(OPEN_DEADLINE).await?;
    same("state of the unit", bench.vm.run(&format!("systemctl is-active {UNIT}")).await?.as_str(), "active")?;
    same("the unit at boot", bench.vm.run(&format!("systemctl is-enabled {UNIT}")).await?.as_str(), "enabled")?;
    let secret = bench.vm.run("stat --format='%a %U' /etc/infiniservice/secret").await?;
    same("mode and owner of the secret", secret.as_str(), "600 root")
}

/// Runs the script again, as an upgrade does: without a secret, after the administrator changed the configuration.
pub async fn keeps_the_configuration(bench: &mut Workbench, _figures: &mut Figures) -> anyhow::Result<()> {
    const READ: &str = "cat /etc/infiniservice/config.toml /etc/infiniservice/secret";
    bench.vm.run("echo '# the administrator was here' >>/etc/infiniservice/config.toml").await?;
    let before = bench.vm.run(READ).await?;
    let pid = bench.agent_pid().await?;
    let script = format!("cd /opt/vmtest/package && sh ./install-linux.sh normal {VM_ID}");
    bench.vm.run_for(INSTALL_DEADLINE, &script).await?;
    ensure!(bench.vm.run(READ).await? == before, "the configuration or the secret is not what it was");
    ensure!(bench.agent_pid().await? != pid, "the old program still runs");
    bench.connect().await?.sample().await.map(drop)
}
