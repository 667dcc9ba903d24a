//! Processors: the first lines of `/proc/stat`.

use std::time::Instant;

use infini_protocol::metrics::CpuMetrics;

use super::file::KeptFile;
use super::roots::Roots;
use super::scan::{Fields, decimal, fields, lines};
use super::temperature::Thermometer;
use crate::collector::CollectFailure;
use crate::collector::cpu::{CpuCalculator, CpuTimes};

/// Reads processors.
#[derive(Debug)]
pub struct CpuReader {
    stat: KeptFile,
    thermometer: Thermometer,
    calculator: CpuCalculator,
    cores: Vec<(u32, CpuTimes)>,
}

impl CpuReader {
    pub fn new(roots: &Roots) -> Self {
        Self {
            stat: KeptFile::new(roots.proc.join("stat")),
            thermometer: Thermometer::new(roots),
            calculator: CpuCalculator::default(),
            cores: Vec::new(),
        }
    }

    /// Shares since the call before, and the temperature now.
    ///
    /// # Errors
    /// Where `/proc/stat` cannot be read or has no processors.
    pub fn read(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Result<CpuMetrics, CollectFailure> {
        // The lines about interrupts, which follow, are the most of this file on a large machine.
        let text = self.stat.read_until(buffer, |text| text.len() < text.capacity() || is_past_processors(text));
        let text = text.map_err(|error| CollectFailure::io(self.stat.path(), error))?;
        let total = parse(text, &mut self.cores).ok_or_else(|| {
            CollectFailure::parse(self.stat.path(), "the lines of the processors are not as expected")
        })?;
        let mut cpu = self.calculator.update(total, &self.cores);
        cpu.temperature = self.thermometer.read(now, buffer);
        Ok(cpu)
    }
}

fn is_past_processors(text: &[u8]) -> bool {
    text.windows(2).rev().any(|pair| pair[0] == b'\n' && pair[1] != b'c')
}

/// The times of all processors together and of each that is online.
fn parse(text: &[u8], cores: &mut Vec<(u32, CpuTimes)>) -> Option<CpuTimes> {
    cores.clear();
    let mut total = None;
    for line in lines(text) {
        let Some(line) = line.strip_prefix(b"cpu") else { break };
        let mut fields = fields(line);
        if line.starts_with(b" ") {
            total = Some(times(&mut fields)?);
        } else {
            let id = decimal(fields.next()?)?;
            cores.push((u32::try_from(id).ok()?, times(&mut fields)?));
        }
    }
    total
}

/// proc(5): user, nice, system, idle, iowait, irq, softirq, steal. Time that guests of this machine ran follows them but is already part of
/// user and nice. Kernels before 2.6.11 have no steal.
fn times(fields: &mut Fields<'_>) -> Option<CpuTimes> {
    let mut next = || fields.decimal();
    let (user, nice, system, idle, iowait, irq, softirq) =
        (next()?, next()?, next()?, next()?, next()?, next()?, next()?);
    let busy = [user, nice, system, irq, softirq].into_iter().fold(0, u64::saturating_add);
    Some(CpuTimes { busy, idle, iowait, steal: next().unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &[u8] = b"cpu  1000 20 300 9000 50 6 70 80 400 10\n\
        cpu0 600 20 200 4000 50 6 70 80 400 10\n\
        cpu3 400 0 100 5000 0 0 0 0 0 0\n\
        intr 123456 7 0 0\nctxt 99\nbtime 1700000000\n";

    #[test]
    fn guest_time_is_not_counted_twice() {
        let mut cores = Vec::new();
        let total = parse(STAT, &mut cores).unwrap();
        assert_eq!(total, CpuTimes { busy: 1396, idle: 9000, iowait: 50, steal: 80 });
        assert_eq!(cores.len(), 2);
        assert_eq!(cores[1], (3, CpuTimes { busy: 500, idle: 5000, iowait: 0, steal: 0 }));
    }

    #[test]
    fn what_has_no_processors_is_refused() {
        for text in [&b""[..], b"intr 1 2 3\n", b"cpu  1 2 3\n", b"cpu0 1 2 3 4 5 6 7 8\n", b"cpu  a 2 3 4 5 6 7 8\n"] {
            assert_eq!(parse(text, &mut Vec::new()), None, "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn reading_may_stop_behind_the_processors() {
        assert!(is_past_processors(STAT));
        assert!(!is_past_processors(b"cpu  1 2\ncpu0 1 2\n"));
        assert!(!is_past_processors(b"cpu  1 2\ncpu0 1 2\nc"));
    }
}
