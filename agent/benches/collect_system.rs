//! What measuring the machine costs: each group and a whole sample, on the live machine and on recorded ones; then what is read for each
//! sample beside a bare loop that reads the same files and throws them away, and beside sysinfo for the same figures.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[cfg(target_os = "linux")]
#[path = "../../protocol/benches/support/side_by_side.rs"]
mod side_by_side;

#[cfg(target_os = "linux")]
mod linux {
    use std::cell::RefCell;
    use std::fs::{self, File};
    use std::hint::black_box;
    use std::os::unix::fs::FileExt;
    use std::path::{Path, PathBuf};
    use std::process::ExitCode;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use criterion::Criterion;
    use infiniservice::collector::SystemMetricsProvider;
    use infiniservice::collector::linux::{LinuxCollector, Roots, Space};

    use super::side_by_side::{Row, Subject, Times, judge};

    /// At most this many times what the bare loop takes.
    const BUDGET_BARE: f64 = 2.0;
    /// At most this part of what sysinfo takes.
    const BUDGET_SYSINFO: f64 = 0.2;
    const ROUNDS: usize = 1001;
    const PORT_ROUNDS: usize = 101;

    fn criterion() -> Criterion {
        Criterion::default()
            .warm_up_time(Duration::from_millis(100))
            .measurement_time(Duration::from_millis(500))
            .sample_size(20)
            .configure_from_args()
    }

    type Read = fn(&mut LinuxCollector, Instant);

    /// What is read for each sample.
    const GROUPS: [(&str, Read); 7] = [
        ("cpu", |collector, now| _ = black_box(collector.collect_cpu(now).unwrap())),
        ("memory", |collector, _| _ = black_box(collector.collect_memory().unwrap())),
        ("disk_io", |collector, now| _ = black_box(collector.collect_disk_io(now).unwrap())),
        ("network", |collector, now| _ = black_box(collector.collect_network(now).ok())),
        // Not every kernel has it.
        ("pressure", |collector, _| _ = black_box(collector.collect_pressure().ok())),
        ("load", |collector, _| _ = black_box(collector.collect_load_average().ok())),
        ("uptime", |collector, _| _ = black_box(collector.collect_uptime().ok())),
    ];

    /// What has an interval of its own and is read for few samples, and processes, which have a benchmark of their own too.
    const OTHERS: [(&str, Read); 5] = [
        ("disk_usage", |collector, _| _ = black_box(collector.collect_disk_usage().unwrap())),
        ("info", |collector, _| _ = black_box(collector.collect_info().ok())),
        ("processes", |collector, now| _ = black_box(collector.collect_processes(now, 200).unwrap())),
        ("ports", ports),
        // Not every machine has a systemd to ask; without one this is the time in which that is found out.
        ("services", |collector, _| _ = black_box(collector.collect_services(500).ok())),
    ];

    fn ports(collector: &mut LinuxCollector, _: Instant) {
        black_box(collector.collect_ports(500).unwrap());
    }

    fn all(collector: &mut LinuxCollector, now: Instant) {
        GROUPS.iter().for_each(|(_, read)| read(collector, now));
    }

    /// A sample in which everything is due.
    fn whole(collector: &mut LinuxCollector, now: Instant) {
        GROUPS.iter().chain(&OTHERS).for_each(|(_, read)| read(collector, now));
    }

    /// The files behind some groups, opened once and read with one `pread` each into a buffer that holds the longest; nothing looks at
    /// the text.
    struct Bare {
        files: Vec<File>,
        buffer: Vec<u8>,
    }

    impl Bare {
        fn new(groups: &[&str]) -> Self {
            let files = groups.iter().flat_map(|group| files_of(group));
            // What is not there costs the collector nothing either after the first time.
            Self { files: files.filter_map(|path| File::open(path).ok()).collect(), buffer: vec![0; 64 << 10] }
        }

        fn read(&mut self) {
            for file in &self.files {
                black_box(file.read_at(&mut self.buffer, 0).unwrap());
            }
        }
    }

    fn files_of(group: &str) -> Vec<PathBuf> {
        let names: &[&str] = match group {
            "cpu" => &["stat"],
            "memory" => &["meminfo"],
            "disk_io" => &["diskstats"],
            "network" => &["self/net/dev"],
            "pressure" => &["pressure/cpu", "pressure/memory", "pressure/io"],
            "load" => &["loadavg"],
            "uptime" => &["uptime"],
            "ports" => &["net/tcp", "net/tcp6", "net/udp", "net/udp6"],
            _ => unreachable!("{group} is not read for each sample"),
        };
        let mut paths: Vec<PathBuf> = names.iter().map(|name| Path::new("/proc").join(name)).collect();
        if group == "network" {
            paths.extend(states());
        }
        paths
    }

    /// Every descriptor of every process: the only place where it is written whose a socket is. Gives how many there were.
    fn descriptors() -> usize {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let processes = processes.filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit());
        let links = processes.flat_map(|entry| fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten());
        links.filter(|link| fs::read_link(link.path()).is_ok()).count()
    }

    /// What tells of each interface whether it is up: `operstate`, and `flags` too where the driver does not say.
    fn states() -> Vec<PathBuf> {
        let directories = fs::read_dir("/sys/class/net").into_iter().flatten().flatten().map(|entry| entry.path());
        let says_nothing = |state: &Path| fs::read_to_string(state).is_ok_and(|state| state == "unknown\n");
        let files = directories.flat_map(|directory| {
            let operstate = directory.join("operstate");
            let flags = says_nothing(&operstate).then(|| directory.join("flags"));
            [Some(operstate), flags]
        });
        files.flatten().collect()
    }

    /// sysinfo, told to refresh nothing but what the groups hold. Beyond that it looks each time for other mounts and asks the kernel for the
    /// interfaces' addresses and link speeds, which cannot be switched off; the collector looks for other disks and interfaces each time
    /// too, but asks for addresses once a minute and when an interface changes.
    struct Sysinfo {
        system: sysinfo::System,
        disks: sysinfo::Disks,
        networks: sysinfo::Networks,
    }

    /// Groups that sysinfo does not read here: it has no pressure, and it looks at processors only every 200 ms, so that nearly all of the
    /// rounds cost it nothing.
    const WITHOUT_SYSINFO: [&str; 2] = ["cpu", "pressure"];

    type Refresh = fn(&mut Sysinfo);

    const REFRESHES: [(&str, Refresh); 6] = [
        ("cpu", |sysinfo| sysinfo.system.refresh_cpu_usage()),
        ("memory", |sysinfo| sysinfo.system.refresh_memory()),
        ("disk_io", |sysinfo| {
            sysinfo.disks.refresh_specifics(true, sysinfo::DiskRefreshKind::nothing().with_io_usage());
        }),
        ("network", |sysinfo| sysinfo.networks.refresh(true)),
        ("load", |_| _ = black_box(sysinfo::System::load_average().unwrap())),
        ("uptime", |_| _ = black_box(sysinfo::System::uptime().unwrap())),
    ];

    impl Sysinfo {
        fn new() -> Self {
            Self {
                system: sysinfo::System::new().unwrap(),
                disks: sysinfo::Disks::new_with_refreshed_list().unwrap(),
                networks: sysinfo::Networks::new_with_refreshed_list().unwrap(),
            }
        }
    }

    fn live(criterion: &mut Criterion) {
        let mut collector = LinuxCollector::new(Roots::default());
        let mut group = criterion.benchmark_group("live");
        group.bench_function("whole sample", |bencher| bencher.iter(|| whole(&mut collector, Instant::now())));
        group.bench_function("each sample", |bencher| bencher.iter(|| all(&mut collector, Instant::now())));
        for (name, read) in GROUPS.into_iter().chain(OTHERS) {
            group.bench_function(name, |bencher| bencher.iter(|| read(&mut collector, Instant::now())));
        }
        group.finish();
    }

    fn recorded(criterion: &mut Criterion) {
        let system: Vec<_> = GROUPS.into_iter().chain(OTHERS.into_iter().take(2)).collect();
        for machine in ["small-vm", "container-host", "many-cores"] {
            recorded_machine(criterion, machine, "t0", &system);
        }
        // Its processes were recorded for themselves.
        let rest: Vec<_> = OTHERS.into_iter().filter(|(name, _)| matches!(*name, "processes" | "ports")).collect();
        recorded_machine(criterion, "processes", "before", &rest);
    }

    fn recorded_machine(criterion: &mut Criterion, machine: &str, moment: &str, groups: &[(&str, Read)]) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trees").join(machine).join(moment);
        let roots = Roots { proc: root.join("proc"), sys: root.join("sys"), etc: root.join("etc") };
        let space = |_: &Path| Ok(Space { total: 1 << 30, ..Space::default() });
        let mut collector = LinuxCollector::with_kernel(roots, Arc::new(space), Box::new(|| Ok(Vec::new())));
        let mut group = criterion.benchmark_group(format!("recorded/{machine}"));
        group.bench_function("all of it", |bencher| {
            bencher.iter(|| groups.iter().for_each(|(_, read)| read(&mut collector, Instant::now())));
        });
        for (name, read) in groups {
            group.bench_function(*name, |bencher| bencher.iter(|| read(&mut collector, Instant::now())));
        }
        group.finish();
    }

    /// All of them in turn, so that whatever else the machine does meets all of them.
    fn budgets() -> bool {
        let collector = RefCell::new(LinuxCollector::new(Roots::default()));
        let sysinfo = RefCell::new(Sysinfo::new());
        let mut bare_all = Bare::new(&GROUPS.map(|(name, _)| name));
        let files = bare_all.files.len();
        let mut subjects = vec![
            Subject::new("all", || all(&mut collector.borrow_mut(), Instant::now())),
            Subject::new("all bare", move || bare_all.read()),
            Subject::new("all sysinfo", || {
                REFRESHES.iter().for_each(|(_, refresh)| refresh(&mut sysinfo.borrow_mut()))
            }),
        ];
        for (name, read) in GROUPS {
            let mut bare = Bare::new(&[name]);
            let collector = &collector;
            subjects.push(Subject::new(name, move || read(&mut collector.borrow_mut(), Instant::now())));
            subjects.push(Subject::new(format!("{name} bare"), move || bare.read()));
        }
        for (name, refresh) in REFRESHES {
            let sysinfo = &sysinfo;
            subjects.push(Subject::new(format!("{name} sysinfo"), move || refresh(&mut sysinfo.borrow_mut())));
        }
        let times = Times::measure(ROUNDS, &mut subjects);
        println!("\nread for each sample: {files} files, lower quartiles of {ROUNDS} rounds");
        let names: Vec<&str> = ["all"].into_iter().chain(GROUPS.map(|(name, _)| name)).collect();
        let references: Vec<_> = names.iter().map(|name| (format!("{name} bare"), format!("{name} sysinfo"))).collect();
        let mut rows: Vec<Row<'_>> = Vec::new();
        for (name, (bare, sysinfo)) in names.iter().zip(&references) {
            rows.push((name, [Some(bare), Some(sysinfo.as_str()).filter(|_| !WITHOUT_SYSINFO.contains(name))]));
        }
        times.print(["bare", "sysinfo"], &rows);
        let bare = times.is_within("all", "all bare", BUDGET_BARE);
        times.is_within("all", "all sysinfo", BUDGET_SYSINFO) && bare
    }

    /// Ports, which are read once a minute, beside their files and, where the owners are looked for too, beside reading every descriptor of
    /// every process. sysinfo has no ports.
    fn print_ports() {
        let mut known = LinuxCollector::new(Roots::default());
        let mut bare = Bare::new(&["ports"]);
        let mut bare_first = Bare::new(&["ports"]);
        let mut subjects = [
            Subject::new("ports", || ports(&mut known, Instant::now())),
            Subject::new("tables", || bare.read()),
            Subject::new("ports, owners", || ports(&mut LinuxCollector::new(Roots::default()), Instant::now())),
            Subject::new("tables and links", || {
                bare_first.read();
                black_box(descriptors());
            }),
        ];
        let times = Times::measure(PORT_ROUNDS, &mut subjects);
        println!("\nports: {} descriptors on this machine, lower quartiles of {PORT_ROUNDS} rounds", descriptors());
        times.print(
            ["tables", "with links"],
            &[("ports", [Some("tables"), None]), ("ports, owners", [None, Some("tables and links")])],
        );
    }

    pub fn main() -> ExitCode {
        let mut criterion = criterion();
        live(&mut criterion);
        recorded(&mut criterion);
        criterion.final_summary();
        print_ports();
        judge(budgets)
    }
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {}
