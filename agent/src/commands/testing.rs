//! What stands in for the machine in tests of commands.

use std::collections::VecDeque;
use std::future::ready;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::action::{Context, Origin};
use super::intake;
use super::policy::Judge;
use super::process_runner::{Captured, Ending, Finished, Program, ProgramRunner, RunningProgram, Usage};
use super::service_control::{self, ServiceManager};
use super::stop::{Stop, StopOrder};
use crate::collector::SystemMetricsProvider;
use crate::collector::linux::Roots;
use crate::communication::Receipt;

/// Starts nothing: answers from a table and remembers what it was to start.
#[derive(Debug, Default)]
pub struct FakePrograms {
    answers: Mutex<Vec<(String, VecDeque<Finished>)>>,
    ran: Mutex<Vec<Program>>,
}

impl FakePrograms {
    /// The program that is started by this line (path and arguments with a blank between them) prints this and ends well.
    pub fn prints(self, line: &str, stdout: &str) -> Self {
        self.answers(line, finished(Ending::Exit(0), stdout, ""))
    }

    /// The program that is started by this line fails.
    pub fn fails(self, line: &str, exit_code: i32, stderr: &str) -> Self {
        self.answers(line, finished(Ending::Exit(exit_code), "", stderr))
    }

    /// How the program that is started by this line ends. Said again for the same line it is how the next one ends, and the last
    /// holds for all further ones.
    pub fn answers(self, line: &str, finished: Finished) -> Self {
        {
            let mut answers = self.answers.lock().unwrap();
            match answers.iter_mut().find(|(known, _)| known == line) {
                Some((_, answers)) => answers.push_back(finished),
                None => answers.push((line.to_owned(), VecDeque::from([finished]))),
            }
        }
        self
    }

    /// What was to be started so far.
    pub fn ran(&self) -> Vec<Program> {
        self.ran.lock().unwrap().clone()
    }

    /// The same as lines.
    pub fn lines(&self) -> Vec<String> {
        self.ran().iter().map(line).collect()
    }
}

impl ProgramRunner for FakePrograms {
    fn run(&self, program: Program, _: Stop) -> RunningProgram {
        let line = line(&program);
        self.ran.lock().unwrap().push(program);
        let mut table = self.answers.lock().unwrap();
        let Some((_, answers)) = table.iter_mut().find(|(known, _)| *known == line) else {
            panic!("nobody expected {line:?}");
        };
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        Box::pin(ready(Ok(answer.unwrap())))
    }
}

/// A program's path and arguments.
pub fn line(program: &Program) -> String {
    program.line()
}

/// How a program ended that printed this.
pub fn finished(ending: Ending, stdout: &str, stderr: &str) -> Finished {
    let captured = |text: &str| Captured { text: text.to_owned(), omitted: 0 };
    Finished { ending, stdout: captured(stdout), stderr: captured(stderr), usage: Usage::default() }
}

/// What a command works with that has half a minute.
pub fn context(programs: Arc<FakePrograms>, services: Arc<dyn ServiceManager>) -> (StopOrder, Context) {
    let (order, stop) = Stop::at(Instant::now() + Duration::from_secs(30));
    let collector = Arc::new(|| -> Box<dyn SystemMetricsProvider> { unreachable!("nothing is measured here") });
    let context = Context {
        origin: Arc::new(Origin::nobody()),
        receipt: Receipt::default(),
        stop,
        programs,
        packages: Arc::default(),
        roots: Arc::new(Roots::default()),
        collector,
        services,
        judge: Judge::lenient(),
        intake: intake::channel().0,
        own: Arc::default(),
    };
    (order, context)
}

/// The same of a machine that has no services, and on which no program is started.
pub fn idle_context() -> Context {
    context(Arc::new(FakePrograms::default()), service_control::find(Path::new("/nowhere"))).1
}

/// Compares an action's `data` with its golden file, which other implementations may rely on. `UPDATE_GOLDEN=1` writes the file anew, for
/// a person to read and commit.
pub fn assert_golden(action: &str, found: &Value) {
    let path = golden_files().join(format!("{action}.json"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(found).unwrap() + "\n").unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let golden: Value = serde_json::from_str(&text).unwrap_or_default();
    assert_eq!(&golden, found, "{} should be:\n{found:#}", path.display());
}

/// The folder of golden files, one for each action of this platform.
pub fn golden_files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/commands")
}
