//! Changing packages: one change at a time, of names that the manager's own index has, told by what its database says before and after.

use std::collections::HashMap;
use std::sync::Arc;

use infini_protocol::ErrorCode;
use infini_protocol::agent::Ended;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::change_runner::{ChangeRunner, Order, PlainRunner};
use super::manager::{Change, Package, PackageManager};
use super::{find, query, reboot};
use crate::commands::action::Context;
use crate::commands::outcome::{CommandError, Outcome};
use crate::commands::process_runner::{Ending, Finished};
use crate::commands::stop::StopReason;
use crate::commands::validation::PackageName;

/// Whose turn it is to change packages, and where changes run.
pub struct Packages {
    turn: Arc<Mutex<()>>,
    runner: Arc<dyn ChangeRunner>,
}

impl Packages {
    /// Changes run here.
    #[must_use]
    pub fn new(runner: Arc<dyn ChangeRunner>) -> Self {
        Self { turn: Arc::default(), runner }
    }
}

impl Default for Packages {
    fn default() -> Self {
        Self::new(Arc::new(PlainRunner))
    }
}

/// `UpdateSystemSoftware`.
#[derive(Debug, Deserialize)]
pub struct UpdateSystem {
    /// Only this one, where it is one.
    pub package: Option<PackageName>,
}

/// Changes one package.
pub async fn one(context: Context, change: Change) -> Outcome {
    attempt(&context, &change).await.unwrap_or_else(Outcome::from)
}

async fn attempt(context: &Context, change: &Change) -> Result<Outcome, CommandError> {
    let manager = find::manager(&find::root(&context.roots))?;
    let turn = turn(context).await?;
    let Some(name) = change.package() else { return Err(CommandError::failed("no package was named")) };
    let before = installed(&*manager, context, name).await?;
    if before.is_none() && !manager.exists(name).run(context).await?.value {
        return Err(not_found(&*manager, name));
    }
    if let Some(done) = settled(&*manager, change, name, before.as_deref())? {
        return Ok(done);
    }
    let finished = run(context, &*manager, change, turn).await?;
    let mut outcome = told(&*manager, &finished);
    if matches!(finished.ending, Ending::Stopped(_)) {
        return Ok(outcome);
    }
    let after = installed(&*manager, context, name).await?;
    outcome.error = outcome.error.or_else(|| missed(&*manager, change, name, after.as_deref()));
    outcome.exit_code = outcome.exit_code.max(i32::from(outcome.error.is_some()));
    outcome.data = Some(data(&*manager, name, before.as_deref(), after.as_deref()));
    Ok(outcome)
}

/// Waits until no other change runs, as long as the command may take.
async fn turn(context: &Context) -> Result<OwnedMutexGuard<()>, CommandError> {
    tokio::select! {
        turn = Arc::clone(&context.packages.turn).lock_owned() => Ok(turn),
        reason = context.stop.reached() => Err(match reason {
            StopReason::Deadline => {
                let sentence = "another change of packages took all of the command's time; nothing was changed by this one";
                CommandError::new(ErrorCode::CommandTimeout, sentence)
            }
            reason => reason.into(),
        }),
    }
}

async fn installed(
    manager: &dyn PackageManager,
    context: &Context,
    name: &PackageName,
) -> Result<Option<String>, CommandError> {
    Ok(manager.installed(name).run(context).await?.value)
}

fn not_found(manager: &dyn PackageManager, name: &PackageName) -> CommandError {
    let manager = manager.name();
    let sentence = format!(
        "{manager} has no package with the name {name} in its index; PackageSearch finds names, and UpdateSystemSoftware fetches a new index"
    );
    CommandError::new(ErrorCode::PackageNotFound, sentence)
}

/// The outcome of a change for which nothing is to be done.
fn settled(
    manager: &dyn PackageManager,
    change: &Change,
    name: &PackageName,
    before: Option<&str>,
) -> Result<Option<Outcome>, CommandError> {
    let words = match (change, before) {
        (Change::Install(_), Some(version)) => {
            format!("{name} {version} is installed already; PackageUpdate updates it\n")
        }
        (Change::Remove(_), None) => format!("{name} is not installed\n"),
        (Change::Update(_), None) => {
            let sentence = format!("{name} is not installed; PackageInstall installs it");
            return Err(CommandError::new(ErrorCode::PackageNotFound, sentence));
        }
        _ => return Ok(None),
    };
    Ok(Some(Outcome { stdout: words, ..Outcome::data(data(manager, name, before, before)) }))
}

fn data(manager: &dyn PackageManager, name: &PackageName, before: Option<&str>, after: Option<&str>) -> Value {
    let mut data = json!({ "package": name.as_str(), "manager": manager.name(), "changed": before != after });
    for (key, version) in [("version_before", before), ("version_after", after)] {
        if let Some(version) = version {
            data[key] = version.into();
        }
    }
    data
}

/// A manager may end well and have done nothing, as apk where another package needs what was to be removed.
fn missed(
    manager: &dyn PackageManager,
    change: &Change,
    name: &PackageName,
    after: Option<&str>,
) -> Option<CommandError> {
    let manager = manager.name();
    match (change, after) {
        (Change::Install(_), None) => Some(CommandError::failed(format!(
            "{manager} reported success, but {name} is not installed; its output may say why"
        ))),
        (Change::Remove(_), Some(_)) => {
            Some(CommandError::failed(format!("{manager} left {name} installed; its output says what needs it")))
        }
        _ => None,
    }
}

async fn run(
    context: &Context,
    manager: &dyn PackageManager,
    change: &Change,
    turn: OwnedMutexGuard<()>,
) -> Result<Finished, CommandError> {
    let order = Order { steps: manager.change(change), repair: manager.repair(), turn };
    context.packages.runner.run(Arc::clone(&context.programs), order, context.stop.clone()).await
}

/// The programs' end and output as an outcome.
fn told(manager: &dyn PackageManager, finished: &Finished) -> Outcome {
    let (exit_code, ended) = match finished.ending {
        Ending::Exit(code) => (code, Ended::Exit),
        Ending::Signal(signal) => (128 + signal, Ended::Signal),
        Ending::OutOfMemory => (-1, Ended::OutOfMemory),
        Ending::Stopped(StopReason::Deadline) => (-1, Ended::Timeout),
        Ending::Stopped(_) => (-1, Ended::Cancelled),
    };
    let error = match finished.ending {
        Ending::Stopped(reason) => Some(stopped(manager, reason)),
        _ => query::fine(manager.name(), finished, &[0]).err(),
    };
    Outcome {
        exit_code,
        stdout: finished.stdout.text.clone(),
        stderr: finished.stderr.text.clone(),
        truncated: finished.stdout.omitted + finished.stderr.omitted > 0,
        error,
        ended: Some(ended),
        ..Outcome::default()
    }
}

fn stopped(manager: &dyn PackageManager, reason: StopReason) -> CommandError {
    let error = CommandError::from(reason);
    let repair = manager.repair().map(|repair| {
        let arguments: Vec<_> = repair.arguments.iter().map(|argument| argument.to_string_lossy()).collect();
        format!("; then \"{} {}\" puts its database right", repair.path.display(), arguments.join(" "))
    });
    CommandError {
        sentence: format!(
            "{} in the middle of {}'s work{}",
            error.sentence,
            manager.name(),
            repair.unwrap_or_default()
        ),
        ..error
    }
}

/// Updates one package, or all.
pub async fn system(context: Context, package: Option<PackageName>) -> Outcome {
    attempt_system(&context, package).await.unwrap_or_else(Outcome::from)
}

async fn attempt_system(context: &Context, package: Option<PackageName>) -> Result<Outcome, CommandError> {
    let manager = find::manager(&find::root(&context.roots))?;
    let turn = turn(context).await?;
    if let Some(name) = &package
        && installed(&*manager, context, name).await?.is_none()
    {
        let sentence = format!("{name} is not installed, so it cannot be updated; PackageInstall installs it");
        return Err(CommandError::new(ErrorCode::PackageNotFound, sentence));
    }
    let before = manager.list().run(context).await?.value;
    let change = package.map_or(Change::UpdateAll, Change::Update);
    let finished = run(context, &*manager, &change, turn).await?;
    let mut outcome = told(&*manager, &finished);
    if matches!(finished.ending, Ending::Stopped(_)) {
        return Ok(outcome);
    }
    let after = manager.list().run(context).await?.value;
    let updated = updated(&before, &after);
    let reboot_required = reboot::required(&*manager, context).await;
    outcome.data = Some(json!({ "count": updated.len(), "updated": updated, "reboot_required": reboot_required }));
    Ok(outcome)
}

/// What is there in a version that was not there before. Of kernels several versions may be installed.
fn updated(before: &[Package], after: &[Package]) -> Vec<Value> {
    let mut versions: HashMap<&str, Vec<&str>> = HashMap::new();
    for package in before {
        versions.entry(&package.name).or_default().push(&package.version);
    }
    let update = |package: &Package| {
        let known = versions.get(package.name.as_str())?;
        let from = known.last().filter(|_| !known.contains(&package.version.as_str()))?;
        Some(json!({ "name": package.name, "from": from, "to": package.version }))
    };
    after.iter().filter_map(update).collect()
}
