//! Disk traffic: `/proc/diskstats`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::file::KeptFile;
use super::roots::Roots;
use super::scan::{Fields, decimal, fields, lines};
use crate::collector::disk::{DiskCounters, DiskSum, WatchedDisk};
use crate::collector::roster::Roster;
use crate::collector::{CollectFailure, DiskIoReading};

/// diskstats counts in sectors of 512 bytes whatever the disk's own are.
const SECTOR: u64 = 512;

/// Devices that are memory, or that sit on other disks or files, whose traffic counts there already. Device mapper and md are also told by
/// their `slaves`, but an md array without members has none.
const STACKED: [&str; 8] = ["loop", "ram", "zram", "dm-", "md", "zd", "drbd", "bcache"];

/// Reads the traffic of whole disks.
///
/// Partitions are left out, so are stacked devices ([`STACKED`], and whatever has `slaves`). A multipath NVMe disk counts where the kernel
/// keeps its statistics: from Linux 6.4 on those of the disk, before only those of its hidden paths, which then stand here by their names.
/// Drives that never did anything, such as an empty CD drive, are no news and left out too.
#[derive(Debug)]
pub struct DiskIoReader {
    diskstats: KeptFile,
    block: PathBuf,
    devices: Roster<Device>,
    last: Option<Instant>,
}

#[derive(Debug)]
struct Device {
    /// Unknown until the disk of a path is there to be asked.
    is_counted: Option<bool>,
    watched: WatchedDisk,
}

impl DiskIoReader {
    pub fn new(roots: &Roots) -> Self {
        Self {
            diskstats: KeptFile::new(roots.proc.join("diskstats")),
            block: roots.sys.join("block"),
            devices: Roster::default(),
            last: None,
        }
    }

    /// Rates since the call before.
    ///
    /// # Errors
    /// Where `/proc/diskstats` cannot be read.
    pub fn read(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Result<DiskIoReading, CollectFailure> {
        let text = self.diskstats.read(buffer).map_err(|error| CollectFailure::io(self.diskstats.path(), error))?;
        let mut sum = DiskSum::new(now, self.last.replace(now));
        self.devices.start();
        for line in lines(text) {
            let mut fields = fields(line);
            let Some(name) = fields.nth(2) else { continue };
            let appear = || Device { is_counted: None, watched: WatchedDisk::default() };
            let (name, device) = self.devices.meet(name, appear);
            if device.is_counted.is_none() {
                device.is_counted = is_counted(&self.block, name);
            }
            if device.is_counted != Some(true) {
                continue;
            }
            let counters = counters(fields).ok_or_else(|| {
                CollectFailure::parse(self.diskstats.path(), format!("the line of {name} is not as expected"))
            })?;
            if counters.reads > 0 || counters.writes > 0 {
                sum.add(name, &mut device.watched, counters);
            }
        }
        self.devices.finish();
        Ok(sum.finish())
    }
}

/// The fields behind the name: reads, reads merged, sectors read, ms reading, the same for writes, in flight, ms busy
/// (kernel documentation, admin-guide/iostats). Newer kernels have more behind them.
fn counters(mut fields: Fields<'_>) -> Option<DiskCounters> {
    let mut after = |skipped| fields.nth(skipped).and_then(decimal);
    let (reads, sectors_read) = (after(0)?, after(1)?);
    let (writes, sectors_written) = (after(1)?, after(1)?);
    let busy_ms = after(2)?;
    Some(DiskCounters {
        reads,
        bytes_read: sectors_read.saturating_mul(SECTOR),
        writes,
        bytes_written: sectors_written.saturating_mul(SECTOR),
        busy_ms: busy_ms as u32,
    })
}

/// Whether a device's traffic counts; `None` where that cannot be told yet. Asked once, when the device appears.
fn is_counted(block: &Path, name: &str) -> Option<bool> {
    let is_stacked = |kind: &str| {
        name.strip_prefix(kind).is_some_and(|number| number.starts_with(|digit: char| digit.is_ascii_digit()))
    };
    if STACKED.iter().any(|kind| is_stacked(kind)) {
        return Some(false);
    }
    // sysfs cannot have a slash in a name (cciss/c0d0); only whole disks are right under /sys/block.
    let device = block.join(name.replace('/', "!"));
    if std::fs::read(device.join("hidden")).is_ok_and(|hidden| hidden.starts_with(b"1")) {
        let disk = block.join(disk_of_path(name)?);
        return std::fs::read(disk.join("queue/iostats"))
            .ok()
            .map(|keeps_statistics| keeps_statistics.starts_with(b"0"));
    }
    let has_slaves = || device.join("slaves").read_dir().is_ok_and(|mut slaves| slaves.next().is_some());
    Some(device.is_dir() && !has_slaves())
}

/// `nvme0c1n2` is the path through controller 1 to the disk `nvme0n2`.
fn disk_of_path(path: &str) -> Option<String> {
    let (subsystem, path) = path.split_once('c')?;
    let (_, namespace) = path.split_once('n')?;
    Some(format!("{subsystem}n{namespace}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_stand_at_their_places() {
        let line = b"45523 8674 6632186 38985 17307 65126 21830816 116915 3 15708 157118 8991 43 1425696 1147 1353 70";
        let expected = DiskCounters {
            reads: 45_523,
            bytes_read: 3_395_679_232,
            writes: 17_307,
            bytes_written: 11_177_377_792,
            busy_ms: 15_708,
        };
        assert_eq!(counters(fields(line)), Some(expected));
        let old = b"45523 8674 6632186 38985 17307 65126 21830816 116915 3 15708 157118";
        assert_eq!(counters(fields(old)), Some(expected));
        assert_eq!(counters(fields(b"1 2 3 4")), None);
    }

    #[test]
    fn what_sits_on_other_disks_does_not_count() {
        let block = tempfile::tempdir().unwrap();
        for directory in ["vda", "cciss!c0d0", "loop0", "mdadm0", "stack/slaves/vda", "md127"] {
            std::fs::create_dir_all(block.path().join(directory)).unwrap();
        }
        for (name, expected) in [
            ("vda", true),
            ("cciss/c0d0", true),
            ("mdadm0", true),
            ("vda1", false),
            ("loop0", false),
            ("md127", false),
            ("stack", false),
        ] {
            assert_eq!(is_counted(block.path(), name), Some(expected), "{name}");
        }
    }

    #[test]
    fn a_path_counts_where_its_disk_keeps_no_statistics() {
        let block = tempfile::tempdir().unwrap();
        let path = "nvme0c1n2";
        std::fs::create_dir_all(block.path().join(path)).unwrap();
        std::fs::write(block.path().join(path).join("hidden"), "1\n").unwrap();
        assert_eq!(is_counted(block.path(), path), None, "its disk is not there yet");
        let queue = block.path().join("nvme0n2/queue");
        std::fs::create_dir_all(&queue).unwrap();
        for (iostats, expected) in [("0\n", true), ("1\n", false)] {
            std::fs::write(queue.join("iostats"), iostats).unwrap();
            assert_eq!(is_counted(block.path(), path), Some(expected), "iostats {iostats}");
        }
        assert_eq!(is_counted(block.path(), "nvme0n2"), Some(true));
    }
}
