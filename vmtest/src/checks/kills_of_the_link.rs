//! What is between agent and host is killed: the port, the hypervisor's socket, the socket of an agent that listens on one.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use infini_protocol::Timestamp;
use tokio::time::{Instant, sleep};

use crate::host_process::HostProcess;
use crate::local_agent::LocalAgent;
use crate::report::Figures;
use crate::stats::Durations;
use crate::workbench::Workbench;

/// How often each of them dies.
const KILLS: usize = 10;

/// Within this from its return the host must have fresh answers to signed requests.
const RECOVERY_LIMIT: Duration = Duration::from_secs(5);

/// A recovery that is late is still waited for, so that the figures say by how much.
const PATIENCE: Duration = Duration::from_secs(30);

/// They die so far apart at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// The port goes and comes while infinihost stays connected to its socket.
pub async fn port(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let before = bench.connect().await?.hello().await?.session_id;
    let mut link = Link::follow(bench, &bench.vm.agent_socket()).await?;
    for _ in 0..KILLS {
        sleep(bench.random.below(LONGEST_PAUSE)).await;
        bench.vm.unplug_agent_port().await?;
        let since = bench.guest_time().await?;
        let back = Instant::now();
        bench.vm.plug_agent_port().await?;
        link.recovered(since, back).await?;
    }
    link.finish("port", figures).await?;
    let after = bench.connect().await?.hello().await?.session_id;
    ensure!(before == after, "the agent was restarted: its session was {before} and is {after}");
    Ok(())
}

/// QEMU takes the socket's file away, and with it the connection, and makes it anew.
pub async fn socket(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let mut link = Link::follow(bench, &bench.vm.agent_socket()).await?;
    for _ in 0..KILLS {
        sleep(bench.random.below(LONGEST_PAUSE)).await;
        bench.vm.take_agent_socket_away().await?;
        ensure!(!bench.vm.agent_socket().exists(), "the socket is still there");
        let since = bench.guest_time().await?;
        let back = Instant::now();
        bench.vm.put_agent_socket_back().await?;
        link.recovered(since, back).await?;
    }
    link.finish("hypervisor's socket", figures).await
}

/// Somebody removes the file on which an agent listens; it makes another.
pub async fn local_socket(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let agent = LocalAgent::start(bench)?;
    let mut link = Link::follow(bench, &agent.socket).await?;
    for _ in 0..KILLS {
        sleep(bench.random.below(LONGEST_PAUSE)).await;
        // A connection outlives the file that it was made through, so the host side dies with it.
        std::fs::remove_file(&agent.socket)?;
        let killed = Instant::now();
        std::mem::replace(&mut link.host, HostProcess::start(bench, &agent.socket)?).kill().await?;
        link.recovered(Timestamp::from_system_time(SystemTime::now()), killed).await?;
    }
    link.finish("agent's own socket", figures).await?;
    agent.stop().await
}

/// A host side that goes on whatever dies, and how long it was without an answer each time.
struct Link {
    host: HostProcess,
    times: Durations,
}

impl Link {
    async fn follow(bench: &Workbench, socket: &Path) -> anyhow::Result<Self> {
        let mut host = HostProcess::start(bench, socket)?;
        // Any sample will do: what has no clock of its own here is before everything.
        host.answered(Timestamp::from_unix_ms(0), Instant::now() + PATIENCE).await.context("before any kill")?;
        Ok(Self { host, times: Durations::default() })
    }

    /// Waits for answers made at `since` or later, and counts from `back`.
    async fn recovered(&mut self, since: Timestamp, back: Instant) -> anyhow::Result<()> {
        let number = self.times.len() + 1;
        self.host.answered(since, back + PATIENCE).await.with_context(|| format!("after kill {number}"))?;
        self.times.push(back.elapsed());
        Ok(())
    }

    async fn finish(self, what: &str, figures: &mut Figures) -> anyhow::Result<()> {
        figures.note(format!("recovery, killed {what}"), &self.times);
        self.host.kill().await?;
        let slowest = self.times.percentile(100);
        ensure!(slowest <= RECOVERY_LIMIT, "the slowest recovery took {:.1} s", slowest.as_secs_f64());
        Ok(())
    }
}
