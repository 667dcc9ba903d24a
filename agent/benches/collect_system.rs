//! What measuring the machine without its processes costs: each group and all of them, beside a bare loop that reads the same files and
//! throws them away, and beside sysinfo for the same figures; then each group on recorded machines.
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
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use criterion::Criterion;
    use infiniservice::collector::SystemMetricsProvider;
    use infiniservice::collector::linux::{LinuxCollector, Roots, Space};

    use super::side_by_side::{Row, Subject, Times};

    /// At most this many times what the bare loop takes.
    const BUDGET_BARE: f64 = 2.0;
    /// At most this part of what sysinfo takes.
    const BUDGET_SYSINFO: f64 = 0.2;
    const ROUNDS: usize = 1001;

    pub fn criterion() -> Criterion {
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

    /// What has an interval of its own and is read for few samples.
    const SELDOM: [(&str, Read); 2] = [
        ("disk_usage", |collector, _| _ = black_box(collector.collect_disk_usage().unwrap())),
        ("info", |collector, _| _ = black_box(collector.collect_info().ok())),
    ];

    fn all(collector: &mut LinuxCollector, now: Instant) {
        GROUPS.iter().for_each(|(_, read)| read(collector, now));
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
            _ => unreachable!("{group} is not read for each sample"),
        };
        let mut paths: Vec<PathBuf> = names.iter().map(|name| Path::new("/proc").join(name)).collect();
        if group == "network" {
            paths.extend(states());
        }
        paths
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

    pub fn live(criterion: &mut Criterion) {
        let mut collector = LinuxCollector::new(Roots::default());
        let mut group = criterion.benchmark_group("live");
        group.bench_function("all", |bencher| bencher.iter(|| all(&mut collector, Instant::now())));
        for (name, read) in GROUPS.into_iter().chain(SELDOM) {
            group.bench_function(name, |bencher| bencher.iter(|| read(&mut collector, Instant::now())));
        }
        group.finish();
    }

    pub fn recorded(criterion: &mut Criterion) {
        for machine in ["small-vm", "container-host", "many-cores"] {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trees").join(machine).join("t0");
            let roots = Roots { proc: root.join("proc"), sys: root.join("sys"), etc: root.join("etc") };
            let mut group = criterion.benchmark_group(format!("recorded/{machine}"));
            for (name, read) in GROUPS.into_iter().chain(SELDOM) {
                let space = |_: &Path| Ok(Space { total: 1 << 30, ..Space::default() });
                let mut collector =
                    LinuxCollector::with_kernel(roots.clone(), Arc::new(space), Box::new(|| Ok(Vec::new())));
                group.bench_function(name, |bencher| bencher.iter(|| read(&mut collector, Instant::now())));
            }
            group.finish();
        }
    }

    /// All of them in turn, so that whatever else the machine does meets all of them.
    pub fn budgets() {
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
        println!("\nsystem groups: {files} files, lower quartiles of {ROUNDS} rounds");
        let names: Vec<&str> = ["all"].into_iter().chain(GROUPS.map(|(name, _)| name)).collect();
        let references: Vec<_> = names.iter().map(|name| (format!("{name} bare"), format!("{name} sysinfo"))).collect();
        let mut rows: Vec<Row<'_>> = Vec::new();
        for (name, (bare, sysinfo)) in names.iter().zip(&references) {
            rows.push((name, [Some(bare), Some(sysinfo.as_str()).filter(|_| !WITHOUT_SYSINFO.contains(name))]));
        }
        times.print(["bare", "sysinfo"], &rows);
        times.print_verdict("all", "all bare", BUDGET_BARE);
        times.print_verdict("all", "all sysinfo", BUDGET_SYSINFO);
    }
}

#[cfg(target_os = "linux")]
fn main() {
    let mut criterion = linux::criterion();
    linux::live(&mut criterion);
    linux::recorded(&mut criterion);
    criterion.final_summary();
    linux::budgets();
}

#[cfg(not(target_os = "linux"))]
fn main() {}
