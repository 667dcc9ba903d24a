//! How a set of durations is distributed.

use std::fmt;
use std::time::Duration;

/// Durations that were measured one by one.
#[derive(Debug, Default, Clone)]
pub struct Durations(Vec<Duration>);

impl Durations {
    /// Takes one more.
    pub fn push(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Duration> {
        self.0.iter().copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest value that `percent` of all do not exceed (nearest rank); zero where there is none.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }
}

impl Extend<Duration> for Durations {
    fn extend<I: IntoIterator<Item = Duration>>(&mut self, durations: I) {
        self.0.extend(durations);
    }
}

impl fmt::Display for Durations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |percent| self.percentile(percent).as_millis();
        write!(
            f,
            "{} times: min {} ms, median {} ms, 90 % {} ms, 99 % {} ms, max {} ms",
            self.len(),
            ms(0),
            ms(50),
            ms(90),
            ms(99),
            ms(100)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Durations {
        let mut durations = Durations::default();
        durations.extend(values.into_iter().map(Duration::from_millis));
        durations
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let hundred = of((1..=100).rev());
        for (percent, ms) in [(0, 1), (1, 1), (50, 50), (90, 90), (99, 99), (100, 100)] {
            assert_eq!(hundred.percentile(percent), Duration::from_millis(ms), "{percent} %");
        }
        assert_eq!(of([7]).percentile(50), Duration::from_millis(7));
        assert_eq!(of([1, 2, 3]).percentile(50), Duration::from_millis(2));
    }

    #[test]
    fn nothing_measured_is_zero() {
        assert_eq!(of([]).percentile(99), Duration::ZERO);
        assert!(of([]).to_string().starts_with("0 times"));
    }
}
