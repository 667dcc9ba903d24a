//! infinihost as a process of its own, which can be killed as the host side of a hypervisor can.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, bail};
use infini_protocol::Timestamp;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::time::{Instant, timeout_at};

use crate::qemu::bound_to_us;
use crate::workbench::Workbench;

/// The shortest interval that infinihost offers, so that recoveries are measured finely.
const INTERVAL: &str = "100ms";

/// How many samples show that a signed request was answered: within seconds the agent sends at most two unasked, one when it starts or
/// sees a host and one of its own interval.
const PROOF: usize = 3;

/// `infinihost watch`, following one socket; dropping it kills it.
#[derive(Debug)]
pub struct HostProcess {
    child: Child,
    samples: Lines<BufReader<ChildStdout>>,
}

#[derive(Deserialize)]
struct Line {
    timestamp: Timestamp,
}

impl HostProcess {
    /// Starts it on that socket, whether anybody listens there yet or not.
    pub fn start(bench: &Workbench, socket: &Path) -> anyhow::Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(bench.logs.join("infinihost.log"))?;
        let mut child = bound_to_us(&bench.args.host)
            .arg("watch")
            .arg(socket)
            .arg("--secret-file")
            .arg(&bench.secret_file)
            .args(["--json", "--wait", "--interval", INTERVAL])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", bench.args.host.display()))?;
        let stdout = child.stdout.take().context("infinihost has no output")?;
        Ok(Self { child, samples: BufReader::new(stdout).lines() })
    }

    /// Waits until it prints the answer to a signed request, with a sample made at `since` by the agent's clock or later.
    pub async fn answered(&mut self, since: Timestamp, deadline: Instant) -> anyhow::Result<()> {
        let (mut fresh, mut old) = (0, 0);
        while fresh < PROOF {
            let Ok(line) = timeout_at(deadline, self.samples.next_line()).await else {
                bail!("infinihost printed {fresh} fresh samples and {old} old ones, {PROOF} fresh ones are needed");
            };
            let Some(line) = line? else {
                bail!("infinihost ended by itself: {}", self.child.wait().await?);
            };
            let line: Line = serde_json::from_str(&line).with_context(|| format!("infinihost printed {line:?}"))?;
            if line.timestamp >= since {
                fresh += 1;
            } else {
                old += 1;
            }
        }
        Ok(())
    }

    /// SIGKILL, and its socket is closed.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("killing infinihost")
    }
}
