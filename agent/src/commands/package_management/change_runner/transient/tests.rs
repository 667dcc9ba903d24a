use std::sync::Mutex;

use infini_protocol::agent::Ended;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;

use super::records::to_boot_ms;
use super::*;
use crate::commands::action::{Context, Origin};
use crate::commands::outcome::Outcome;
use crate::commands::package_management::apt::Apt;
use crate::commands::package_management::change;
use crate::commands::package_management::manager::{Change, PackageManager as _, Step};
use crate::commands::package_management::task::{Before, Task};
use crate::commands::package_management::{Packages, adopt};
use crate::commands::process_runner::RunningProgram;
use crate::commands::stop::StopOrder;
use crate::commands::system_bus::{Asked, BusError};
use crate::commands::testing::{finished, idle_context};
use crate::commands::validation::PackageName;

const BOOT: &str = "this boot";
const TIME: Duration = Duration::from_secs(30);
const INSTALLED: &str = "tree\tamd64\tinstalled\t2.1.0-1\t116\tx <x@example.org>\tdisplays folders\n";

fn tree() -> PackageName {
    PackageName::try_from("tree".to_owned()).unwrap()
}

pub fn remove_tree() -> Step {
    Apt.change(&Change::Remove(tree()))
}

/// An order to remove `tree`, of a command with the id `c1`.
pub fn record(unit: &str, is_answered: bool) -> Record {
    let now = Instant::now();
    Record {
        boot_id: BOOT.to_owned(),
        unit: unit.to_owned(),
        origin: origin(),
        received_ms: to_boot_ms(now),
        deadline_ms: to_boot_ms(now + TIME),
        is_answered,
        task: Task { change: Change::Remove(tree()), before: Before::Version(Some("2.1.0-1".to_owned())) },
    }
}

fn origin() -> Origin {
    Origin { id: "c1".to_owned(), command_type: "PackageRemove".to_owned(), ..Origin::nobody() }
}

/// Programs of a machine on which `tree` is installed until it was removed.
#[derive(Clone, Default)]
pub struct Programs {
    lines: Arc<Mutex<Vec<String>>>,
    /// Removing takes until it is stopped.
    hangs: bool,
    /// It is removed.
    pub is_gone: bool,
}

impl Programs {
    pub fn hanging() -> Self {
        Self { hangs: true, ..Self::default() }
    }

    fn gone() -> Self {
        Self { is_gone: true, ..Self::default() }
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    fn changes(&self) -> Vec<String> {
        self.lines().into_iter().filter(|line| !line.contains("dpkg-query") && !line.contains("--print")).collect()
    }
}

impl ProgramRunner for Programs {
    fn run(&self, program: Program, stop: Stop) -> RunningProgram {
        let line = program.line();
        self.lines.lock().unwrap().push(line.clone());
        let this = self.clone();
        Box::pin(async move {
            Ok(match line {
                line if line.ends_with("remove -- tree") && this.hangs => {
                    finished(Ending::Stopped(stop.reached().await), "removing\n", "")
                }
                line if line.ends_with("remove -- tree") => finished(Ending::Exit(0), "removed\n", ""),
                line if line.contains("dpkg-query") && this.is_gone => {
                    finished(Ending::Exit(1), "", "no packages found\n")
                }
                line if line.contains("dpkg-query") => finished(Ending::Exit(0), INSTALLED, ""),
                line if line.contains("--print-architecture") => finished(Ending::Exit(0), "amd64\n", ""),
                line if line.contains("--configure -a") => finished(Ending::Exit(0), "", ""),
                other => panic!("nobody expected {other:?}"),
            })
        })
    }
}

/// A systemd whose units are over when the test says so.
struct FakeUnits {
    refuses: bool,
    over: watch::Sender<bool>,
    /// So often the wait for a unit fails.
    lost: Mutex<usize>,
    calls: Mutex<Vec<String>>,
}

impl Default for FakeUnits {
    fn default() -> Self {
        Self { refuses: false, over: watch::Sender::new(false), lost: Mutex::default(), calls: Mutex::default() }
    }
}

impl FakeUnits {
    fn wait(&self) -> Over {
        let mut over = self.over.subscribe();
        let mut lost = self.lost.lock().unwrap();
        if *lost > 0 {
            *lost -= 1;
            return Box::pin(async { Err(BusError::Failed("the bus went away".to_owned())) });
        }
        Box::pin(async move {
            over.wait_for(|over| *over).await.unwrap();
            Ok(())
        })
    }

    fn note(&self, call: &str) {
        self.calls.lock().unwrap().push(call.to_owned());
    }

    fn called(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

impl Units for FakeUnits {
    fn start(&self, unit: TransientUnit) -> Asked<'_, Over> {
        self.note("start");
        assert_eq!(unit.arguments[0], KEEP);
        Box::pin(async move {
            if self.refuses { Err(BusError::Failed("Access denied".to_owned())) } else { Ok(self.wait()) }
        })
    }

    fn over(&self, _: String) -> Over {
        self.note("over");
        self.wait()
    }

    fn terminate(&self, _: String) -> Over {
        self.note("terminate");
        Box::pin(async { Ok(()) })
    }
}

/// A Debian machine and an agent on it.
struct Bench {
    root: TempDir,
    units: Arc<FakeUnits>,
    records: Records,
}

impl Bench {
    fn new(units: FakeUnits) -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["etc", "usr/bin", "state"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        std::fs::write(root.path().join("usr/bin/apt-get"), "").unwrap();
        let records = Records::new(root.path().join("state/change"));
        Self { root, units: Arc::new(units), records }
    }

    fn runner(&self) -> TransientRunner {
        let units = Arc::clone(&self.units) as Arc<dyn Units>;
        TransientRunner::with(self.records.folder(), BOOT, "/usr/local/bin/infiniservice".into(), units)
    }

    /// A process of the agent, and what orders its command to end.
    fn agent(&self, programs: &Programs) -> (StopOrder, Context) {
        let (order, stop) = Stop::at(Instant::now() + TIME);
        let path = |name: &str| self.root.path().join(name);
        let roots = crate::collector::linux::Roots { proc: path("proc"), sys: path("sys"), etc: path("etc") };
        let context = Context {
            origin: Arc::new(origin()),
            stop,
            programs: Arc::new(programs.clone()),
            packages: Arc::new(Packages::new(Arc::new(self.runner()))),
            roots: Arc::new(roots),
            ..idle_context()
        };
        (order, context)
    }

    /// What a keeper does at its end.
    fn keeper_ends(&self, ending: Ending) {
        self.records.end(&finished(ending, "removed\n", "")).unwrap();
        self.units.over.send_replace(true);
    }
}

async fn remove(context: &Context) -> Outcome {
    change::one(context.clone(), Change::Remove(tree())).await
}

/// Lets all tasks go as far as they can.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_runs_in_its_unit_and_is_told_by_its_keeper() {
    let bench = Bench::new(FakeUnits::default());
    let programs = Programs::default();
    let (_order, context) = bench.agent(&programs);
    let running = tokio::spawn(async move { remove(&context).await });
    settle().await;
    let order = bench.records.order().unwrap().unwrap();
    assert_eq!((order.origin.id.as_str(), order.is_answered), ("c1", false));
    bench.keeper_ends(Ending::Exit(0));
    let outcome = running.await.unwrap();
    // dpkg has it still: what a manager says alone does not count.
    assert!(outcome.error.unwrap().sentence.contains("left tree installed"));
    assert_eq!((outcome.stdout.as_str(), outcome.ended), ("removed\n", Some(Ended::Exit)));
    assert!(programs.changes().is_empty(), "{:?}", programs.changes());
    assert!(!bench.records.has_order());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_answered_at_once_and_the_turn_waits_for_the_unit() {
    let bench = Bench::new(FakeUnits::default());
    let programs = Programs::default();
    let (_order, context) = bench.agent(&programs);
    let started = Instant::now();
    let command = context.clone();
    let running = tokio::spawn(async move { remove(&command).await });
    settle().await;
    bench.records.end(&finished(Ending::Stopped(StopReason::Deadline), "removing\n", "")).unwrap();
    let outcome = running.await.unwrap();
    assert_eq!(started.elapsed().as_secs(), TIME.as_secs());
    let error = outcome.error.unwrap();
    assert_eq!((error.code, outcome.stdout.as_str()), (ErrorCode::CommandTimeout, "removing\n"));
    assert!(error.sentence.contains("60 s") && error.sentence.contains("--configure -a"), "{error}");
    assert!(bench.records.order().unwrap().unwrap().is_answered);
    assert_eq!(bench.units.called(), ["start"], "the keeper knows its time");

    let (_order, soon) = Stop::at(Instant::now() + Duration::from_secs(1));
    let impatient = remove(&context.stopping_at(soon)).await;
    assert!(impatient.error.unwrap().sentence.contains("another change"));
    bench.units.over.send_replace(true);
    settle().await;
    assert!(!bench.records.has_order());
    let (_order, stop) = Stop::at(Instant::now() + TIME);
    assert!(change::turn(&context.stopping_at(stop)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_command_that_is_taken_back_ends_its_keeper() {
    let bench = Bench::new(FakeUnits::default());
    let (order, context) = bench.agent(&Programs::default());
    let running = tokio::spawn(async move { remove(&context).await });
    settle().await;
    order.give(StopReason::Cancelled);
    let outcome = running.await.unwrap();
    assert_eq!(outcome.error.unwrap().code, ErrorCode::CommandCancelled);
    settle().await;
    assert_eq!(bench.units.called(), ["start", "terminate"]);
}

#[tokio::test(start_paused = true)]
async fn what_must_end_before_it_began_leaves_nothing_for_the_next_process() {
    let bench = Bench::new(FakeUnits::default());
    let (order, context) = bench.agent(&Programs::default());
    order.give(StopReason::ShuttingDown);
    let turn = Arc::default();
    let order = Order {
        origin: Arc::new(origin()),
        task: record("unit", false).task,
        step: remove_tree(),
        after: After { repair: None, turn: tokio::sync::Mutex::lock_owned(turn).await },
    };
    let end = bench.runner().run(context.programs, order, context.stop).await.unwrap();
    assert!(
        matches!(end, ChangeEnd::Finished(ref it) if it.ending == Ending::Stopped(StopReason::ShuttingDown)),
        "{end:?}"
    );
    assert!(bench.units.called().is_empty() && !bench.records.has_order());
}

#[tokio::test(start_paused = true)]
async fn the_next_process_of_the_agent_answers_for_it() {
    let bench = Bench::new(FakeUnits::default());
    let (order, context) = bench.agent(&Programs::default());
    let running = tokio::spawn(async move { remove(&context).await });
    settle().await;
    order.give(StopReason::ShuttingDown);
    assert!(running.await.unwrap().is_handed_over);
    // The old process lives on for a moment, and must not take the result away.
    settle().await;

    let (_order, context) = bench.agent(&Programs::gone());
    let adopted = adopt(&context).expect("the change was left");
    assert_eq!((adopted.command.origin.id.as_str(), &adopted.command.origin.payload), ("c1", &origin().payload));
    let (_other, soon) = Stop::at(Instant::now() + Duration::from_secs(1));
    let impatient = remove(&context.stopping_at(soon)).await;
    assert!(impatient.error.unwrap().sentence.contains("another change"), "the turn is not held");
    let running = tokio::spawn((adopted.resume)(context));
    settle().await;
    bench.keeper_ends(Ending::Exit(0));
    let outcome = running.await.unwrap();
    assert_eq!(outcome.error, None);
    let expected = json!({ "package": "tree", "manager": "apt", "changed": true, "version_before": "2.1.0-1" });
    assert_eq!((outcome.data.unwrap(), outcome.stdout.as_str()), (expected, "removed\n"));
    assert!(!bench.records.has_order());
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_is_only_waited_for() {
    let bench = Bench::new(FakeUnits::default());
    bench.records.begin(&record("unit", true)).unwrap();
    let (_order, context) = bench.agent(&Programs::default());
    assert!(adopt(&context).is_none());
    let (_other, soon) = Stop::at(Instant::now() + Duration::from_secs(1));
    assert!(change::turn(&context.stopping_at(soon)).await.is_err());
    bench.keeper_ends(Ending::Stopped(StopReason::Deadline));
    settle().await;
    assert!(change::turn(&context).await.is_ok() && !bench.records.has_order());
}

#[tokio::test(start_paused = true)]
async fn a_change_of_another_boot_and_a_broken_record_are_forgotten() {
    let bench = Bench::new(FakeUnits::default());
    let (_order, context) = bench.agent(&Programs::default());
    bench.records.begin(&Record { boot_id: "another".to_owned(), ..record("unit", false) }).unwrap();
    assert!(adopt(&context).is_none() && !bench.records.has_order());
    bench.records.begin(&record("unit", false)).unwrap();
    std::fs::write(bench.records.folder().join("order.json"), "{\"boot_id\":").unwrap();
    assert!(adopt(&context).is_none() && !bench.records.has_order());
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_says_nothing_was_killed() {
    let bench = Bench::new(FakeUnits::default());
    let programs = Programs::default();
    let (_order, context) = bench.agent(&programs);
    let running = tokio::spawn(async move { remove(&context).await });
    settle().await;
    bench.units.over.send_replace(true);
    let error = running.await.unwrap().error.unwrap();
    assert_eq!(error.code, ErrorCode::Interrupted);
    assert!(error.sentence.contains("has put the database right"), "{error}");
    assert_eq!(programs.changes().len(), 1, "{:?}", programs.changes());
}

#[tokio::test(start_paused = true)]
async fn where_systemd_refuses_it_runs_below_the_agent() {
    let bench = Bench::new(FakeUnits { refuses: true, ..FakeUnits::default() });
    let programs = Programs::default();
    let (_order, context) = bench.agent(&programs);
    assert_eq!(remove(&context).await.stdout, "removed\n");
    assert_eq!(programs.changes(), [remove_tree().program.line()]);
    assert!(!bench.records.has_order());

    // There a stop of the agent reaches it, so this process answers.
    let (order, context) = bench.agent(&Programs::hanging());
    let running = tokio::spawn(async move { remove(&context).await });
    settle().await;
    order.give(StopReason::ShuttingDown);
    let outcome = running.await.unwrap();
    assert_eq!((outcome.is_handed_over, outcome.error.unwrap().code), (false, ErrorCode::ShuttingDown));
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_goes_away_is_asked_again() {
    let bench = Bench::new(FakeUnits { lost: Mutex::new(3), ..FakeUnits::default() });
    let (_order, context) = bench.agent(&Programs::default());
    let running = tokio::spawn(async move { remove(&context).await });
    tokio::time::sleep(ASK_AGAIN * 5).await;
    assert_eq!(bench.units.called(), ["start", "over", "over", "over"]);
    bench.keeper_ends(Ending::Exit(0));
    assert_eq!(running.await.unwrap().stdout, "removed\n");
}

#[test]
fn a_binary_that_was_replaced_is_found_under_its_name() {
    assert_eq!(replaced("/usr/bin/infiniservice (deleted)".into()), Path::new("/usr/bin/infiniservice"));
    assert_eq!(replaced("/usr/bin/infiniservice".into()), Path::new("/usr/bin/infiniservice"));
}
