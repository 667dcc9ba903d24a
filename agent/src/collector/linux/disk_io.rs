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
/// Partitions are left out, so are stacked devices ([`STACKED`], and whatever has `slaves`) and the hidden paths of a multipath NVMe disk.
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
    is_whole_disk: bool,
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
            let appear = || Device { is_whole_disk: is_whole_disk(&self.block, name), watched: WatchedDisk::default() };
            let (name, device) = self.devices.meet(name, appear);
            if !device.is_whole_disk {
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

/// Whether a device is a disk of its own. Asked once, when the device appears.
fn is_whole_disk(block: &Path, name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name);
    let is_stacked = |kind: &str| {
        name.strip_prefix(kind).is_some_and(|number| number.starts_with(|digit: char| digit.is_ascii_digit()))
    };
    if STACKED.iter().any(|kind| is_stacked(kind)) {
        return false;
    }
    // sysfs cannot have a slash in a name (cciss/c0d0); only whole disks are right under /sys/block.
    let device = block.join(name.replace('/', "!"));
    let has_slaves = || device.join("slaves").read_dir().is_ok_and(|mut slaves| slaves.next().is_some());
    let is_hidden = || std::fs::read(device.join("hidden")).is_ok_and(|hidden| hidden.starts_with(b"1"));
    device.is_dir() && !has_slaves() && !is_hidden()
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
    fn only_disks_of_their_own_are_whole_disks() {
        let block = tempfile::tempdir().unwrap();
        for directory in ["vda", "cciss!c0d0", "loop0", "mdadm0", "stack/slaves/vda", "nvme0c0n1", "md127"] {
            std::fs::create_dir_all(block.path().join(directory)).unwrap();
        }
        std::fs::write(block.path().join("nvme0c0n1/hidden"), "1\n").unwrap();
        for (name, expected) in [
            ("vda", true),
            ("cciss/c0d0", true),
            ("mdadm0", true),
            ("vda1", false),
            ("loop0", false),
            ("md127", false),
            ("stack", false),
            ("nvme0c0n1", false),
        ] {
            assert_eq!(is_whole_disk(block.path(), name.as_bytes()), expected, "{name}");
        }
    }
}
