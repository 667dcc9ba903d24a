//! The system groups on recorded machines. Each machine has a first snapshot `t0` and, where rates matter, the files of a second one
//! `t1`, which count as taken two seconds later. The expected numbers were worked out from the files by hand.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use infini_protocol::metrics::{CpuMetrics, DiskIo};
use infini_protocol::{ErrorCode, Percent};
use infiniservice::collector::linux::{Address, LinuxCollector, Roots, Space};
use infiniservice::collector::{CollectFailure, SystemMetricsProvider};

/// A machine's files, in a directory that changes from one snapshot to the next under the collector's open descriptors.
struct Machine {
    recorded: PathBuf,
    root: tempfile::TempDir,
    start: Instant,
}

impl Machine {
    fn new(name: &str) -> Self {
        let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trees").join(name);
        let machine = Self { recorded, root: tempfile::tempdir().unwrap(), start: Instant::now() };
        copy(&machine.recorded.join("t0"), machine.root.path());
        machine
    }

    fn roots(&self) -> Roots {
        let below = |name| self.root.path().join(name);
        Roots { proc: below("proc"), sys: below("sys"), etc: below("etc") }
    }

    fn collector(&self, addresses: &[(u32, &str)]) -> LinuxCollector {
        let addresses: Vec<Address> = addresses
            .iter()
            .map(|(interface, ip)| Address { interface: *interface, ip: ip.parse::<IpAddr>().unwrap() })
            .collect();
        LinuxCollector::with_kernel(self.roots(), Arc::new(space), Box::new(move || Ok(addresses.clone())))
    }

    /// Two seconds pass.
    fn go_on(&self) -> Instant {
        copy(&self.recorded.join("t1"), self.root.path());
        self.start + Duration::from_secs(2)
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

fn shares(cpu: &CpuMetrics) -> (f64, Option<f64>, Option<f64>) {
    (cpu.usage_percent.get(), cpu.steal_percent.map(Percent::get), cpu.iowait_percent.map(Percent::get))
}

fn cores(cpu: &CpuMetrics) -> Vec<f64> {
    cpu.cores_usage.iter().map(|percent| percent.get()).collect()
}

/// Bytes read, bytes written, reads, writes a second and utilisation.
fn traffic(io: &DiskIo) -> (u64, u64, u64, u64, f64) {
    let share = io.io_utilization_percent.get();
    (io.read_bytes_per_sec, io.write_bytes_per_sec, io.read_ops_per_sec, io.write_ops_per_sec, share)
}

fn mount_points(collector: &mut LinuxCollector) -> Vec<String> {
    let usage = collector.collect_disk_usage().unwrap();
    usage.entries.iter().map(|entry| entry.mount_point.to_string()).collect()
}

#[test]
fn a_small_virtual_machine_under_load() {
    let machine = Machine::new("small-vm");
    let mut collector = machine.collector(&[(1, "127.0.0.1"), (4, "10.0.0.5"), (4, "fe80::fc:ff:fe00:1")]);
    collector.collect_cpu(machine.start).unwrap();
    collector.collect_disk_io(machine.start).unwrap();
    let now = machine.go_on();

    // 304 ticks, all of them user and system.
    let cpu = collector.collect_cpu(now).unwrap();
    assert_eq!((shares(&cpu), cores(&cpu)), ((100.0, Some(0.0), Some(0.0)), vec![100.0, 100.0]));
    assert_eq!(cpu.temperature, None);

    let memory = collector.collect_memory().unwrap();
    assert_eq!((memory.total_kb, memory.available_kb, memory.used_kb), (24_684_084, 20_891_860, 3_792_224));
    assert_eq!((memory.swap_total_kb, memory.swap_used_kb), (Some(0), Some(0)));

    // 481 reads of 10888 sectors and 6 writes of 10264 sectors in 2 s, 16 ms of them busy.
    let disk = collector.collect_disk_io(now).unwrap();
    assert_eq!(traffic(&disk.total), (2_787_328, 2_627_584, 241, 3, 0.8));
    assert_eq!(disk.devices.iter().map(|device| &*device.name).collect::<Vec<_>>(), ["vda"]);

    let network = collector.collect_network(now).unwrap();
    let up: Vec<(&str, bool)> = network.entries.iter().map(|one| (&*one.name, one.is_up)).collect();
    assert_eq!(up, [("lo", true), ("ifb0", false), ("ifb1", false), ("eth0", true)]);
    let eth0 = &network.entries[3];
    assert_eq!(
        (eth0.bytes_received, eth0.packets_sent, eth0.mac.as_deref()),
        (332_952_339, 10_802, Some("02:fc:00:00:00:01"))
    );
    assert_eq!(eth0.ip_addresses.iter().map(|ip| &**ip).collect::<Vec<_>>(), ["10.0.0.5", "fe80::fc:ff:fe00:1"]);

    assert_eq!(collector.collect_uptime().unwrap(), 4428);
    let load = collector.collect_load_average().unwrap();
    let hundredths = [load.load_1min, load.load_5min, load.load_15min].map(|average| (average.get() * 100.0).round());
    assert_eq!(hundredths, [899.0, 896.0, 628.0]);
    let pressure = collector.collect_pressure().unwrap().cpu.unwrap();
    assert_eq!((pressure.some_avg10.get(), pressure.full_avg10.map(Percent::get)), (98.68, Some(0.0)));

    let info = collector.collect_info().unwrap();
    assert_eq!((info.name.as_deref(), info.os_version.as_deref()), (Some("Debian GNU/Linux"), Some("12")));
    assert_eq!((info.kernel_version.as_deref(), info.hostname.as_deref()), (Some("6.1.0-28-amd64"), Some("small")));
    assert_eq!(info.boot_time.unwrap().unix_ms(), 1_795_405_041_000);

    assert_eq!(mount_points(&mut collector), ["/"]);
}

#[test]
fn an_old_container_host_with_many_mounts() {
    let machine = Machine::new("many-mounts");
    let mut collector = machine.collector(&[(2, "192.168.122.7")]);
    collector.collect_cpu(machine.start).unwrap();
    collector.collect_disk_io(machine.start).unwrap();
    collector.collect_network(machine.start).unwrap();
    let now = machine.go_on();

    // Of 500 ticks 150 user, 50 system, 20 stolen; iowait went back by 20, and 140 ticks of guests are in user already.
    let cpu = collector.collect_cpu(now).unwrap();
    assert_eq!((shares(&cpu), cores(&cpu)), ((44.0, Some(4.0), Some(0.0)), vec![61.11, 33.33]));

    // No MemAvailable: 500000 + 100000 + 3000000 + 200000 - 400000.
    let memory = collector.collect_memory().unwrap();
    assert_eq!((memory.available_kb, memory.used_kb), (3_400_000, 4_600_000));

    // 200 reads of 16384 sectors, 10 writes of 2048, 500 ms; the partition, the loop and the idle CD drive do not count.
    let disk = collector.collect_disk_io(now).unwrap();
    assert_eq!(traffic(&disk.total), (4_194_304, 524_288, 100, 5, 25.0));
    assert_eq!(disk.devices.iter().map(|device| &*device.name).collect::<Vec<_>>(), ["sda"]);

    let network = collector.collect_network(now).unwrap();
    let seen: Vec<_> = network
        .entries
        .iter()
        .map(|one| (&*one.name, one.is_up, one.received_bytes_per_sec, one.sent_bytes_per_sec))
        .collect();
    let expected = [
        ("lo", true, Some(0), Some(0)),
        ("ens3", true, Some(2_500_000), Some(125_000)),
        ("docker0", false, None, None),
        ("veth9f8e7d6", false, None, None),
    ];
    assert_eq!(seen, expected);
    assert_eq!(network.entries[1].errors_out, 2);

    assert!(matches!(collector.collect_pressure(), Err(CollectFailure::Unsupported(_))));
    assert_eq!(collector.collect_info().unwrap().os_version.as_deref(), Some("18.04"));
}

#[test]
fn each_file_system_of_many_mounts_is_told_once() {
    let machine = Machine::new("many-mounts");
    let mut collector = machine.collector(&[]);
    let expected = ["/mnt/root disk", "/boot/efi", "/tank", "/tank/home", "/srv/b", "/mnt/ssh"];
    assert_eq!(mount_points(&mut collector), expected);

    let usage = collector.collect_disk_usage().unwrap();
    let first = &usage.entries[0];
    assert_eq!((first.total_gb.get(), first.used_gb.get(), first.available_gb.get()), (100.0, 60.0, 35.0));
    assert_eq!((&*first.filesystem, first.device.as_deref()), ("ext4", Some("/dev/sda1")));
    assert_eq!(first.inodes_used_percent.map(Percent::get), Some(25.0));
    let errors: Vec<_> = usage.errors.iter().map(|error| (&*error.component, error.error_code)).collect();
    assert_eq!(errors, [("disk.usage:/mnt/nfs", ErrorCode::CommandFailed)]);
    assert_eq!(usage.total, expected.len());
}

#[test]
fn a_large_machine_whose_disks_and_cores_come_and_go() {
    let machine = Machine::new("hot-plug");
    let mut collector = machine.collector(&[]);
    assert_eq!(collector.collect_cpu(machine.start).unwrap().cores_usage.len(), 63);
    let before = collector.collect_disk_io(machine.start).unwrap();
    assert_eq!(before.devices.len(), 4);
    let now = machine.go_on();

    // 2760 of 12725 ticks used, 118 of them stolen, 253 waiting. Cores 5, 17 and 63 left; core 40, the 39th of those that are there, is new.
    let cpu = collector.collect_cpu(now).unwrap();
    assert_eq!(shares(&cpu), (21.69, Some(0.93), Some(1.99)));
    let cores = cores(&cpu);
    assert_eq!(cores.len(), 61, "{cores:?}");
    assert_eq!(cores[..6], [12.44, 23.4, 11.21, 14.17, 30.0, 6.59]);
    assert_eq!(cores[37..41], [31.9, 0.0, 14.01, 18.52]);
    assert_eq!(cores[58..], [23.77, 40.7, 19.77]);
    assert_eq!(cpu.temperature.map(|degrees| degrees.get()), Some(52.0));

    let disk = collector.collect_disk_io(now).unwrap();
    let seen: Vec<_> = disk.devices.iter().map(|device| (&*device.name, traffic(&device.io))).collect();
    let expected = [
        // 400 reads of 24000 sectors, 100 writes of 8192; the busy time wrapped: 1704 - 4294967000 + 2^32 = 2000 ms.
        ("nvme0n1", (6_144_000, 2_097_152, 200, 50, 100.0)),
        // 40 reads of 320 sectors, 80 writes of 640, 500 ms.
        ("sda", (81_920, 163_840, 20, 40, 25.0)),
        // Its counters began anew: another disk took the name.
        ("sdc", (0, 0, 0, 0, 0.0)),
        ("sdd", (0, 0, 0, 0, 0.0)),
    ];
    assert_eq!(seen, expected);
    assert_eq!(traffic(&disk.total), (6_225_920, 2_260_992, 220, 90, 100.0));
    assert_eq!(mount_points(&mut collector), ["/", "/boot", "/mnt/hot"]);
}
