//! Processor shares from processor times, for every platform.

use infini_protocol::Percent;
use infini_protocol::metrics::CpuMetrics;

/// What a processor did since boot, in any unit that is the same for all four.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// Ran something: users, the kernel, interrupts, a guest.
    pub busy: u64,
    /// Had nothing to do.
    pub idle: u64,
    /// Had nothing to do while a disk was awaited.
    pub iowait: u64,
    /// Had something to do while the hypervisor ran others.
    pub steal: u64,
}

impl CpuTimes {
    /// What was done since `earlier`. The kernel lets idle and iowait go back by a little when processors sleep or leave; such a
    /// step counts as none.
    fn since(self, earlier: Self) -> Self {
        Self {
            busy: self.busy.saturating_sub(earlier.busy),
            idle: self.idle.saturating_sub(earlier.idle),
            iowait: self.iowait.saturating_sub(earlier.iowait),
            steal: self.steal.saturating_sub(earlier.steal),
        }
    }

    fn whole(self) -> u64 {
        self.used() + self.idle + self.iowait
    }

    /// Stolen time is use: the machine had work for the processor. How much of it was stolen is told beside it.
    fn used(self) -> u64 {
        self.busy + self.steal
    }

    fn usage(self) -> Percent {
        Percent::of(self.used(), self.whole()).unwrap_or_default()
    }
}

/// Remembers the last times and makes shares of the next.
#[derive(Debug, Default)]
pub struct CpuCalculator {
    total: CpuTimes,
    cores: Vec<(u32, CpuTimes)>,
    is_primed: bool,
}

impl CpuCalculator {
    /// Shares of the time since the call before; all zero at the first. `cores` are those that are online, by number and ascending. One that
    /// was not there before has used nothing yet.
    pub fn update(&mut self, total: CpuTimes, cores: &[(u32, CpuTimes)]) -> CpuMetrics {
        let spent = if self.is_primed { total.since(self.total) } else { CpuTimes::default() };
        let mut earlier = self.cores.iter().peekable();
        let cores_usage = cores.iter().map(|(id, times)| {
            while earlier.next_if(|(other, _)| other < id).is_some() {}
            let known = earlier.next_if(|(other, _)| other == id);
            known.map_or_else(Percent::default, |(_, before)| times.since(*before).usage())
        });
        let cores_usage = cores_usage.collect();
        self.total = total;
        self.cores.clear();
        self.cores.extend_from_slice(cores);
        self.is_primed = true;
        CpuMetrics {
            usage_percent: spent.usage(),
            cores_usage,
            temperature: None,
            steal_percent: Some(Percent::of(spent.steal, spent.whole()).unwrap_or_default()),
            iowait_percent: Some(Percent::of(spent.iowait, spent.whole()).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(busy: u64, idle: u64, iowait: u64, steal: u64) -> CpuTimes {
        CpuTimes { busy, idle, iowait, steal }
    }

    fn shares(metrics: &CpuMetrics) -> Vec<f64> {
        metrics.cores_usage.iter().map(|percent| percent.get()).collect()
    }

    #[test]
    fn shares_are_of_the_time_since_the_call_before() {
        let mut cpu = CpuCalculator::default();
        let first = cpu.update(times(1000, 1000, 0, 0), &[(0, times(1000, 1000, 0, 0))]);
        assert_eq!((first.usage_percent.get(), shares(&first)), (0.0, vec![0.0]));
        let second = cpu.update(times(1050, 1130, 10, 10), &[(0, times(1050, 1130, 10, 10))]);
        // 200 passed: 50 busy, 10 stolen, 10 waiting, 130 idle.
        assert_eq!(second.usage_percent.get(), 30.0);
        assert_eq!(shares(&second), [30.0]);
        assert_eq!(second.steal_percent.map(Percent::get), Some(5.0));
        assert_eq!(second.iowait_percent.map(Percent::get), Some(5.0));
    }

    #[test]
    fn times_that_go_back_count_as_none() {
        let mut cpu = CpuCalculator::default();
        cpu.update(times(100, 100, 50, 0), &[]);
        let back = cpu.update(times(130, 170, 20, 0), &[]);
        assert_eq!((back.usage_percent.get(), back.iowait_percent.map(Percent::get)), (30.0, Some(0.0)));
        let nothing = cpu.update(times(0, 0, 0, 0), &[]);
        assert_eq!(nothing.usage_percent.get(), 0.0);
    }

    #[test]
    fn cores_come_and_go() {
        let mut cpu = CpuCalculator::default();
        let at_start = times(0, 0, 0, 0);
        cpu.update(at_start, &[(0, at_start), (1, at_start), (3, at_start)]);
        let later = times(25, 75, 0, 0);
        let changed = cpu.update(later, &[(0, later), (2, times(900, 0, 0, 0)), (3, later)]);
        assert_eq!(shares(&changed), [25.0, 0.0, 25.0]);
        let back = cpu.update(later, &[(0, later), (1, times(900, 0, 0, 0)), (2, times(990, 10, 0, 0)), (3, later)]);
        assert_eq!(shares(&back), [0.0, 0.0, 90.0, 0.0]);
    }
}
