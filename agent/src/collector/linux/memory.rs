//! Memory and swap: `/proc/meminfo`.

use infini_protocol::metrics::MemoryMetrics;

use super::file::KeptFile;
use super::roots::Roots;
use super::scan::{fields, lines};
use crate::collector::CollectFailure;

/// Reads memory.
#[derive(Debug)]
pub struct MemoryReader {
    meminfo: KeptFile,
}

impl MemoryReader {
    pub fn new(roots: &Roots) -> Self {
        Self { meminfo: KeptFile::new(roots.proc.join("meminfo")) }
    }

    /// # Errors
    /// Where `/proc/meminfo` cannot be read or does not tell the total.
    pub fn read(&mut self, buffer: &mut Vec<u8>) -> Result<MemoryMetrics, CollectFailure> {
        let text = self.meminfo.read_record(buffer);
        let text = text.map_err(|error| CollectFailure::io(self.meminfo.path(), error))?;
        parse(text).ok_or_else(|| CollectFailure::parse(self.meminfo.path(), "it does not tell MemTotal and MemFree"))
    }
}

/// The lines that count, in KiB.
#[derive(Default)]
struct Meminfo {
    total: Option<u64>,
    free: Option<u64>,
    available: Option<u64>,
    buffers: u64,
    cached: u64,
    reclaimable: u64,
    shmem: u64,
    swap_total: Option<u64>,
    swap_free: Option<u64>,
}

impl Meminfo {
    /// What programs could get without swapping. Kernels before 3.14 do not say; there it is free memory and caches, without the part of them
    /// that is shared memory and cannot be dropped.
    fn available(&self) -> Option<u64> {
        let caches = self.buffers.saturating_add(self.cached).saturating_add(self.reclaimable);
        let estimate = |free: u64| free.saturating_add(caches).saturating_sub(self.shmem);
        self.available.or_else(|| self.free.map(estimate))
    }
}

fn parse(text: &[u8]) -> Option<MemoryMetrics> {
    let mut meminfo = Meminfo::default();
    for line in lines(text) {
        let mut fields = fields(line);
        let (Some(name), Some(value)) = (fields.next(), fields.decimal()) else { continue };
        match name {
            b"MemTotal:" => meminfo.total = Some(value),
            b"MemFree:" => meminfo.free = Some(value),
            b"MemAvailable:" => meminfo.available = Some(value),
            b"Buffers:" => meminfo.buffers = value,
            b"Cached:" => meminfo.cached = value,
            b"SReclaimable:" => meminfo.reclaimable = value,
            b"Shmem:" => meminfo.shmem = value,
            b"SwapTotal:" => meminfo.swap_total = Some(value),
            b"SwapFree:" => meminfo.swap_free = Some(value),
            _ => continue,
        }
        if meminfo.available.is_some() && meminfo.swap_free.is_some() {
            break;
        }
    }
    let total_kb = meminfo.total?;
    let available_kb = meminfo.available()?.min(total_kb);
    Some(MemoryMetrics {
        total_kb,
        used_kb: total_kb - available_kb,
        available_kb,
        swap_total_kb: meminfo.swap_total,
        swap_used_kb: meminfo.swap_total.zip(meminfo.swap_free).map(|(total, free)| total.saturating_sub(free)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_what_is_available() {
        let text = b"MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    9000000 kB\n\
            Buffers:          200000 kB\nCached:          8000000 kB\nSwapCached:            4 kB\n\
            SwapTotal:       2097148 kB\nSwapFree:        2000000 kB\nShmem: 5 kB\n";
        let memory = parse(text).unwrap();
        assert_eq!((memory.total_kb, memory.available_kb, memory.used_kb), (16_000_000, 9_000_000, 7_000_000));
        assert_eq!((memory.swap_total_kb, memory.swap_used_kb), (Some(2_097_148), Some(97_148)));
    }

    #[test]
    fn an_old_kernel_is_estimated() {
        let text =
            b"MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 20 kB\nCached: 300 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n\
            Shmem: 50 kB\nSReclaimable: 30 kB\n";
        let memory = parse(text).unwrap();
        // 100 + 20 + 300 + 30 - 50
        assert_eq!((memory.available_kb, memory.used_kb), (400, 600));
        assert_eq!((memory.swap_total_kb, memory.swap_used_kb), (Some(0), Some(0)));
    }

    #[test]
    fn what_tells_no_total_is_refused() {
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"MemFree: 100 kB\n"), None);
        assert_eq!(parse(b"MemTotal: 100 kB\n"), None);
    }
}
