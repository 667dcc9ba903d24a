//! `RunMaintenanceTask`: tasks from a table that is compiled in, with typed parameters; never a script of the host's.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as platform;

use infini_protocol::ErrorCode;
use infini_protocol::host::SafeCommand;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::action::{Action, Context, Exclusive, Running, Target, fields};
use super::cleanup::Step;
use super::health::{CheckName, Health, Status, check, value};
use super::outcome::{CommandError, Outcome};
use super::system_bus::{DBus, SystemBus};

/// The journals that stay where nobody says how many days.
const JOURNAL_DAYS: u32 = 14;

/// Ten years: more is no clean-up, and journalctl reckons in microseconds.
const MOST_JOURNAL_DAYS: u32 = 3650;

/// A task with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// `disk/fstrim`.
    TrimDisks,
    /// `journal/vacuum`: what is older than so many days.
    VacuumJournal {
        /// What stays.
        days: u32,
    },
    /// `packages/clean-cache`.
    CleanPackageCache,
    /// `packages/fix`: ends what an interrupted package manager began.
    FixPackages,
    /// `time/sync`.
    SyncTime,
    /// `services/restart-failed`.
    RestartFailed,
    /// `temp/clean`.
    CleanTemp,
}

/// All tasks with their default parameters.
const TASKS: [(&str, &str, Task); 7] = [
    ("disk", "fstrim", Task::TrimDisks),
    ("journal", "vacuum", Task::VacuumJournal { days: JOURNAL_DAYS }),
    ("packages", "clean-cache", Task::CleanPackageCache),
    ("packages", "fix", Task::FixPackages),
    ("services", "restart-failed", Task::RestartFailed),
    ("temp", "clean", Task::CleanTemp),
    ("time", "sync", Task::SyncTime),
];

/// `RunMaintenanceTask`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Fields")]
struct RunMaintenanceTask {
    name: String,
    task: Task,
    validate_before: bool,
    validate_after: bool,
}

#[derive(Deserialize)]
struct Fields {
    task_type: String,
    task_name: String,
    parameters: Option<Map<String, Value>>,
    validate_before: bool,
    validate_after: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vacuum {
    days: Option<u32>,
}

/// Makes a `RunMaintenanceTask`.
///
/// # Errors
/// `INVALID_PARAMETERS` where there is no such task, or it has no such parameter.
pub fn run(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    fields::<RunMaintenanceTask>(command)
}

impl TryFrom<Fields> for RunMaintenanceTask {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        let Fields { task_type, task_name, parameters, validate_before, validate_after } = fields;
        let name = format!("{task_type}/{task_name}");
        let known = TASKS.iter().find(|(of, task, _)| (*of, *task) == (&*task_type, &*task_name));
        let Some((.., task)) = known else {
            let names: Vec<String> = TASKS.iter().map(|(of, task, _)| format!("{of}/{task}")).collect();
            return Err(format!("there is no task {name:?}; there are {}", names.join(", ")));
        };
        let task = task.with(parameters.unwrap_or_default()).map_err(|why| format!("{name}: {why}"))?;
        Ok(Self { name, task, validate_before, validate_after })
    }
}

impl Task {
    fn with(self, parameters: Map<String, Value>) -> Result<Self, String> {
        let Self::VacuumJournal { days } = self else {
            return if parameters.is_empty() { Ok(self) } else { Err("it has no parameters".to_owned()) };
        };
        let given: Vacuum = serde_json::from_value(Value::Object(parameters)).map_err(|error| error.to_string())?;
        let days = given.days.unwrap_or(days);
        if (1..=MOST_JOURNAL_DAYS).contains(&days) {
            return Ok(Self::VacuumJournal { days });
        }
        Err(format!("days are from 1 to {MOST_JOURNAL_DAYS}, not {days}"))
    }
}

/// `data` of `RunMaintenanceTask`.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Done {
    task: String,
    success: bool,
    steps: Vec<Step>,
}

impl Action for RunMaintenanceTask {
    fn targets(&self) -> Vec<Target> {
        match self.task {
            Task::RestartFailed => vec![Target::AnyService],
            // Which of them is here is only found while it runs.
            Task::SyncTime => platform::time_services().map(Target::Service).collect(),
            Task::FixPackages => vec![Target::AnyPackage],
            Task::TrimDisks | Task::VacuumJournal { .. } | Task::CleanPackageCache | Task::CleanTemp => Vec::new(),
        }
    }

    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move { maintain(&context, &DBus, &self).await.unwrap_or_else(Outcome::from) })
    }

    fn exclusive(&self) -> Option<Exclusive> {
        matches!(self.task, Task::FixPackages | Task::CleanPackageCache).then_some(Exclusive::Packages)
    }
}

/// Does the task. What is wrong before does not keep it from being done: it may be what sets it right.
async fn maintain(
    context: &Context,
    bus: &dyn SystemBus,
    command: &RunMaintenanceTask,
) -> Result<Outcome, CommandError> {
    let mut steps = Vec::new();
    let before = if command.validate_before { Some(check(context, bus, &CheckName::ALL).await) } else { None };
    steps.extend(before.as_ref().map(|health| Step {
        name: "validate_before".to_owned(),
        success: true,
        message: summary(health),
    }));
    match platform::perform(context, command.task).await? {
        Some(done) => steps.extend(done),
        None => return Ok(Outcome { is_handed_over: true, ..Outcome::default() }),
    }
    if command.validate_after {
        let after = check(context, bus, &CheckName::ALL).await;
        steps.push(Step {
            name: "validate_after".to_owned(),
            success: is_no_worse(before.as_ref(), &after),
            message: summary(&after),
        });
    }
    let success = steps.iter().all(|step| step.success);
    Ok(Outcome::data(value(&Done { task: command.name.clone(), success, steps })?))
}

/// What became of a repair of packages that a process of the agent before this one began, as `packages/fix` tells it. Whether it was to be
/// validated is not known any more.
pub fn repaired(outcome: Outcome) -> Outcome {
    let result = match outcome.error {
        Some(error) if error.code != ErrorCode::CommandFailed => return Outcome { error: Some(error), ..outcome },
        Some(error) => Err(error),
        None => Ok(platform::last_line_of_repair(&outcome.stdout)),
    };
    let step = Step::new("fix", result);
    let done = Done { task: "packages/fix".to_owned(), success: step.success, steps: vec![step] };
    value(&done).map_or_else(Outcome::from, Outcome::data)
}

fn summary(health: &Health) -> String {
    let troubled = health.checks.iter().filter(|check| check.finding.status != Status::Healthy);
    let told: Vec<String> =
        troubled.map(|check| format!("{}: {}", check.name.as_str(), check.finding.message)).collect();
    if told.is_empty() { "every check is healthy".to_owned() } else { told.join("; ") }
}

/// No check is worse than it was; without a look before, none is critical.
fn is_no_worse(before: Option<&Health>, after: &Health) -> bool {
    after.checks.iter().enumerate().all(|(number, check)| {
        let was = before.and_then(|before| before.checks.get(number)).map(|before| before.finding.status);
        check.finding.status <= was.unwrap_or(Status::Warning)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{from_value, json};

    use super::*;
    use crate::commands::service_control::fake::FakeServices;
    use crate::commands::test_machine::{FakeBus, TestMachine};
    use crate::commands::testing::assert_golden;

    fn command(kind: &str, name: &str, parameters: Value) -> Result<RunMaintenanceTask, serde_json::Error> {
        from_value(json!({ "task_type": kind, "task_name": name, "parameters": parameters,
            "validate_before": true, "validate_after": true }))
    }

    async fn maintained(context: &Context, kind: &str, name: &str) -> Value {
        let command = command(kind, name, Value::Null).unwrap();
        maintain(context, &FakeBus::systemd(), &command).await.unwrap().data.unwrap()
    }

    /// A machine in good order, with this service manager.
    fn machine_with(services: FakeServices) -> (TestMachine, Arc<FakeServices>, Context) {
        let (machine, services) = (TestMachine::healthy(&[]), Arc::new(services));
        let context = Context { services: Arc::clone(&services) as _, ..machine.context() };
        (machine, services, context)
    }

    /// What stands in for OpenRC's programs, where these services have crashed.
    fn openrc(crashed: &[&str]) -> TestMachine {
        let row = |name: &&str| format!("{name} =  crashed \n");
        let states = "ntpd =  started 02:17:40 (0)\n".to_owned() + &crashed.iter().map(row).collect::<String>();
        TestMachine::healthy(&[])
            .prints("rc-status --nocolor --format ini --servicelist", &states)
            .prints("rc-update --nocolor show", "")
            .prints("rc-service --nocolor -- web restart", "")
            .prints("rc-service --nocolor -- ntpd restart", "")
    }

    #[test]
    fn tasks_and_parameters_are_of_the_table() {
        for (kind, name, parameters, legal) in [
            ("journal", "vacuum", json!({ "days": 3 }), true),
            ("journal", "vacuum", json!({}), true),
            ("journal", "vacuum", json!({ "days": 0 }), false),
            ("journal", "vacuum", json!({ "days": "3; reboot" }), false),
            ("journal", "vacuum", json!({ "day": 3 }), false),
            ("temp", "clean", json!({ "path": "/etc" }), false),
            ("temp", "vacuum", json!({}), false),
            ("script", "/bin/sh", json!({}), false),
        ] {
            let taken = command(kind, name, parameters.clone());
            assert_eq!(taken.is_ok(), legal, "{kind}/{name} {parameters}: {taken:?}");
        }
        let why = command("disk", "defrag", json!({})).unwrap_err().to_string();
        assert!(why.contains("disk/fstrim, journal/vacuum"), "{why}");
    }

    #[tokio::test]
    async fn each_service_that_failed_is_a_step() {
        let (_machine, services, context) = machine_with(FakeServices::default());
        let data = maintained(&context, "services", "restart-failed").await;
        assert_golden("RunMaintenanceTask", &data);
        assert_eq!(services.changes(), ["restart web", "restart db"]);
    }

    #[tokio::test]
    async fn a_protected_service_is_a_step_that_failed_and_stays_as_it_is() {
        let (_machine, services, context) = machine_with(FakeServices::with_failed(&["infiniservice", "web"]));
        let data = maintained(&context, "services", "restart-failed").await;
        assert_eq!((&data["steps"][1]["success"], &data["steps"][2]["success"]), (&json!(false), &json!(true)));
        assert!(data["steps"][1]["message"].as_str().unwrap().contains("protected_services"), "{data:#}");
        assert_eq!(services.changes(), ["restart web"]);
    }

    #[tokio::test]
    async fn what_openrc_restarts_stays() {
        for (kind, name, service) in [("services", "restart-failed", "web"), ("time", "sync", "ntpd")] {
            let machine = openrc(&["web"]);
            let data = maintained(&machine.context(), kind, name).await;
            assert_eq!(data["success"], json!(true), "{data:#}");
            let line = format!("rc-service --nocolor -- {service} restart");
            let at = machine.ran().iter().position(|ran| *ran == line).unwrap_or_else(|| panic!("{:?}", machine.ran()));
            assert!(machine.programs()[at].leaves_daemon, "{service} would end with rc-service");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_that_takes_all_the_time_is_not_said_to_be_killed() {
        let (_machine, _, context) = machine_with(FakeServices::with_failed(&["web", "slow", "db"]));
        let command = command("services", "restart-failed", Value::Null).unwrap();
        let error = maintain(&context, &FakeBus::systemd(), &command).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::CommandTimeout);
        assert!(error.sentence.contains("may still be completed"), "{error}");
    }

    #[test]
    fn a_repair_that_another_process_began_is_told_as_a_task() {
        let outcome = Outcome { stdout: "Setting up web (1.0) ...\n".to_owned(), ..Outcome::default() };
        let data = repaired(outcome).data.unwrap();
        assert_eq!((&data["task"], &data["success"]), (&json!("packages/fix"), &json!(true)), "{data:#}");
        assert_eq!(data["steps"][0]["message"], "Setting up web (1.0) ...", "{data:#}");
        let failed = Outcome { error: Some(CommandError::failed("apt ended with exit code 1")), ..Outcome::default() };
        let data = repaired(failed).data.unwrap();
        assert_eq!((&data["success"], &data["steps"][0]["success"]), (&json!(false), &json!(false)), "{data:#}");
        let late = CommandError::new(ErrorCode::CommandTimeout, "the time was over");
        let late = repaired(Outcome { error: Some(late), ..Outcome::default() });
        assert_eq!(late.error.map(|error| error.code), Some(ErrorCode::CommandTimeout));
    }

    #[tokio::test]
    async fn every_task_does_what_it_says() {
        for (kind, name, program) in [
            ("disk", "fstrim", "fstrim -v /"),
            ("journal", "vacuum", "journalctl --rotate --vacuum-time=14d"),
            ("packages", "clean-cache", "apt-get clean"),
            ("packages", "fix", "dpkg --force-confdef --force-confold --configure -a"),
            ("time", "sync", "chronyc makestep"),
        ] {
            let machine = TestMachine::healthy(&[]).file("/usr/bin/apt-get", "").prints(program, "");
            let data = maintained(&machine.context(), kind, name).await;
            assert_eq!((&data["success"], machine.ran()), (&json!(true), vec![program.to_owned()]), "{data:#}");
            let machine = TestMachine::healthy(&[]).file("/usr/bin/apt-get", "").fails(program, 1, "no");
            assert_eq!(maintained(&machine.context(), kind, name).await["success"], json!(false), "{kind}/{name}");
        }
        let (_machine, services, context) = machine_with(FakeServices::with_failed(&[]));
        assert_eq!(maintained(&context, "temp", "clean").await["success"], json!(true));
        assert_eq!(maintained(&context, "time", "sync").await["success"], json!(true));
        assert_eq!(services.changes(), ["restart systemd-timesyncd"]);
        let data = maintained(&context, "services", "restart-failed").await;
        assert_eq!(data["steps"][1]["message"], "nothing has failed", "{data:#}");
    }
}
