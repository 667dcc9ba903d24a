//! How the agent's coming and going with its host gets into the log.

use std::time::Instant;

use super::budget::{Admission, Budget};
use super::state::Phase;

/// A host that comes makes this many changes. One that comes and goes all the time must not fill the log with them.
const CHANGES_A_MINUTE: u32 = 3;

/// Tells changes of the phase: each where they are few, else one a minute with the count of the rest, which are told as details.
#[derive(Debug)]
pub struct PhaseLog {
    budget: Budget,
}

impl PhaseLog {
    /// A log with nothing in it.
    pub const fn new() -> Self {
        Self { budget: Budget::new(CHANGES_A_MINUTE) }
    }

    /// The agent went from one phase to another.
    pub fn changed(&mut self, from: Phase, to: Phase, now: Instant) {
        match self.budget.admit(now) {
            Admission::Send { dropped: 0 } => tracing::info!(?from, ?to, "{}", to.describe()),
            Admission::Send { dropped } => tell_with_count(to, dropped),
            Admission::Hold => tracing::debug!(?from, ?to, "{}", to.describe()),
        }
    }

    /// Time passed: where the agent has come to is told once the minute is over, though nothing more changes.
    pub fn tick(&mut self, phase: Phase, now: Instant) {
        if let Some(untold) = self.budget.overdue(now) {
            tell_with_count(phase, untold);
        }
    }
}

fn tell_with_count(phase: Phase, untold: u64) {
    tracing::info!(to = ?phase, untold, "{}; the host comes and goes, {untold} changes before were not told", phase.describe());
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::logging::logged;

    #[test]
    fn a_host_that_comes_and_goes_is_told_once_a_minute_with_the_count() {
        let start = Instant::now();
        let mut phases = PhaseLog::new();
        let mut flap = |count: usize, now: Instant| {
            let log = logged(|| {
                for _ in 0..count {
                    phases.changed(Phase::Active, Phase::Connecting, now);
                    phases.changed(Phase::Connecting, Phase::Connected, now);
                }
                phases.tick(Phase::Connected, now);
            });
            let infos: Vec<_> = log.lines().filter(|line| line.contains("INFO")).map(str::to_owned).collect();
            (infos, log.lines().filter(|line| line.contains("DEBUG")).count())
        };
        let (first, details) = flap(50, start);
        assert_eq!((first.len(), details), (3, 97), "{first:?}");
        for minute in 1..4 {
            let (next, details) = flap(50, start + minute * Duration::from_secs(60));
            assert_eq!((next.len(), details), (1, 99), "{next:?}");
            assert!(next[0].contains(if minute == 1 { "untold=97" } else { "untold=99" }), "{next:?}");
        }
        // It stays away: what is left is told though nothing changes any more.
        let (last, details) = flap(0, start + Duration::from_secs(240));
        assert_eq!((last.len(), details), (1, 0), "{last:?}");
        assert!(last[0].contains("untold=99") && last[0].contains("Connected"), "{last:?}");
    }
}
