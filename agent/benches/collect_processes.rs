//! One sample of the processes of the live machine, filled up to 300 with children, beside what it is measured against: a bare loop that
//! opens, reads and closes every `/proc/PID/stat`, one that keeps them open, and sysinfo asked for the same facts. Once while the children
//! sleep from sample to sample, as most processes of most machines do, and once while all of them run in between.
#![allow(clippy::unwrap_used, missing_docs)]

#[cfg(target_os = "linux")]
#[path = "../../protocol/benches/support/side_by_side.rs"]
mod side_by_side;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
mod linux {
    use std::cell::RefCell;
    use std::collections::HashMap;
    use std::ffi::OsString;
    use std::fmt::Write as _;
    use std::fs::{self, DirEntry, File};
    use std::hint::black_box;
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::FileExt;
    use std::path::Path;
    use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
    use std::time::{Duration, Instant};

    use criterion::Criterion;
    use infiniservice::collector::linux::{ProcessReader, Roots};
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

    use super::side_by_side::{Row, Subject, Times, judge};

    const PROCESSES: usize = 300;
    const ROUNDS: usize = 201;
    /// While the processes sleep: at most this many times what the bare loop takes, what only reading by kept descriptors takes, and what
    /// sysinfo takes.
    const ASLEEP: [Budget; 3] = [("bare", 1.2), ("kept", 1.0), ("sysinfo", 0.2)];
    /// While all of them run between the samples, which no machine's do.
    const AWAKE: [Budget; 1] = [("bare", 1.2)];

    type Budget = (&'static str, f64);

    /// What the agent's unit allows it.
    const DESCRIPTORS: u64 = 8192;

    pub fn main() -> ExitCode {
        allow_descriptors();
        let children = RefCell::new(Children::fill_up_to(PROCESSES));
        let mut criterion = Criterion::default()
            .warm_up_time(Duration::from_millis(100))
            .measurement_time(Duration::from_millis(800))
            .sample_size(20)
            .configure_from_args();
        let mut group = criterion.benchmark_group("processes");
        for (name, limit) in LISTS {
            let mut read = ours(Roots::default(), limit);
            group.bench_function(name, |bencher| bencher.iter(&mut read));
        }
        let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trees/processes/before");
        let roots = Roots { proc: recorded.join("proc"), sys: recorded.join("sys"), etc: recorded.join("etc") };
        let mut read = ours(roots, usize::MAX);
        group.bench_function("recorded", |bencher| bencher.iter(&mut read));
        group.finish();
        criterion.final_summary();
        let code = judge(|| budgets("asleep", &ASLEEP, || {}));
        let awake = judge(|| budgets("awake", &AWAKE, || children.borrow_mut().run()));
        if awake == ExitCode::SUCCESS { code } else { awake }
    }

    /// How many processes are told of, with program, arguments, user and `io`: nearly none, what the configuration says by default, each.
    const LISTS: [(&str, usize); 3] = [("top 1", 1), ("top 200", 200), ("all", 1000)];

    fn ours(roots: Roots, limit: usize) -> impl FnMut() {
        let mut reader = ProcessReader::new(roots);
        move || drop(black_box(reader.read(Instant::now(), limit).unwrap()))
    }

    fn budgets(state: &str, budgets: &[Budget], between_rounds: impl FnMut()) -> bool {
        let mut buffer = vec![0; 4096];
        let mut path = String::new();
        let mut kept = Kept::default();
        let mut system = System::new().unwrap();
        let mut subjects: Vec<_> = LISTS.map(|(name, limit)| Subject::new(name, ours(Roots::default(), limit))).into();
        subjects.push(Subject::new("bare", move || bare(&mut path, &mut buffer)));
        subjects.push(Subject::new("kept", move || kept.read()));
        subjects.push(Subject::new("sysinfo", move || _ = black_box(refresh(&mut system))));
        let times = Times::measure_after(ROUNDS, between_rounds, &mut subjects);
        println!("\nprocesses, {state}: {} on this machine, lower quartiles of {ROUNDS} rounds", processes().count());
        println!(
            "  bare opens, reads and closes every stat; kept only reads every stat, by descriptors that stay open"
        );
        let row = |name| -> Row<'static> { (name, [Some("bare"), Some("sysinfo")]) };
        times.print(["bare", "sysinfo"], &["top 1", "top 200", "all", "kept"].map(row));
        let missed = budgets.iter().filter(|(reference, limit)| !times.is_within("all", reference, *limit));
        missed.count() == 0
    }

    /// What nobody can do without who keeps no descriptors.
    fn bare(path: &mut String, buffer: &mut [u8]) {
        for entry in processes() {
            path.clear();
            write!(path, "/proc/{}/stat", entry.file_name().display()).unwrap();
            if let Ok(mut file) = File::open(&path) {
                black_box(file.read(buffer).unwrap_or_default());
            }
        }
    }

    /// The least that anybody can do who reads each `stat`: list the processes and read it through a descriptor that is kept, with one call.
    struct Kept {
        files: HashMap<OsString, File>,
        buffer: Vec<u8>,
    }

    impl Default for Kept {
        fn default() -> Self {
            Self { files: HashMap::new(), buffer: vec![0; 4096] }
        }
    }

    impl Kept {
        fn read(&mut self) {
            for entry in processes() {
                let file = match self.files.get(&entry.file_name()) {
                    Some(file) => file,
                    None => match File::open(entry.path().join("stat")) {
                        Ok(file) => self.files.entry(entry.file_name()).or_insert(file),
                        Err(_) => continue,
                    },
                };
                // A process that ended meanwhile is nobody's concern here.
                black_box(file.read_at(&mut self.buffer, 0).unwrap_or_default());
            }
        }
    }

    /// The facts that a list of processes tells, and no threads.
    fn refresh(system: &mut System) -> usize {
        let kind = ProcessRefreshKind::nothing()
            .with_cpu()
            .with_memory()
            .with_disk_usage()
            .with_cmd(UpdateKind::OnlyIfNotSet)
            .with_exe(UpdateKind::OnlyIfNotSet)
            .with_user(UpdateKind::OnlyIfNotSet)
            .without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind)
    }

    fn processes() -> impl Iterator<Item = DirEntry> {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        entries.filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit())
    }

    /// As many as the unit allows, where this machine does.
    fn allow_descriptors() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let current = Some(maximum.map_or(DESCRIPTORS, |maximum| maximum.min(DESCRIPTORS)));
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    }

    /// Processes that end with the benchmark. Each sleeps until a byte comes and gives it back.
    struct Children(Vec<(Child, ChildStdin, ChildStdout)>);

    impl Children {
        fn fill_up_to(count: usize) -> Self {
            let missing = count.saturating_sub(processes().count());
            let child = |_| {
                let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
                let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
                (child, stdin, stdout)
            };
            Self((0..missing).map(child).collect())
        }

        /// Has each of them run.
        fn run(&mut self) {
            for (_, stdin, stdout) in &mut self.0 {
                stdin.write_all(b"x").unwrap();
                stdout.read_exact(&mut [0]).unwrap();
            }
        }
    }

    impl Drop for Children {
        fn drop(&mut self) {
            for (mut child, stdin, _) in self.0.drain(..) {
                drop(stdin);
                child.wait().unwrap();
            }
        }
    }
}
