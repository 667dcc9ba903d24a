//! Recorded machines: the files of a first snapshot `t0`, and of a second one `t1` those that changed.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use infini_protocol::Percent;
use infini_protocol::metrics::{CpuMetrics, DiskIo};
use infiniservice::collector::SystemMetricsProvider;
use infiniservice::collector::linux::{Address, LinuxCollector, Roots, Space};

/// A machine's files, in a directory that changes from one snapshot to the next under the collector's open descriptors.
pub struct Machine {
    recorded: PathBuf,
    root: tempfile::TempDir,
    /// When the first snapshot was taken.
    pub start: Instant,
}

impl Machine {
    /// The machine of that folder, as it was first.
    pub fn new(name: &str) -> Self {
        let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trees").join(name);
        let machine = Self { recorded, root: tempfile::tempdir().unwrap(), start: Instant::now() };
        copy(&machine.recorded.join("t0"), machine.root.path());
        machine
    }

    fn roots(&self) -> Roots {
        let below = |name| self.root.path().join(name);
        Roots { proc: below("proc"), sys: below("sys"), etc: below("etc") }
    }

    /// A collector of it, told these addresses by the kernel: interface number and address.
    pub fn collector(&self, addresses: &[(u32, &str)]) -> LinuxCollector {
        let addresses: Vec<Address> = addresses
            .iter()
            .map(|(interface, ip)| Address { interface: *interface, ip: ip.parse::<IpAddr>().unwrap() })
            .collect();
        LinuxCollector::with_kernel(self.roots(), Arc::new(space), Box::new(move || Ok(addresses.clone())))
    }

    /// The second snapshot, and its time where it counts as taken `after` the first.
    pub fn go_on(&self, after: Duration) -> Instant {
        copy(&self.recorded.join("t1"), self.root.path());
        self.start + after
    }
}

/// Every file system has 100 GiB, of which root may take 40 and users 35, but the file server is away.
fn space(mount_point: &Path) -> io::Result<Space> {
    if mount_point == Path::new("/mnt/nfs") {
        return Err(io::ErrorKind::StaleNetworkFileHandle.into());
    }
    Ok(Space { total: 100 << 30, free: 40 << 30, available: 35 << 30, inodes: 1000, inodes_free: 750 })
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::write(&target, fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

/// Use, steal and iowait in percent.
pub fn shares(cpu: &CpuMetrics) -> (f64, Option<f64>, Option<f64>) {
    (cpu.usage_percent.get(), cpu.steal_percent.map(Percent::get), cpu.iowait_percent.map(Percent::get))
}

/// The use of each processor in percent.
pub fn cores(cpu: &CpuMetrics) -> Vec<f64> {
    cpu.cores_usage.iter().map(|percent| percent.get()).collect()
}

/// Bytes read, bytes written, reads, writes a second and utilisation.
pub fn traffic(io: &DiskIo) -> (u64, u64, u64, u64, f64) {
    let share = io.io_utilization_percent.get();
    (io.read_bytes_per_sec, io.write_bytes_per_sec, io.read_ops_per_sec, io.write_ops_per_sec, share)
}

/// Of the file systems that are told, in their order.
pub fn mount_points(collector: &mut LinuxCollector) -> Vec<String> {
    let usage = collector.collect_disk_usage().unwrap();
    usage.entries.iter().map(|entry| entry.mount_point.to_string()).collect()
}
