//! What kills anywhere have in common: who dies, how long until the host has a fresh answer, and the verdict.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use infini_protocol::Timestamp;
use tokio::time::{Instant, sleep};

use crate::host_process::HostProcess;
use crate::report::Figures;
use crate::stats::Durations;
use crate::workbench::Workbench;

/// Within this the host must have a fresh answer to a signed request.
const RECOVERY_LIMIT: Duration = Duration::from_secs(5);

/// A recovery that is late is still waited for, so that the next kill is judged by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// Kills happen this far apart at most, so that they also hit agents that have hardly begun.
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// An agent that can be killed, somewhere.
pub trait Place {
    /// For the figures.
    const NAME: &'static str;

    /// Where the host side reaches it.
    fn socket(&self) -> &Path;

    /// The time there.
    async fn now(&self, bench: &Workbench) -> anyhow::Result<Timestamp>;

    /// SIGKILL; another is started without a hand.
    async fn kill_agent(&mut self, bench: &Workbench) -> anyhow::Result<()>;
}

/// Kills the agent or the host side, whichever the seed says, so many times at random moments.
pub async fn recover<P: Place>(
    bench: &mut Workbench,
    place: &mut P,
    kills: usize,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let mut tally = Tally::default();
    let mut host = HostProcess::start(bench, place.socket())?;
    host.answered(place.now(bench).await?, Instant::now() + PATIENCE).await.context("before any kill")?;
    for _ in 0..kills {
        sleep(bench.random.below(LONGEST_PAUSE)).await;
        let victim = if bench.random.coin() { Victim::Host } else { Victim::Agent };
        let killed = Instant::now();
        if victim == Victim::Host {
            host.kill().await?;
            host = HostProcess::start(bench, place.socket())?;
        } else if let Err(error) = place.kill_agent(bench).await {
            tally.late.push(format!("{error:#}; nothing more was killed"));
            break;
        }
        let recovery = host.answered(place.now(bench).await?, killed + PATIENCE).await;
        if recovery.is_err() {
            host.kill().await?;
            host = HostProcess::start(bench, place.socket())?;
        }
        tally.add(victim, killed.elapsed(), recovery);
    }
    host.kill().await?;
    tally.finish(P::NAME, figures)
}

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// infinihost: SIGKILL, and another is started.
    Host,
    /// The agent: SIGKILL.
    Agent,
}

/// How the kills went so far.
#[derive(Debug, Default)]
struct Tally {
    host: Durations,
    agent: Durations,
    late: Vec<String>,
}

impl Tally {
    /// Takes one recovery; an error is a recovery that never came.
    fn add(&mut self, victim: Victim, took: Duration, recovery: anyhow::Result<()>) {
        let number = self.host.len() + self.agent.len() + 1;
        match victim {
            Victim::Host => self.host.push(took),
            Victim::Agent => self.agent.push(took),
        }
        match recovery {
            Ok(()) if took <= RECOVERY_LIMIT => {}
            Ok(()) => self.late.push(format!("kill {number} ({victim:?}) took {:.1} s", took.as_secs_f64())),
            Err(error) => self.late.push(format!("kill {number} ({victim:?}) was not recovered from: {error:#}")),
        }
    }

    /// Notes the distributions and says whether all were in time.
    fn finish(self, place: &str, figures: &mut Figures) -> anyhow::Result<()> {
        let mut all = self.host.clone();
        all.extend(self.agent.iter());
        figures.note(format!("recovery, killed host, {place}"), &self.host);
        figures.note(format!("recovery, killed agent, {place}"), &self.agent);
        figures.note(format!("recovery, all kills, {place}"), &all);
        ensure!(
            self.late.is_empty(),
            "{} of {} recoveries failed:\n{}",
            self.late.len(),
            all.len(),
            self.late.join("\n")
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_or_missing_recovery_is_a_failure_with_its_number() {
        let mut tally = Tally::default();
        tally.add(Victim::Host, RECOVERY_LIMIT, Ok(()));
        tally.add(Victim::Agent, Duration::from_secs(6), Ok(()));
        tally.add(Victim::Host, Duration::ZERO, Err(anyhow::anyhow!("gone")));
        let error = tally.finish("here", &mut Figures::default()).unwrap_err().to_string();
        for part in ["2 of 3", "kill 2 (Agent) took 6.0 s", "kill 3 (Host) was not recovered from: gone"] {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    }

    #[test]
    fn recoveries_in_time_pass() {
        let mut tally = Tally::default();
        tally.add(Victim::Host, Duration::ZERO, Ok(()));
        tally.finish("here", &mut Figures::default()).unwrap();
    }
}
