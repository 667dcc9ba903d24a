//! How many complaints a minute a host gets to read.

use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

/// Lets a burst through each minute; once a minute had more than that, one a minute with the count of the rest, until a quiet minute.
#[derive(Debug)]
pub struct Budget {
    burst: u32,
    window: Option<Instant>,
    seen: u32,
    flooded: bool,
    held: u64,
}

/// What to do with one complaint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Say it, and that so many before it were not said.
    Send {
        /// How many were held back since the last that was said.
        dropped: u64,
    },
    /// Only count it.
    Hold,
}

impl Budget {
    /// A budget of that many a minute.
    #[must_use]
    pub const fn new(burst: u32) -> Self {
        Self { burst, window: None, seen: 0, flooded: false, held: 0 }
    }

    /// Asks for one complaint.
    pub fn admit(&mut self, now: Instant) -> Admission {
        self.admit_for(1, now)
    }

    /// Asks for one complaint that stands for so many; they count as held where it is not said.
    pub fn admit_for(&mut self, count: u64, now: Instant) -> Admission {
        self.roll(now);
        self.seen = self.seen.saturating_add(1);
        let allowed = if self.flooded { 1 } else { self.burst };
        if self.seen > allowed {
            self.held += count;
            return Admission::Hold;
        }
        Admission::Send { dropped: std::mem::take(&mut self.held) }
    }

    /// What was held back and should be told now that its minute is over, though no further complaint came.
    pub fn overdue(&mut self, now: Instant) -> Option<u64> {
        if self.held == 0 || !self.is_over(now) {
            return None;
        }
        self.roll(now);
        self.seen = 1;
        Some(std::mem::take(&mut self.held))
    }

    fn is_over(&self, now: Instant) -> bool {
        self.window.is_none_or(|start| now.saturating_duration_since(start) >= MINUTE)
    }

    fn roll(&mut self, now: Instant) {
        if self.is_over(now) {
            let long_ago = self.window.is_none_or(|start| now.saturating_duration_since(start) >= 2 * MINUTE);
            self.flooded = !long_ago && self.seen > self.burst;
            self.window = Some(now);
            self.seen = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_as_one_line_a_minute_with_its_count() {
        let start = Instant::now();
        let mut budget = Budget::new(100);
        let said = (0..1000).filter(|_| budget.admit(start) != Admission::Hold).count();
        assert_eq!(said, 100);

        let next = start + MINUTE;
        assert_eq!(budget.admit(next), Admission::Send { dropped: 900 });
        assert_eq!(budget.admit(next), Admission::Hold);
    }

    #[test]
    fn a_quiet_minute_gives_the_whole_burst_back() {
        let start = Instant::now();
        let mut budget = Budget::new(2);
        for _ in 0..5 {
            budget.admit(start);
        }
        let later = start + 3 * MINUTE;
        assert_eq!(budget.admit(later), Admission::Send { dropped: 3 });
        assert_eq!(budget.admit(later), Admission::Send { dropped: 0 });
    }

    #[test]
    fn what_was_held_is_told_when_nothing_more_comes() {
        let start = Instant::now();
        let mut budget = Budget::new(1);
        budget.admit(start);
        budget.admit(start);
        assert_eq!(budget.overdue(start), None);
        assert_eq!(budget.overdue(start + MINUTE), Some(1));
        assert_eq!(budget.overdue(start + 2 * MINUTE), None);
    }
}
