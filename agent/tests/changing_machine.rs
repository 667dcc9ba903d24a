//! A machine that changes under the collector: counters that wrap or begin anew, a clock that is set, devices that come and go.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use infini_protocol::metrics::{DiskIo, NetworkInterface};
use infini_protocol::{ErrorCode, Percent};
use infiniservice::collector::linux::{Address, LinuxCollector, Roots, Space};
use infiniservice::collector::{List, SystemMetricsProvider};

/// The heading of `/proc/net/dev`.
const HEADING: &str =
    "Inter-|   Receive                            |  Transmit\n face |bytes    packets |bytes    packets\n";

/// A made-up machine with a clock of its own.
struct Machine {
    root: tempfile::TempDir,
    now: Instant,
    addresses: Arc<Mutex<Vec<(u32, &'static str)>>>,
    refuses_addresses: Arc<AtomicBool>,
    collector: LinuxCollector,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let below = |name| root.path().join(name);
        let roots = Roots { proc: below("proc"), sys: below("sys"), etc: below("etc") };
        let addresses = Arc::new(Mutex::new(Vec::new()));
        let refuses_addresses = Arc::new(AtomicBool::new(false));
        let (known, refuses) = (Arc::clone(&addresses), Arc::clone(&refuses_addresses));
        let source = move || {
            if refuses.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            let address =
                |(interface, ip): &(u32, &str)| Address { interface: *interface, ip: ip.parse::<IpAddr>().unwrap() };
            Ok(known.lock().unwrap().iter().map(address).collect())
        };
        let space = |_: &Path| Ok(Space { total: 1 << 30, ..Space::default() });
        let collector = LinuxCollector::with_kernel(roots, Arc::new(space), Box::new(source));
        Self { root, now: Instant::now(), addresses, refuses_addresses, collector }
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn plug_disk(&self, name: &str) {
        fs::create_dir_all(self.root.path().join("sys/block").join(name)).unwrap();
    }

    fn plug_interface(&self, name: &str, number: u32) {
        self.put(&format!("sys/class/net/{name}/operstate"), "up\n");
        self.put(&format!("sys/class/net/{name}/ifindex"), &format!("{number}\n"));
    }

    /// The time moves on, and disks have these figures: reads, sectors read, writes, sectors written, ms busy.
    fn disks(&mut self, after: Duration, disks: &[(&str, [u64; 5])]) -> Vec<(String, DiskIo)> {
        let line = |(name, [reads, read, writes, written, busy]): &(&str, [u64; 5])| {
            format!(" 8 0 {name} {reads} 0 {read} 0 {writes} 0 {written} 0 0 {busy} 0\n")
        };
        self.put("proc/diskstats", &disks.iter().map(line).collect::<String>());
        self.now += after;
        let reading = self.collector.collect_disk_io(self.now).unwrap();
        reading.devices.into_iter().map(|device| (device.name.to_string(), device.io)).collect()
    }

    /// The time moves on, and interfaces have these figures: bytes received, bytes sent.
    fn network(&mut self, after: Duration, interfaces: &[(&str, u64, u64)]) -> List<NetworkInterface> {
        let line = |(name, received, sent): &(&str, u64, u64)| {
            format!("{name}: {received} 1 0 0 0 0 0 0 {sent} 1 0 0 0 0 0 0\n")
        };
        self.put("proc/self/net/dev", &(HEADING.to_owned() + &interfaces.iter().map(line).collect::<String>()));
        self.now += after;
        self.collector.collect_network(self.now).unwrap()
    }

    /// The time moves on, and the processors have these figures: number, user, idle.
    fn cpu(&mut self, after: Duration, cores: &[(u32, u64, u64)]) -> (f64, Vec<f64>) {
        let (user, idle) = cores.iter().fold((0, 0), |(user, idle), core| (user + core.1, idle + core.2));
        let core = |(number, user, idle): &(u32, u64, u64)| format!("cpu{number} {user} 0 0 {idle} 0 0 0 0 0 0\n");
        let cores: String = cores.iter().map(core).collect();
        self.put("proc/stat", &format!("cpu  {user} 0 0 {idle} 0 0 0 0 0 0\n{cores}intr 5\nbtime 1767225600\n"));
        self.now += after;
        let cpu = self.collector.collect_cpu(self.now).unwrap();
        (cpu.usage_percent.get(), cpu.cores_usage.into_iter().map(Percent::get).collect())
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// Reads a second, bytes read a second, utilisation.
fn read_rates((name, io): &(String, DiskIo)) -> (&str, u64, u64, f64) {
    (name, io.read_ops_per_sec, io.read_bytes_per_sec, io.io_utilization_percent.get())
}

fn rates(network: &List<NetworkInterface>) -> Vec<(&str, Option<u64>, Option<u64>)> {
    let rates = |one: &'_ NetworkInterface| (one.received_bytes_per_sec, one.sent_bytes_per_sec);
    network.entries.iter().map(|one| (&*one.name, rates(one).0, rates(one).1)).collect()
}

fn addresses(network: &List<NetworkInterface>) -> Vec<Vec<&str>> {
    network.entries.iter().map(|one| one.ip_addresses.iter().map(|ip| &**ip).collect()).collect()
}

#[test]
fn disks_wrap_begin_anew_and_come_and_go() {
    let mut machine = Machine::new();
    machine.plug_disk("sda");
    machine.plug_disk("sdb");
    let busy = u64::from(u32::MAX) - 99;
    machine.disks(SECOND, &[("sda", [1000, 8000, 1, 8, busy]), ("sdb", [9000, 90_000, 1, 8, 5000])]);

    // sda's busy time wraps at 32 bits: 100 ms before the wrap and 400 after it, of 1 s. sdb's counters begin anew.
    let seen = machine.disks(SECOND, &[("sda", [1010, 8080, 1, 8, 400]), ("sdb", [5, 40, 1, 8, 2])]);
    assert_eq!(seen.iter().map(read_rates).collect::<Vec<_>>(), [("sda", 10, 40_960, 50.0), ("sdb", 0, 0, 0.0)]);

    // sdb is pulled; sdc is new and has done much before we saw it.
    machine.plug_disk("sdc");
    let seen = machine.disks(SECOND, &[("sda", [1020, 8160, 1, 8, 400]), ("sdc", [700, 5600, 1, 8, 900])]);
    assert_eq!(seen.iter().map(read_rates).collect::<Vec<_>>(), [("sda", 10, 40_960, 0.0), ("sdc", 0, 0, 0.0)]);

    // sdb is back, in front, with counters higher than when it left: that was not in the last second.
    let seen = machine.disks(
        SECOND,
        &[("sdb", [99_000, 990_000, 1, 8, 9000]), ("sda", [1030, 8240, 1, 8, 400]), ("sdc", [702, 5616, 1, 8, 900])],
    );
    let expected = [("sdb", 0, 0, 0.0), ("sda", 10, 40_960, 0.0), ("sdc", 2, 8192, 0.0)];
    assert_eq!(seen.iter().map(read_rates).collect::<Vec<_>>(), expected);
}

#[test]
fn rates_are_over_the_time_that_really_passed() {
    let mut machine = Machine::new();
    machine.plug_disk("sda");
    machine.disks(SECOND, &[("sda", [0, 0, 1, 8, 0])]);
    // A machine that slept for an hour: the monotonic clock did not count that, whatever the wall clock says.
    let seen = machine.disks(Duration::from_millis(500), &[("sda", [10, 80, 1, 8, 250])]);
    assert_eq!(seen.iter().map(read_rates).collect::<Vec<_>>(), [("sda", 20, 81_920, 50.0)]);
    let seen = machine.disks(4 * SECOND, &[("sda", [20, 160, 1, 8, 1250])]);
    assert_eq!(seen.iter().map(read_rates).collect::<Vec<_>>(), [("sda", 3, 10_240, 25.0)]);
    // Two readings in one moment tell of no rate, and of no infinite one.
    let seen = machine.disks(Duration::ZERO, &[("sda", [30, 240, 1, 8, 1251])]);
    assert_eq!(seen.iter().map(read_rates).collect::<Vec<_>>(), [("sda", 0, 0, 0.0)]);

    machine.network(Duration::ZERO, &[("eth0", 100, 100)]);
    let network = machine.network(Duration::ZERO, &[("eth0", 900, 900)]);
    assert_eq!(rates(&network), [("eth0", None, None)]);
    let network = machine.network(2 * SECOND, &[("eth0", 1900, 900)]);
    assert_eq!(rates(&network), [("eth0", Some(500), Some(0))]);
}

#[test]
fn interfaces_begin_anew_and_come_and_go() {
    let mut machine = Machine::new();
    machine.plug_interface("eth0", 2);
    *machine.addresses.lock().unwrap() = vec![(2, "10.0.0.2")];
    machine.network(SECOND, &[("eth0", 5000, 5000)]);
    let network = machine.network(SECOND, &[("eth0", 6000, 5500)]);
    assert_eq!((rates(&network), addresses(&network)), (vec![("eth0", Some(1000), Some(500))], vec![vec!["10.0.0.2"]]));

    // The driver was reloaded.
    let network = machine.network(SECOND, &[("eth0", 10, 10)]);
    assert_eq!(rates(&network), [("eth0", None, None)]);
    // A container starts: its interface's addresses are asked for at once.
    machine.plug_interface("veth1", 7);
    *machine.addresses.lock().unwrap() = vec![(2, "10.0.0.2"), (7, "172.17.0.1"), (7, "fe80::1")];
    let network = machine.network(SECOND, &[("veth1", 1_000_000, 0), ("eth0", 1010, 10)]);
    assert_eq!(rates(&network), [("veth1", None, None), ("eth0", Some(1000), Some(0))]);
    assert_eq!(addresses(&network), [vec!["172.17.0.1", "fe80::1"], vec!["10.0.0.2"]]);

    // It ends, and another one with its name has nothing to do with it.
    let network = machine.network(SECOND, &[("eth0", 1010, 10)]);
    assert_eq!((rates(&network), network.total), (vec![("eth0", Some(0), Some(0))], 1));
    machine.plug_interface("veth1", 8);
    *machine.addresses.lock().unwrap() = vec![(2, "10.0.0.2"), (8, "172.17.0.9")];
    let network = machine.network(SECOND, &[("eth0", 1010, 10), ("veth1", 2_000_000, 0)]);
    assert_eq!(rates(&network)[1], ("veth1", None, None));
    assert_eq!(addresses(&network)[1], ["172.17.0.9"]);
}

#[test]
fn addresses_that_the_kernel_refuses_are_an_error_and_not_an_empty_list_alone() {
    let mut machine = Machine::new();
    machine.plug_interface("eth0", 2);
    *machine.addresses.lock().unwrap() = vec![(2, "10.0.0.2")];
    machine.refuses_addresses.store(true, Ordering::SeqCst);
    let mut seen = Vec::new();
    for after in [0, 1, 60] {
        let network = machine.network(after * SECOND, &[("eth0", 1, 1)]);
        let named = network.errors.iter().map(|error| (error.component.to_string(), error.error_code));
        seen.push((named.collect::<Vec<_>>(), network.entries[0].ip_addresses.len()));
        machine.refuses_addresses.store(after == 0, Ordering::SeqCst);
    }
    let refused = (vec![("network.addresses".to_owned(), ErrorCode::PermissionDenied)], 0);
    // Also where it was not asked again, for as long as the answer is missing.
    assert_eq!(seen, [refused.clone(), refused, (vec![], 1)]);

    // Later refusals leave what is known, and say so.
    machine.refuses_addresses.store(true, Ordering::SeqCst);
    let network = machine.network(60 * SECOND, &[("eth0", 1, 1)]);
    assert_eq!((addresses(&network), network.errors.len()), (vec![vec!["10.0.0.2"]], 1));
}

#[test]
fn processors_begin_anew_and_come_and_go() {
    let mut machine = Machine::new();
    machine.cpu(SECOND, &[(0, 1000, 1000), (1, 1000, 1000)]);
    assert_eq!(machine.cpu(SECOND, &[(0, 1050, 1050), (1, 1000, 1100)]), (25.0, vec![50.0, 0.0]));
    // cpu1 is switched off: it takes its past out of the sum, which is no negative use.
    let (total, cores) = machine.cpu(SECOND, &[(0, 1125, 1075)]);
    assert_eq!((total, cores), (0.0, vec![75.0]));
    let (_, cores) = machine.cpu(SECOND, &[(0, 1150, 1150), (1, 0, 50)]);
    assert_eq!(cores, [25.0, 0.0]);
    assert_eq!(machine.cpu(SECOND, &[(0, 1200, 1200), (1, 100, 50)]), (75.0, vec![50.0, 100.0]));
}

#[test]
fn a_clock_that_is_set_moves_no_process() {
    let mut machine = Machine::new();
    machine.put("proc/7/stat", "7 (worker) S 1 7 7 0 -1 4194304 0 0 0 0 10 0 0 0 20 0 1 0 500 1 1 0 0 0 0 1\n");
    machine.put("proc/7/io", "read_bytes: 0\nwrite_bytes: 0\n");
    machine.put("proc/stat", "cpu  1 0 0 1 0 0 0 0 0 0\nbtime 1767225600\n");
    let started = |machine: &mut Machine| {
        machine.now += SECOND;
        let list = machine.collector.collect_processes(machine.now, 10).unwrap();
        list.entries.iter().map(|process| process.start_time.unwrap().unix_ms()).collect::<Vec<_>>()
    };
    let before = started(&mut machine);
    // The kernel computes the boot time from the wall clock: an hour was added to that.
    machine.put("proc/stat", "cpu  1 0 0 1 0 0 0 0 0 0\nbtime 1767229200\n");
    assert_eq!((started(&mut machine), before.len()), (before.clone(), 1), "the start is when it was at first");
}
