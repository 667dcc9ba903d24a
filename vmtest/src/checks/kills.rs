//! What kills of either kind have in common: who dies, how long until the host has a fresh sample, and the verdict.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::Instant;

use crate::report::Figures;
use crate::stats::Durations;

/// Within this the host must have a fresh answer to a signed request.
const RECOVERY_LIMIT: Duration = Duration::from_secs(5);

/// A recovery that is late is still waited for, so that the next kill is judged by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// Kills happen this far apart at most, so that they also hit agents that have hardly begun.
pub const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// The host side: its connection closes.
    Host,
    /// The agent: SIGKILL.
    Agent,
}

/// How the kills went so far.
#[derive(Debug)]
pub struct Tally {
    place: &'static str,
    host: Durations,
    agent: Durations,
    late: Vec<String>,
}

impl Tally {
    /// None yet.
    pub fn new(place: &'static str) -> Self {
        Self { place, host: Durations::default(), agent: Durations::default(), late: Vec::new() }
    }

    /// When to give up waiting for a recovery that began then.
    pub fn deadline(killed: Instant) -> Instant {
        killed + PATIENCE
    }

    /// Takes one recovery; an error is a recovery that never came.
    pub fn add(&mut self, victim: Victim, killed: Instant, recovery: anyhow::Result<()>) {
        let took = killed.elapsed();
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
    pub fn finish(self, figures: &mut Figures) -> anyhow::Result<()> {
        let mut all = self.host.clone();
        all.extend(self.agent.iter());
        figures.note(format!("recovery, killed host, {}", self.place), &self.host);
        figures.note(format!("recovery, killed agent, {}", self.place), &self.agent);
        figures.note(format!("recovery, all kills, {}", self.place), &all);
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
        let mut tally = Tally::new("here");
        let now = Instant::now();
        tally.add(Victim::Host, now, Ok(()));
        tally.add(Victim::Agent, now - Duration::from_secs(6), Ok(()));
        tally.add(Victim::Host, now, Err(anyhow::anyhow!("gone")));
        let error = tally.finish(&mut Figures::default()).unwrap_err().to_string();
        for part in ["2 of 3", "kill 2 (Agent) took 6.0 s", "kill 3 (Host) was not recovered from: gone"] {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    }

    #[test]
    fn recoveries_in_time_pass() {
        let mut tally = Tally::new("here");
        tally.add(Victim::Host, Instant::now(), Ok(()));
        tally.finish(&mut Figures::default()).unwrap();
    }
}
