//! Processes: shares of processor time, and which of them are the heaviest.

use std::cmp::Reverse;
use std::time::Duration;

use infini_protocol::Finite;

/// What a process weighs, which decides who is told of first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weight {
    /// Share of one logical processor.
    pub cpu_percent: Finite,
    /// Resident memory.
    pub memory_kb: u64,
    /// Its id.
    pub pid: u32,
}

/// Processor time as a percentage of one logical processor over an interval: 200 where two were busy all the time.
///
/// `ticks` are of `ticks_per_second`. An interval of nothing gives nothing.
pub fn cpu_percent(ticks: u64, ticks_per_second: u64, interval: Duration) -> Finite {
    let seconds = ticks as f64 / ticks_per_second as f64;
    Finite::new(100.0 * seconds / interval.as_secs_f64()).unwrap_or_default()
}

/// Leaves the `limit` heaviest, heaviest first: by processor time, then by memory; of equals the older id comes first.
pub fn keep_heaviest(weights: &mut Vec<Weight>, limit: usize) {
    if limit < weights.len() {
        weights.select_nth_unstable_by(limit, heavier);
        weights.truncate(limit);
    }
    weights.sort_unstable_by(heavier);
}

fn heavier(a: &Weight, b: &Weight) -> std::cmp::Ordering {
    let by_cpu = b.cpu_percent.get().total_cmp(&a.cpu_percent.get());
    by_cpu.then_with(|| (Reverse(a.memory_kb), a.pid).cmp(&(Reverse(b.memory_kb), b.pid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(cpu: f64, memory_kb: u64, pid: u32) -> Weight {
        Weight { cpu_percent: Finite::new(cpu).unwrap(), memory_kb, pid }
    }

    #[test]
    fn a_share_is_of_one_processor() {
        let percent = |ticks, interval| cpu_percent(ticks, 100, interval).get();
        assert_eq!(percent(50, Duration::from_secs(1)), 50.0);
        assert_eq!(percent(6000, Duration::from_secs(30)), 200.0);
        assert_eq!(percent(1, Duration::from_secs(30)), 0.033);
        assert_eq!((percent(0, Duration::ZERO), percent(5, Duration::ZERO)), (0.0, 0.0));
    }

    #[test]
    fn the_heaviest_come_first_and_stay() {
        let all = [weight(0.0, 10, 4), weight(1.5, 1, 3), weight(0.0, 20, 2), weight(0.0, 10, 1), weight(12.0, 0, 9)];
        for limit in 0..=6 {
            let mut weights = all.to_vec();
            keep_heaviest(&mut weights, limit);
            let pids: Vec<u32> = weights.iter().map(|weight| weight.pid).collect();
            assert_eq!(pids, [9, 3, 2, 1, 4][..limit.min(5)], "limit {limit}");
        }
    }
}
