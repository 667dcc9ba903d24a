//! Changing packages: one change at a time, of names that the manager's own index has, told by what its database says before and after.

use std::collections::HashMap;
use std::sync::Arc;

use infini_protocol::ErrorCode;
use infini_protocol::agent::Ended;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::change_runner::{After, ChangeEnd, ChangeRunner, Left, Order, PlainRunner, Unanswered};
use super::manager::{Change, PackageManager};
use super::task::{Before, Installed, Task};
use super::{find, query, reboot};
use crate::commands::action::Context;
use crate::commands::maintenance;
use crate::commands::outcome::{CommandError, Outcome};
use crate::commands::process_runner::{Ending, Finished};
use crate::commands::stop::{Stop, StopReason};
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
    attempt(&context, change).await.unwrap_or_else(Outcome::from)
}

async fn attempt(context: &Context, change: Change) -> Result<Outcome, CommandError> {
    let manager = find::manager(&find::root(&context.roots))?;
    let turn = turn(context).await?;
    let Some(name) = change.package().cloned() else { return Err(CommandError::failed("no package was named")) };
    let before = installed(&*manager, context, &name).await?;
    if before.is_none() {
        check_index(&*manager, context, &name).await?;
    }
    if let Some(done) = settled(&*manager, &change, &name, before.as_deref())? {
        return Ok(done);
    }
    if refresh(context, &*manager, &change).await? && before.is_none() {
        // The index is another one now, and a name that it does not have means something else to some managers.
        check_index(&*manager, context, &name).await?;
    }
    run(context, &*manager, Task { change, before: Before::Version(before) }, turn).await
}

/// Waits until no other change runs, as long as the command may take.
///
/// # Errors
/// Where the command has to end before.
pub async fn turn(context: &Context) -> Result<OwnedMutexGuard<()>, CommandError> {
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

async fn check_index(manager: &dyn PackageManager, context: &Context, name: &PackageName) -> Result<(), CommandError> {
    if manager.exists(name).run(context).await?.value {
        return Ok(());
    }
    let manager = manager.name();
    let sentence = format!(
        "{manager} has no package with the name {name} in its index; PackageSearch finds names, and UpdateSystemSoftware fetches a new index"
    );
    Err(CommandError::new(ErrorCode::PackageNotFound, sentence))
}

/// Brings the index up to date where that is a program of its own. Without a network the old one has to do. Gives whether it may be another
/// one now.
async fn refresh(context: &Context, manager: &dyn PackageManager, change: &Change) -> Result<bool, CommandError> {
    let Some(program) = manager.refresh(change) else { return Ok(false) };
    let finished = context.programs.run(program, context.stop.clone()).await;
    match finished.map_err(|error| CommandError::failed(error.to_string()))?.ending {
        Ending::Stopped(reason) => Err(reason.into()),
        _ => Ok(true),
    }
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
    let change = package.map_or(Change::UpdateAll, Change::Update);
    refresh(context, &*manager, &change).await?;
    let before = manager.list().run(context).await?;
    let before = Before::System(Installed::of(before.value, before.truncated));
    run(context, &*manager, Task { change, before }, turn).await
}

/// Ends what a change that was cut off has left half done. Gives what the manager printed, and nothing where the process of the agent after
/// this one answers.
///
/// # Errors
/// Where there is no manager, its repair fails, or the command has to end before.
pub async fn repair(context: &Context) -> Result<Option<String>, CommandError> {
    let manager = find::manager(&find::root(&context.roots))?;
    let turn = turn(context).await?;
    let task = Task { change: Change::Repair, before: Before::Version(None) };
    let outcome = run(context, &*manager, task, turn).await?;
    match outcome.error {
        Some(error) => Err(error),
        None => Ok((!outcome.is_handed_over).then_some(outcome.stdout)),
    }
}

async fn run(
    context: &Context,
    manager: &dyn PackageManager,
    task: Task,
    turn: OwnedMutexGuard<()>,
) -> Result<Outcome, CommandError> {
    let (step, after) = (manager.change(&task.change), After { repair: Some(manager.repair().program), turn });
    let order = Order { origin: Arc::clone(&context.origin), task: task.clone(), step, after };
    let end = context.packages.runner.run(Arc::clone(&context.programs), order, context.stop.clone()).await?;
    conclude(context, manager, &task, end).await
}

/// A command that a process of the agent before this one has not answered.
pub struct Adopted {
    /// Which, and when it must have its answer.
    pub command: Unanswered,
    /// Waits for what it came to.
    pub resume: Box<dyn FnOnce(Context) -> crate::commands::action::Running + Send>,
}

/// Takes over what a process before this one has begun, before anything else is changed here. Gives the command that still waits for its
/// answer.
#[must_use]
pub fn adopt(context: &Context) -> Option<Adopted> {
    let Left { unanswered, wait } = context.packages.runner.left()?;
    // Nobody else knows the mutex yet.
    let turn = Arc::clone(&context.packages.turn).try_lock_owned().ok()?;
    let repair = find::manager(&find::root(&context.roots)).ok().map(|manager| manager.repair().program);
    let after = After { repair, turn };
    let Some(command) = unanswered else {
        tokio::spawn(wait(Arc::clone(&context.programs), after, Stop::never()));
        return None;
    };
    let task = command.task.clone();
    let resume = move |context: Context| -> crate::commands::action::Running {
        Box::pin(async move {
            let resumed = async {
                let manager = find::manager(&find::root(&context.roots))?;
                let end = wait(Arc::clone(&context.programs), after, context.stop.clone()).await?;
                let outcome = conclude(&context, &*manager, &task, end).await?;
                let is_repair = task.change == Change::Repair;
                Ok::<_, CommandError>(if is_repair { maintenance::repaired(outcome) } else { outcome })
            };
            resumed.await.unwrap_or_else(Outcome::from)
        })
    };
    Some(Adopted { command, resume: Box::new(resume) })
}

/// From the end of a change to its outcome.
async fn conclude(
    context: &Context,
    manager: &dyn PackageManager,
    task: &Task,
    end: ChangeEnd,
) -> Result<Outcome, CommandError> {
    let finished = match end {
        ChangeEnd::Finished(finished) => finished,
        ChangeEnd::HandedOver => return Ok(Outcome { is_handed_over: true, ..Outcome::default() }),
    };
    let mut outcome = told(manager, &finished);
    if matches!(finished.ending, Ending::Stopped(_)) {
        return Ok(outcome);
    }
    let looked = match (&task.before, task.change.package()) {
        (Before::Version(before), Some(name)) => {
            look(context, manager, &task.change, name, before.as_deref(), &mut outcome).await
        }
        (Before::System(before), _) => look_at_all(context, manager, before, &mut outcome).await,
        (Before::Version(_), None) => Ok(()),
    };
    if let Err(error) = looked {
        // What is known is told all the same.
        let sentence = format!("{} has run, but what is installed now cannot be told: {error}", manager.name());
        outcome.error.get_or_insert(CommandError { sentence, ..error });
    }
    outcome.exit_code = if outcome.error.is_some() && outcome.exit_code == 0 { 1 } else { outcome.exit_code };
    if let (Some(data), Some(usage)) = (outcome.data.as_mut().and_then(Value::as_object_mut), finished.usage.to_json())
    {
        data.insert("usage".to_owned(), usage);
    }
    Ok(outcome)
}

/// Asks what became of one package.
async fn look(
    context: &Context,
    manager: &dyn PackageManager,
    change: &Change,
    name: &PackageName,
    before: Option<&str>,
    outcome: &mut Outcome,
) -> Result<(), CommandError> {
    let after = installed(manager, context, name).await?;
    outcome.error = outcome.error.take().or_else(|| missed(manager, change, name, after.as_deref()));
    outcome.data = Some(data(manager, name, before, after.as_deref()));
    Ok(())
}

/// Asks what became of all packages.
async fn look_at_all(
    context: &Context,
    manager: &dyn PackageManager,
    before: &Installed,
    outcome: &mut Outcome,
) -> Result<(), CommandError> {
    let after = manager.list().run(context).await?;
    let after = Installed::of(after.value, after.truncated);
    let updated = updated(before, &after);
    let reboot_required = reboot::required(manager, context).await;
    outcome.truncated |= before.truncated || after.truncated;
    outcome.data = Some(json!({ "count": updated.len(), "updated": updated, "reboot_required": reboot_required }));
    Ok(())
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

/// The program's end and output as an outcome.
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
    let CommandError { code, .. } = CommandError::from(reason);
    let why = match reason {
        StopReason::Deadline => "the time was over",
        StopReason::Cancelled => "the host took the command back",
        StopReason::ShuttingDown => "the agent stops",
    };
    let sentence = format!(
        "{why} in the middle of {}'s work: it is asked to end, in {} s what is left of it is killed, and \"{}\" puts its database right; \
         the next change of packages waits for that",
        manager.name(),
        super::manager::GRACE.as_secs(),
        manager.repair().program.line()
    );
    CommandError::new(code, sentence)
}

/// What is there in a version that was not there before.
fn updated(before: &Installed, after: &Installed) -> Vec<Value> {
    let mut versions: HashMap<&str, Vec<&str>> = HashMap::new();
    for (name, version) in &before.packages {
        versions.entry(name).or_default().push(version);
    }
    let update = |(name, version): &(String, String)| {
        let known = versions.get(name.as_str())?;
        let from = known.last().filter(|_| !known.contains(&version.as_str()))?;
        Some(json!({ "name": name, "from": from, "to": version }))
    };
    after.packages.iter().filter_map(update).collect()
}
