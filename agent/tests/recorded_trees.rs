//! The system groups on recorded machines, and on two that are made up for what no recording has (trees/README.md). The expected
//! numbers were worked out from the files by hand.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/machine.rs"]
mod machine;

use std::time::Duration;

use infini_protocol::{ErrorCode, Percent};
use infiniservice::collector::{CollectFailure, SystemMetricsProvider};
use machine::{Machine, cores, mount_points, shares, traffic};

/// Between the snapshots of the machines that are made up.
const STEP: Duration = Duration::from_secs(2);

#[test]
fn a_small_virtual_machine_under_load() {
    let machine = Machine::new("small-vm");
    let mut collector = machine.collector(&[(1, "127.0.0.1"), (4, "10.0.0.5"), (4, "fe80::fc:ff:fe00:1")]);
    collector.collect_cpu(machine.start).unwrap();
    collector.collect_disk_io(machine.start).unwrap();
    let now = machine.go_on(Duration::from_millis(1_520));

    // 304 ticks, all of them user and system.
    let cpu = collector.collect_cpu(now).unwrap();
    assert_eq!((shares(&cpu), cores(&cpu)), ((100.0, Some(0.0), Some(0.0)), vec![100.0, 100.0]));
    assert_eq!(cpu.temperature, None);

    let memory = collector.collect_memory().unwrap();
    assert_eq!((memory.total_kb, memory.available_kb, memory.used_kb), (24_684_084, 20_891_860, 3_792_224));
    assert_eq!((memory.swap_total_kb, memory.swap_used_kb), (Some(0), Some(0)));

    // 481 reads of 10888 sectors and 6 writes of 10264 sectors in 1.52 s, 16 ms of them busy.
    let disk = collector.collect_disk_io(now).unwrap();
    assert_eq!(traffic(&disk.total), (3_667_537, 3_457_347, 316, 4, 1.05));
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
fn an_old_kernel_that_tells_less() {
    let machine = Machine::new("old-kernel");
    let mut collector = machine.collector(&[(2, "192.168.122.7")]);
    collector.collect_cpu(machine.start).unwrap();
    collector.collect_disk_io(machine.start).unwrap();
    collector.collect_network(machine.start).unwrap();
    let now = machine.go_on(STEP);

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
    let machine = Machine::new("old-kernel");
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
    let machine = Machine::new("wrapped-counters");
    let mut collector = machine.collector(&[]);
    assert_eq!(collector.collect_cpu(machine.start).unwrap().cores_usage.len(), 63);
    let before = collector.collect_disk_io(machine.start).unwrap();
    assert_eq!(before.devices.len(), 4);
    let now = machine.go_on(STEP);

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

/// Six containers of podman, one of them replaced between the snapshots. The figures are differences of the files' fields, divided by
/// the 28.47 s between the two `/proc/uptime`.
#[test]
fn a_container_host_with_many_mounts() {
    let machine = Machine::new("container-host");
    let mut collector = machine.collector(&[(14, "fe80::e"), (15, "fe80::f"), (2, "10.0.2.15")]);
    collector.collect_cpu(machine.start).unwrap();
    collector.collect_disk_io(machine.start).unwrap();
    let before = collector.collect_network(machine.start).unwrap();
    let now = machine.go_on(Duration::from_millis(28_470));

    // 1567 user, 2215 system and 331 softirq of 7800 ticks; 21 waiting.
    let cpu = collector.collect_cpu(now).unwrap();
    assert_eq!((shares(&cpu), cores(&cpu)), ((52.73, Some(0.0), Some(0.27)), vec![53.72, 59.04, 49.19, 49.57]));

    let memory = collector.collect_memory().unwrap();
    assert_eq!((memory.total_kb, memory.available_kb, memory.used_kb), (2_025_500, 1_779_148, 246_352));
    assert_eq!((memory.swap_total_kb, memory.swap_used_kb), (Some(262_140), Some(768)));

    // Volumes of LVM, loops, partitions, zram and an empty CD drive do not count.
    let disk = collector.collect_disk_io(now).unwrap();
    let seen: Vec<_> = disk.devices.iter().map(|device| (&*device.name, traffic(&device.io))).collect();
    let expected = [
        ("vda", (31_652, 20_717, 1, 2, 1.22)),
        ("vdb", (883_942, 36_309, 1, 4, 1.63)),
        ("sdb", (72, 147_647, 0, 2, 0.46)),
        ("sda", (0, 598_502, 0, 1, 0.59)),
    ];
    assert_eq!(seen, expected);
    assert_eq!(traffic(&disk.total), (915_666, 803_175, 2, 9, 1.63));

    let network = collector.collect_network(now).unwrap();
    let down: Vec<&str> = network.entries.iter().filter(|one| !one.is_up).map(|one| &*one.name).collect();
    assert_eq!((network.entries.len(), down), (14, vec!["ens3.100", "veth-green", "tap0"]));
    let podman0 = network.entries.iter().find(|one| &*one.name == "podman0").unwrap();
    assert_eq!(podman0.received_bytes_per_sec, Some(11_026_840));
    assert_eq!(podman0.sent_bytes_per_sec, Some(17_279));
    // The container that was replaced: another interface has taken the name.
    let replaced = |list: &[infini_protocol::metrics::NetworkInterface]| {
        let veth5 = list.iter().find(|one| &*one.name == "veth5").unwrap();
        (veth5.ip_addresses[0].to_string(), veth5.received_bytes_per_sec)
    };
    assert_eq!(replaced(&before.entries), ("fe80::e".to_owned(), None));
    assert_eq!(replaced(&network.entries), ("fe80::f".to_owned(), None));

    // Of 72 mounts. The one on /mnt/old is hidden by a tmpfs; btrfs shows three subvolumes of one file system.
    let expected =
        ["/", "/var/lib/containers", "/srv/data", "/boot/efi", "/home", "/mnt/backup disk", "/srv/tab\there"];
    assert_eq!(mount_points(&mut collector), expected);
}

/// The figures are differences of the files' fields, divided by the time between the two `/proc/uptime`.
#[test]
fn a_machine_of_64_processors_whose_disks_come_and_go() {
    let machine = Machine::new("many-cores");
    let mut collector = machine.collector(&[(2, "10.0.2.15")]);
    assert_eq!(collector.collect_cpu(machine.start).unwrap().cores_usage.len(), 63);
    collector.collect_disk_io(machine.start).unwrap();
    assert_eq!(mount_points(&mut collector), ["/", "/data"]);
    let now = machine.go_on(Duration::from_millis(16_340));

    // 1072 user, 693 system and 53 softirq of 70457 ticks; 1893 waiting.
    let cpu = collector.collect_cpu(now).unwrap();
    assert_eq!(shares(&cpu), (2.58, Some(0.0), Some(2.69)));
    // Processors 5 and 17 left, 63 came.
    let cores = cores(&cpu);
    assert_eq!(cores.len(), 62, "{cores:?}");
    assert_eq!(cores[..6], [65.96, 62.1, 63.32, 61.71, 12.64, 6.26]);
    assert_eq!(cores[14..17], [1.0, 62.7, 0.79]);
    assert_eq!(cores[59..], [0.53, 59.82, 0.0]);
    // The only sensor is a disk's.
    assert_eq!(cpu.temperature, None);

    let disk = collector.collect_disk_io(now).unwrap();
    let seen: Vec<_> = disk.devices.iter().map(|device| (&*device.name, traffic(&device.io))).collect();
    let expected = [
        ("sda", (125, 14_379_492, 0, 15, 52.63)),
        // A path of a multipath disk: this kernel keeps the statistics there.
        ("nvme0c0n1", (12_327_105, 689, 47, 1, 80.69)),
        // Another disk under the name of one that left, and a new one.
        ("sdb", (0, 0, 0, 0, 0.0)),
        ("nvme1n1", (0, 0, 0, 0, 0.0)),
    ];
    assert_eq!(seen, expected);
    assert_eq!(traffic(&disk.total), (12_327_230, 14_380_181, 47, 16, 80.69));
    assert_eq!(mount_points(&mut collector), ["/", "/data", "/mnt/hot"]);
    assert_eq!(collector.collect_uptime().unwrap(), 123);
}
