//! Disk rates from disk counters, for every platform.

use std::time::{Duration, Instant};

use infini_protocol::metrics::{DiskDevice, DiskIo};
use infini_protocol::{Percent, Text};

use super::provider::DiskIoReading;
use super::rate::per_second;

/// What a disk did since it appeared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounters {
    /// Reads finished.
    pub reads: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Writes finished.
    pub writes: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Milliseconds during which it had work. Linux counts them in 32 bits, which wrap after 49 days of work.
    pub busy_ms: u32,
}

impl DiskCounters {
    /// Rates since `earlier`; zero where a counter went back, because then the disk behind the name is another one.
    fn rates(&self, earlier: &Self, elapsed: Duration) -> Option<DiskIo> {
        let busy_ms = self.busy_ms.wrapping_sub(earlier.busy_ms);
        // More than half of the range is no wrap but a step back.
        let busy_ms = if busy_ms > u32::MAX / 2 { 0 } else { busy_ms.into() };
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        Some(DiskIo {
            read_bytes_per_sec: per_second(self.bytes_read.checked_sub(earlier.bytes_read)?, elapsed),
            write_bytes_per_sec: per_second(self.bytes_written.checked_sub(earlier.bytes_written)?, elapsed),
            read_ops_per_sec: per_second(self.reads.checked_sub(earlier.reads)?, elapsed),
            write_ops_per_sec: per_second(self.writes.checked_sub(earlier.writes)?, elapsed),
            io_utilization_percent: Percent::of(busy_ms, elapsed_ms).unwrap_or_default(),
        })
    }
}

/// A disk that is watched.
#[derive(Debug, Default)]
pub struct WatchedDisk {
    last: Option<DiskCounters>,
}

/// Adds the disks of one reading up.
#[derive(Debug)]
pub struct DiskSum {
    elapsed: Duration,
    reading: DiskIoReading,
}

impl DiskSum {
    /// A reading at `now`, compared with the one at `before`.
    pub fn new(now: Instant, before: Option<Instant>) -> Self {
        let elapsed = before.map_or(Duration::ZERO, |before| now.saturating_duration_since(before));
        Self { elapsed, reading: DiskIoReading::default() }
    }

    /// Adds a disk. One that was not there before has rates of zero.
    pub fn add(&mut self, name: &Text, disk: &mut WatchedDisk, counters: DiskCounters) {
        let last = disk.last.replace(counters);
        let io = last.and_then(|last| counters.rates(&last, self.elapsed)).unwrap_or_default();
        let total = &mut self.reading.total;
        total.read_bytes_per_sec = total.read_bytes_per_sec.saturating_add(io.read_bytes_per_sec);
        total.write_bytes_per_sec = total.write_bytes_per_sec.saturating_add(io.write_bytes_per_sec);
        total.read_ops_per_sec = total.read_ops_per_sec.saturating_add(io.read_ops_per_sec);
        total.write_ops_per_sec = total.write_ops_per_sec.saturating_add(io.write_ops_per_sec);
        if io.io_utilization_percent > total.io_utilization_percent {
            total.io_utilization_percent = io.io_utilization_percent;
        }
        self.reading.devices.push(DiskDevice { name: name.clone(), io });
    }

    /// All of it.
    pub fn finish(self) -> DiskIoReading {
        self.reading
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(disk: &mut WatchedDisk, counters: DiskCounters) -> DiskIo {
        let before = Instant::now();
        let mut sum = DiskSum::new(before + Duration::from_secs(2), Some(before));
        sum.add(&"vda".into(), disk, counters);
        sum.finish().total
    }

    #[test]
    fn rates_are_of_the_real_time() {
        let mut disk = WatchedDisk::default();
        let first = DiskCounters { reads: 100, bytes_read: 1 << 20, writes: 10, bytes_written: 4096, busy_ms: 500 };
        assert_eq!(step(&mut disk, first), DiskIo::default());
        let second = DiskCounters { reads: 300, bytes_read: 3 << 20, writes: 14, bytes_written: 12_288, busy_ms: 1500 };
        let io = step(&mut disk, second);
        assert_eq!((io.read_ops_per_sec, io.read_bytes_per_sec), (100, 1 << 20));
        assert_eq!((io.write_ops_per_sec, io.write_bytes_per_sec), (2, 4096));
        assert_eq!(io.io_utilization_percent.get(), 50.0);
    }

    #[test]
    fn a_reset_gives_nothing_once_and_then_counts_again() {
        let mut disk = WatchedDisk::default();
        step(&mut disk, DiskCounters { reads: 100, bytes_read: 1 << 20, ..DiskCounters::default() });
        let reset = DiskCounters { reads: 2, bytes_read: 8192, busy_ms: 3, ..DiskCounters::default() };
        assert_eq!(step(&mut disk, reset), DiskIo::default());
        let after =
            step(&mut disk, DiskCounters { reads: 4, bytes_read: 16_384, busy_ms: 5, ..DiskCounters::default() });
        assert_eq!((after.read_ops_per_sec, after.read_bytes_per_sec), (1, 4096));
    }

    #[test]
    fn the_busy_time_wraps() {
        let mut disk = WatchedDisk::default();
        step(&mut disk, DiskCounters { busy_ms: u32::MAX - 99, ..DiskCounters::default() });
        let io = step(&mut disk, DiskCounters { busy_ms: 100, ..DiskCounters::default() });
        assert_eq!(io.io_utilization_percent.get(), 10.0);
    }

    #[test]
    fn the_sum_has_the_utilisation_of_the_busiest() {
        let mut disks = [WatchedDisk::default(), WatchedDisk::default()];
        let names: [Text; 2] = ["sda".into(), "sdb".into()];
        let before = Instant::now();
        let mut sum = DiskSum::new(before, None);
        for (name, disk) in names.iter().zip(&mut disks) {
            sum.add(name, disk, DiskCounters::default());
        }
        let mut sum = DiskSum::new(before + Duration::from_secs(1), Some(before));
        sum.add(&names[0], &mut disks[0], DiskCounters { reads: 5, busy_ms: 700, ..DiskCounters::default() });
        sum.add(&names[1], &mut disks[1], DiskCounters { reads: 6, busy_ms: 200, ..DiskCounters::default() });
        let reading = sum.finish();
        assert_eq!((reading.total.read_ops_per_sec, reading.total.io_utilization_percent.get()), (11, 70.0));
        assert_eq!(reading.devices.len(), 2);
    }
}
