//! A machine for the tests of commands: files in a folder, programs whose output is recorded, a bus that answers from a list.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::action::{Context, Origin};
use super::intake;
use super::policy::Judge;
use super::power::Down;
use super::process_runner::{Captured, Ending, Finished, Program, ProgramRunner, RunningProgram, StartError, Usage};
use super::service_control;
use super::stop::Stop;
use super::system_bus::{Asked, BusError, SystemBus};
use crate::collector::linux::{LinuxCollector, Roots, Space};
use crate::communication::Receipt;

/// The time that commands get.
pub const TIME: Duration = Duration::from_secs(30);

/// See the module.
pub struct TestMachine {
    folder: tempfile::TempDir,
    programs: Programs,
    space: Space,
}

/// What is to be printed, by the program's name and its arguments in one line, and what was run so far.
#[derive(Clone, Default)]
struct Programs {
    known: HashMap<String, (i32, String, String)>,
    run: Arc<Mutex<Vec<Program>>>,
}

/// A program's name and its arguments.
fn line(program: &Program) -> String {
    let name = program.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let words = program.arguments.iter().map(|argument| argument.to_string_lossy().into_owned());
    std::iter::once(name).chain(words).collect::<Vec<_>>().join(" ")
}

impl ProgramRunner for Programs {
    fn run(&self, program: Program, _: Stop) -> RunningProgram {
        let line = line(&program);
        self.run.lock().unwrap_or_else(PoisonError::into_inner).push(program);
        let known = self.known.get(&line).cloned();
        Box::pin(async move {
            let unknown = || StartError { path: line.into(), source: io::ErrorKind::NotFound.into() };
            let (code, stdout, stderr) = known.ok_or_else(unknown)?;
            let captured = |text| Captured { text, omitted: 0 };
            let (stdout, stderr) = (captured(stdout), captured(stderr));
            Ok(Finished { ending: Ending::Exit(code), stdout, stderr, usage: Usage::default() })
        })
    }
}

impl TestMachine {
    /// A machine with these files, by their absolute paths.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let space = Space { total: 100 << 30, free: 60 << 30, available: 60 << 30, inodes: 1000, inodes_free: 900 };
        let machine = Self { folder: tempfile::tempdir().unwrap(), programs: Programs::default(), space };
        for folder in ["/etc", "/proc", "/sys"] {
            fs::create_dir_all(machine.path(folder)).unwrap();
        }
        files.iter().fold(machine, |machine, (path, text)| machine.file(path, text))
    }

    /// As above, on what a small machine in good order has in `/proc`.
    pub fn healthy(files: &[(&str, &str)]) -> Self {
        let machine = Self::new(&[
            ("/etc/fstab", "UUID=1 / ext4 errors=remount-ro 0 1\n"),
            ("/proc/filesystems", "nodev\tproc\n\text4\n\tvfat\n\tsquashfs\n"),
            (
                "/proc/self/mountinfo",
                "1 0 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n2 1 0:5 / /proc rw - proc proc rw\n",
            ),
            (
                "/proc/meminfo",
                "MemTotal: 4000000 kB\nMemFree: 500000 kB\nMemAvailable: 3000000 kB\n\
                SwapTotal: 1000000 kB\nSwapFree: 900000 kB\n",
            ),
            ("/proc/loadavg", "0.50 0.40 0.30 1/200 4242\n"),
            (
                "/proc/stat",
                "cpu  10 0 10 100 0 0 0 0 0 0\ncpu0 5 0 5 50 0 0 0 0 0 0\ncpu1 5 0 5 50 0 0 0 0 0 0\nbtime 1700000000\n",
            ),
            ("/proc/vmstat", "nr_free_pages 1\noom_kill 0\n"),
            ("/proc/sys/kernel/osrelease", "6.1.0-28-amd64\n"),
        ]);
        let pressure = ["cpu", "memory", "io"].map(|name| format!("/proc/pressure/{name}"));
        let quiet = "some avg10=1.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=1\n";
        let machine = pressure.iter().fold(machine, |machine, path| machine.file(path, quiet));
        files.iter().fold(machine, |machine, (path, text)| machine.file(path, text))
    }

    /// Where a file of the machine really is.
    pub fn path(&self, absolute: &str) -> std::path::PathBuf {
        self.folder.path().join(absolute.trim_start_matches('/'))
    }

    /// Another file.
    pub fn file(self, path: &str, text: &str) -> Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// An installed program that prints this and ends well.
    pub fn prints(self, line: &str, stdout: &str) -> Self {
        self.program(line, 0, stdout, "")
    }

    /// An installed program that does not end well.
    pub fn fails(self, line: &str, code: i32, stderr: &str) -> Self {
        self.program(line, code, "", stderr)
    }

    /// An installed program.
    pub fn program(mut self, line: &str, code: i32, stdout: &str, stderr: &str) -> Self {
        self.programs.known.insert(line.to_owned(), (code, stdout.to_owned(), stderr.to_owned()));
        let name = line.split(' ').next().unwrap_or_default();
        self.file(&format!("/usr/sbin/{name}"), "")
    }

    /// What every file system says of its space.
    pub fn with_space(self, space: Space) -> Self {
        Self { space, ..self }
    }

    /// The programs that ran.
    pub fn programs(&self) -> Vec<Program> {
        self.programs.run.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same as lines.
    pub fn ran(&self) -> Vec<String> {
        self.programs().iter().map(line).collect()
    }

    /// What a command gets.
    pub fn context(&self) -> Context {
        let roots = Roots { proc: self.path("/proc"), sys: self.path("/sys"), etc: self.path("/etc") };
        let (space, at) = (self.space, roots.clone());
        let collector = move || -> Box<dyn crate::collector::SystemMetricsProvider> {
            let probe = Arc::new(move |_: &Path| Ok(space));
            Box::new(LinuxCollector::with_kernel(at.clone(), probe, Box::new(|| Ok(Vec::new()))))
        };
        Context {
            origin: Arc::new(Origin::nobody()),
            receipt: Receipt::default(),
            stop: Stop::at(Instant::now() + TIME).1,
            programs: Arc::new(self.programs.clone()),
            roots: Arc::new(roots),
            collector: Arc::new(collector),
            services: service_control::find(self.folder.path()),
            packages: Arc::default(),
            judge: Judge::lenient(),
            intake: intake::channel().0,
            own: Arc::default(),
        }
    }
}

/// A bus whose services say what is in here; without systemd all of them say so.
#[derive(Clone, Debug, Default)]
pub struct FakeBus {
    /// Whether systemd runs the machine.
    pub is_systemd: bool,
    /// The failed units.
    pub failed: Vec<String>,
    /// Of the clock.
    pub is_synchronized: bool,
    /// Names that have an owner.
    pub owners: Vec<&'static str>,
    /// What was changed.
    pub calls: Arc<Mutex<Vec<String>>>,
}

impl FakeBus {
    /// A systemd with nothing to complain of.
    pub fn systemd() -> Self {
        Self { is_systemd: true, is_synchronized: true, ..Self::default() }
    }

    fn say<T: Send + 'static>(&self, value: T) -> Asked<'_, T> {
        let answer = if self.is_systemd { Ok(value) } else { Err(BusError::NoSystemd) };
        Box::pin(async move { answer })
    }

    fn note(&self, call: String) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }

    /// What was changed.
    pub fn called(&self) -> Vec<String> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl SystemBus for FakeBus {
    fn failed_units(&self) -> Asked<'_, Vec<String>> {
        self.say(self.failed.clone())
    }

    fn is_clock_synchronized(&self) -> Asked<'_, bool> {
        self.say(self.is_synchronized)
    }

    fn has_owner(&self, name: &'static str) -> Asked<'_, bool> {
        self.say(self.owners.contains(&name))
    }

    fn go_down(&self, down: Down) -> Asked<'_, ()> {
        if self.is_systemd {
            self.note(format!("{down:?}"));
        }
        self.say(())
    }
}
