//! `RunMaintenanceTask`: tasks from a table that is compiled in, with typed parameters; never a script of the host's.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as platform;

use infini_protocol::host::SafeCommand;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::action::{Action, Context, Running, Target, fields};
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
            _ => Vec::new(),
        }
    }

    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move { Outcome::from(maintain(&context, &DBus, &self).await) })
    }
}

/// Does the task. What is wrong before does not keep it from being done: it may be what sets it right.
async fn maintain(context: &Context, bus: &dyn SystemBus, command: &RunMaintenanceTask) -> Result<Value, CommandError> {
    let mut steps = Vec::new();
    let before = if command.validate_before { Some(check(context, bus, &CheckName::ALL).await) } else { None };
    steps.extend(before.as_ref().map(|health| Step {
        name: "validate_before".to_owned(),
        success: true,
        message: summary(health),
    }));
    steps.extend(platform::perform(context, bus, command.task).await?);
    if command.validate_after {
        let after = check(context, bus, &CheckName::ALL).await;
        steps.push(Step {
            name: "validate_after".to_owned(),
            success: is_no_worse(before.as_ref(), &after),
            message: summary(&after),
        });
    }
    let success = steps.iter().all(|step| step.success);
    value(&Done { task: command.name.clone(), success, steps })
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
    use serde_json::{from_value, json};

    use super::*;
    use crate::commands::test_machine::{FakeBus, TestMachine};
    use crate::commands::testing::assert_golden;

    fn command(kind: &str, name: &str, parameters: Value) -> Result<RunMaintenanceTask, serde_json::Error> {
        from_value(json!({ "task_type": kind, "task_name": name, "parameters": parameters,
            "validate_before": true, "validate_after": true }))
    }

    async fn maintained(machine: &TestMachine, bus: &FakeBus, kind: &str, name: &str) -> Value {
        let command = command(kind, name, Value::Null).unwrap();
        maintain(&machine.context(), bus, &command).await.unwrap()
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
        let failed = ["nginx.service", "broken.service"].map(str::to_owned).to_vec();
        let bus = FakeBus { failed, ..FakeBus::systemd() };
        let data = maintained(&TestMachine::healthy(&[]), &bus, "services", "restart-failed").await;
        assert_golden("RunMaintenanceTask", &data);
        assert_eq!(bus.called(), ["restart nginx.service", "restart broken.service"]);
    }

    #[tokio::test]
    async fn every_task_does_what_it_says() {
        let bus = FakeBus::systemd();
        for (kind, name, program) in [
            ("disk", "fstrim", "fstrim -v /"),
            ("journal", "vacuum", "journalctl --rotate --vacuum-time=14d"),
            ("packages", "clean-cache", "apt-get clean"),
            ("packages", "fix", "dpkg --configure -a"),
            ("time", "sync", "chronyc makestep"),
        ] {
            let machine = TestMachine::healthy(&[]).prints(program, "");
            let data = maintained(&machine, &bus, kind, name).await;
            assert_eq!((&data["success"], machine.ran()), (&json!(true), vec![program.to_owned()]), "{data:#}");
            let machine = TestMachine::healthy(&[]).fails(program, 1, "no");
            assert_eq!(maintained(&machine, &bus, kind, name).await["success"], json!(false), "{kind}/{name}");
        }
        let machine = TestMachine::healthy(&[]);
        assert_eq!(maintained(&machine, &bus, "temp", "clean").await["success"], json!(true));
        assert_eq!(maintained(&machine, &bus, "time", "sync").await["success"], json!(true));
        assert_eq!(bus.called(), ["restart systemd-timesyncd.service"]);
    }
}
