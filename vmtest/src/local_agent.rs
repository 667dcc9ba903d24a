//! An agent as a process of this machine, listening on a socket.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::qemu::bound_to_us;
use crate::workbench::{Workbench, write_private};

/// SIGTERM must have ended it by then.
const STOP_DEADLINE: Duration = Duration::from_secs(3);

/// One agent, one socket; dropping it kills it.
#[derive(Debug)]
pub struct LocalAgent {
    child: Child,
    program: PathBuf,
    config: PathBuf,
    log: PathBuf,
    /// Where it listens.
    pub socket: PathBuf,
}

impl LocalAgent {
    /// Starts one with the secret of the machine and a state of its own.
    pub fn start(bench: &Workbench) -> anyhow::Result<Self> {
        let folder = bench.scratch.join("local");
        std::fs::create_dir_all(folder.join("state"))?;
        let config = folder.join("config.toml");
        let text = format!(
            "vm_id = \"vmtest-local\"\nauth = \"secret\"\nsecret_file = {:?}\nstate_dir = {:?}\n",
            bench.secret_file,
            folder.join("state")
        );
        write_private(&config, &text)?;
        let socket = folder.join("agent.sock");
        let log = bench.logs.join("local-agent.log");
        std::fs::write(&log, "")?;
        let child = spawn(&bench.args.agent, &config, &socket, &log)?;
        Ok(Self { child, program: bench.args.agent.clone(), config, log, socket })
    }

    /// SIGKILL, and at once another, as systemd would without a pause.
    pub async fn kill_and_start_again(&mut self) -> anyhow::Result<()> {
        self.child.kill().await?;
        self.child = spawn(&self.program, &self.config, &self.socket, &self.log)?;
        Ok(())
    }

    /// Ends it as systemd would.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.child.id().context("the agent has ended by itself")?;
        Command::new("kill").arg("-TERM").arg(pid.to_string()).status().await?;
        let status = timeout(STOP_DEADLINE, self.child.wait()).await.context("SIGTERM did not end the agent")??;
        ensure!(status.success(), "SIGTERM ended the agent with {status}");
        Ok(())
    }
}

fn spawn(program: &Path, config: &Path, socket: &Path, log: &Path) -> anyhow::Result<Child> {
    let log = std::fs::OpenOptions::new().append(true).open(log)?;
    bound_to_us(program)
        .arg("--config")
        .arg(config)
        .arg("--device")
        .arg(format!("unix-listen:{}", socket.display()))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("starting {}", program.display()))
}
