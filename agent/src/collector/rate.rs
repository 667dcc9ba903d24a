//! From counters to rates.

use std::time::Duration;

/// So many in that time, as so many a second, rounded; zero where no time passed.
pub fn per_second(count: u64, elapsed: Duration) -> u64 {
    let nanos = elapsed.as_nanos();
    let scaled = u128::from(count) * 1_000_000_000 + nanos / 2;
    scaled.checked_div(nanos).map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_rounded_to_the_nearest() {
        assert_eq!(per_second(10, Duration::from_secs(4)), 3);
        assert_eq!(per_second(9, Duration::from_secs(4)), 2);
        assert_eq!(per_second(1_000, Duration::from_millis(250)), 4_000);
    }

    #[test]
    fn no_time_and_no_room_are_no_panic() {
        assert_eq!(per_second(7, Duration::ZERO), 0);
        assert_eq!(per_second(u64::MAX, Duration::from_nanos(1)), u64::MAX);
    }
}
