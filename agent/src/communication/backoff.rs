//! How long to wait before the next attempt. No clock and no randomness inside: both are passed in.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// A connection that lasted this long was a good one: the next failure starts from the beginning.
const STABLE: Duration = Duration::from_secs(60);
/// Machines that lost the same host come back spread over a fifth of the wait.
const JITTER: f64 = 0.1;

/// Waits from 1 s to 60 s, each twice the one before, ±10 %.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    opened: Option<Instant>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST, opened: None }
    }
}

impl Backoff {
    /// A connection came about.
    pub const fn opened(&mut self, now: Instant) {
        self.opened = Some(now);
    }

    /// The wait after a failed attempt or a lost connection. `random` is uniform in `0.0..1.0`.
    pub fn wait(&mut self, now: Instant, random: f64) -> Duration {
        if self.opened.take().is_some_and(|opened| now.duration_since(opened) >= STABLE) {
            self.next = FIRST;
        }
        let wait = jittered(self.next, random);
        self.next = (self.next * 2).min(LONGEST);
        wait
    }

    /// The wait after the device itself vanished, which says nothing about the host: another may stand in its place already, and was
    /// there too early to be noticed. However often that happens, the next look is as soon.
    pub fn vanished(random: f64) -> Duration {
        jittered(FIRST, random)
    }
}

fn jittered(wait: Duration, random: f64) -> Duration {
    wait.mul_f64(1.0 - JITTER + 2.0 * JITTER * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(backoff: &mut Backoff, now: Instant, count: usize) -> Vec<u64> {
        (0..count).map(|_| backoff.wait(now, 0.5).as_secs()).collect()
    }

    #[test]
    fn doubles_from_one_second_to_a_minute() {
        let waits = waits(&mut Backoff::default(), Instant::now(), 9);
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn jitter_is_ten_per_cent_each_way() {
        let now = Instant::now();
        assert_eq!(Backoff::default().wait(now, 0.0), Duration::from_millis(900));
        assert_eq!(Backoff::default().wait(now, 1.0), Duration::from_millis(1100));
    }

    #[test]
    fn only_a_stable_connection_starts_it_over() {
        let mut backoff = Backoff::default();
        let start = Instant::now();
        assert_eq!(waits(&mut backoff, start, 3), [1, 2, 4]);
        backoff.opened(start);
        assert_eq!(waits(&mut backoff, start + Duration::from_secs(59), 1), [8]);
        backoff.opened(start);
        assert_eq!(waits(&mut backoff, start + Duration::from_secs(60), 2), [1, 2]);
    }
}
