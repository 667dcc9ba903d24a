//! When a group is read again. Pure: time is passed in.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::settings::Group;

/// Rates over less than this are noise: the kernel counts processor time in ticks of 10 ms on many machines.
pub const SHORTEST_RATE: Duration = Duration::from_millis(250);

/// The most by which a reading may come before its time.
const MOST_TOLERANCE: Duration = Duration::from_secs(2);

/// Whether so much time is an interval.
///
/// A little less counts too: otherwise an interval equal to the sample's own would make every other sample reuse old figures, because two
/// ticks are never apart by exactly their interval.
pub(super) fn is_over(elapsed: Duration, interval: Duration) -> bool {
    elapsed + (interval / 10).min(MOST_TOLERANCE) >= interval
}

/// When each group was read.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    asked: BTreeMap<Group, Instant>,
    read: BTreeMap<Group, Instant>,
}

impl Schedule {
    /// Whether figures of `group` that are kept for `interval` must be read for a sample at `now`.
    pub(super) fn is_due(&self, group: Group, interval: Duration, now: Instant) -> bool {
        self.asked.get(&group).is_none_or(|asked| is_over(now.duration_since(*asked), interval))
    }

    /// Figures that were asked for at `at` are good for an interval.
    pub(super) fn keep(&mut self, group: Group, at: Instant) {
        self.asked.insert(group, at);
    }

    /// Whatever there is of the group is not to be used again.
    pub(super) fn forget(&mut self, group: Group) {
        self.asked.remove(&group);
    }

    /// The group's counters were read at `at`; the next rate counts from there.
    pub(super) fn baseline(&mut self, group: Group, at: Instant) {
        self.read.insert(group, at);
    }

    /// The reader that knew the group's counters is gone.
    pub(super) fn forget_baseline(&mut self, group: Group) {
        self.read.remove(&group);
    }

    /// The first moment at which a rate of the group means something; `None` before its counters were ever read.
    pub(super) fn rate_ready(&self, group: Group) -> Option<Instant> {
        self.read.get(&group).map(|read| *read + SHORTEST_RATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    #[test]
    fn a_group_is_due_at_first_and_after_its_interval() {
        let mut schedule = Schedule::default();
        let start = Instant::now();
        assert!(schedule.is_due(Group::DiskUsage, INTERVAL, start));
        schedule.keep(Group::DiskUsage, start);
        assert!(!schedule.is_due(Group::DiskUsage, INTERVAL, start + INTERVAL / 2));
        assert!(schedule.is_due(Group::DiskUsage, INTERVAL, start + INTERVAL));
        schedule.forget(Group::DiskUsage);
        assert!(schedule.is_due(Group::DiskUsage, INTERVAL, start));
    }

    #[test]
    fn a_tick_that_comes_a_little_early_still_reads() {
        let mut schedule = Schedule::default();
        let start = Instant::now();
        schedule.keep(Group::DiskUsage, start + Duration::from_millis(8));
        assert!(schedule.is_due(Group::DiskUsage, INTERVAL, start + INTERVAL));
        assert!(!schedule.is_due(Group::DiskUsage, INTERVAL, start + INTERVAL - Duration::from_secs(3)));
    }

    #[test]
    fn without_an_interval_every_sample_reads() {
        let mut schedule = Schedule::default();
        let start = Instant::now();
        schedule.keep(Group::Cpu, start);
        assert!(schedule.is_due(Group::Cpu, Duration::ZERO, start));
    }

    #[test]
    fn a_rate_needs_a_baseline_and_some_time() {
        let mut schedule = Schedule::default();
        assert_eq!(schedule.rate_ready(Group::Cpu), None);
        let start = Instant::now();
        schedule.baseline(Group::Cpu, start);
        assert_eq!(schedule.rate_ready(Group::Cpu), Some(start + Duration::from_millis(250)));
        schedule.forget_baseline(Group::Cpu);
        assert_eq!(schedule.rate_ready(Group::Cpu), None);
    }
}
