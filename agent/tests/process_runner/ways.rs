//! The two ways to hold a program, and what the tests need around them.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use infiniservice::commands::process_runner::{Ending, Finished, Program, ProgramRunner as _, Runner, StartError};
use infiniservice::commands::stop::{Stop, StopOrder};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

/// The agent's binary, which becomes the supervisor.
pub const AGENT: &str = env!("CARGO_BIN_EXE_infiniservice");

/// No test runs this long unless something hangs.
pub const LONG: Duration = Duration::from_secs(60);

/// One way to hold programs, and a mark by which every process is found that descends from one of them.
pub struct Way {
    pub name: &'static str,
    pub runner: Runner,
    pub folder: TempDir,
    mark: String,
    // Last, so that it is dropped after the runner.
    base: Option<PathBuf>,
}

/// Both ways, or one where this machine lets no control group be made.
pub fn ways() -> Vec<Way> {
    let mut ways = vec![Way::new("supervisor", Runner::with_supervisors(AGENT), None)];
    match new_base() {
        Ok(base) => ways.push(Way::new("control group", Runner::with_groups(&base, AGENT), Some(base))),
        Err(reason) => println!("only supervisors are tried, for there is no control group here: {reason}"),
    }
    ways
}

static NEXT: AtomicU32 = AtomicU32::new(1);

pub fn new_base() -> Result<PathBuf, String> {
    let mounts = fs::read_to_string("/proc/self/mounts").map_err(|error| error.to_string())?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount =
        fields.into_iter().find(|fields| fields.get(2) == Some(&"cgroup2")).ok_or("version 2 is not mounted")?;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let base = Path::new(mount[1]).join(format!("infiniservice-test-{}-{number}", std::process::id()));
    fs::create_dir(&base).map_err(|error| format!("{}: {error}", base.display()))?;
    // Where the machine has them in version 2.
    let _ = fs::write(base.join("cgroup.subtree_control"), "+memory +pids");
    Ok(base)
}

impl Way {
    fn new(name: &'static str, runner: Runner, base: Option<PathBuf>) -> Self {
        let mark = format!("INFINISERVICE_TEST_MARK={}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self { name, runner, folder: tempfile::tempdir().unwrap(), mark, base }
    }

    /// A program whose descendants are found.
    pub fn program(&self, path: &str, arguments: &[&str]) -> Program {
        let mut program = Program::new(path, arguments.iter().map(OsString::from));
        let (name, value) = self.mark.split_once('=').unwrap();
        program.environment.push((name.into(), value.into()));
        program
    }

    pub fn shell(&self, line: &str) -> Program {
        self.program("/bin/sh", &["-c", line])
    }

    /// Runs it to its end.
    pub async fn run(&self, program: Program) -> Finished {
        self.try_run(program).await.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    pub async fn try_run(&self, program: Program) -> Result<Finished, StartError> {
        let (_order, stop) = stop_after(LONG);
        self.runner.run(program, stop).await
    }

    /// What a shell line prints.
    pub async fn printed(&self, program: Program) -> String {
        let finished = self.run(program).await;
        let name = self.name;
        assert_eq!((finished.ending, finished.stderr.text.as_str()), (Ending::Exit(0), ""), "{name}: {finished:?}");
        finished.stdout.text
    }

    /// A pipe in the file system that shell lines know by this variable, for the test and the program to tell each other how far they are.
    pub fn pipe(&self, variable: &str, program: &mut Program) -> Pipe {
        let path = self.folder.path().join(variable);
        let _ = fs::remove_file(&path);
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        program.environment.push((variable.into(), path.clone().into()));
        Pipe(path)
    }

    /// Waits for the end of all that was started, and says who is left all the same.
    pub async fn drained_within(&self, time: Duration) {
        let drained = timeout(time, self.runner.drain()).await;
        let left = self.survivors();
        assert!(drained.is_ok() && left.is_empty(), "{}: after {time:?} these are left: {left:?}", self.name);
    }

    /// The processes that carry this way's mark.
    pub fn survivors(&self) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            if environment.split(|&byte| byte == 0).any(|line| line == self.mark.as_bytes()) {
                let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                found.push(format!("{:?} {}", entry.file_name(), String::from_utf8_lossy(&line).replace('\0', " ")));
            }
        }
        found
    }
}

/// The groups of its commands are gone by then.
impl Drop for Way {
    fn drop(&mut self) {
        if let Some(base) = &self.base {
            let removed = fs::remove_dir(base);
            assert!(removed.is_ok() || std::thread::panicking(), "{}: {removed:?}", base.display());
        }
    }
}

/// Each end waits for the other.
pub struct Pipe(PathBuf);

impl Pipe {
    /// What the program says.
    pub async fn said(&self) -> String {
        self.on_a_thread(fs::read_to_string).await
    }

    /// Says something to the program.
    pub async fn say(&self, word: &'static str) {
        self.on_a_thread(move |path| fs::OpenOptions::new().write(true).open(path)?.write_all(word.as_bytes())).await;
    }

    async fn on_a_thread<T: Send + 'static>(&self, work: impl FnOnce(PathBuf) -> io::Result<T> + Send + 'static) -> T {
        let path = self.0.clone();
        let done = tokio::task::spawn_blocking(move || work(path).unwrap());
        timeout(LONG, done).await.expect("the program never got that far").unwrap()
    }
}

pub fn stop_after(time: Duration) -> (StopOrder, Stop) {
    Stop::at(Instant::now() + time)
}
