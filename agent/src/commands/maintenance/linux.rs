//! The tasks on Linux.

use infini_protocol::ErrorCode;

use super::Task;
use crate::commands::action::Context;
use crate::commands::cleanup::{CleanupTarget, Step, linux as cleanup};
use crate::commands::health::linux::failed_services;
use crate::commands::outcome::CommandError;
use crate::commands::system_bus::{BusError, SystemBus};
use crate::commands::tools;

/// How a package manager ends what it was interrupted in.
const REPAIRS: [(&str, &[&str]); 3] = [("dpkg", &["--configure", "-a"]), ("rpm", &["--rebuilddb"]), ("apk", &["fix"])];

/// Does a task; what fails of it is a step that failed.
///
/// # Errors
/// Where the command has to end.
pub async fn perform(context: &Context, bus: &dyn SystemBus, task: Task) -> Result<Vec<Step>, CommandError> {
    let freed = |freed: u64| format!("{freed} bytes are free again");
    let (name, result) = match task {
        Task::TrimDisks => match cleanup::trim(context).await {
            Ok(steps) => return Ok(steps),
            Err(error) => ("fstrim", Err(error)),
        },
        Task::RestartFailed => return restart_failed(context, bus).await,
        Task::VacuumJournal { days } => {
            ("vacuum", cleanup::vacuum_journal(context, &format!("{days}d")).await.map(freed))
        }
        Task::CleanPackageCache => ("clean-cache", cleanup::clean_package_caches(context).await.map(freed)),
        Task::CleanTemp => ("clean", clean_temp(context).await.map(freed)),
        Task::FixPackages => ("fix", fix_packages(context).await),
        Task::SyncTime => ("sync", sync_time(context, bus).await),
    };
    stop_or(result).map(|result| vec![Step::new(name, result)])
}

/// A failure is a step; an end that was ordered ends the command.
fn stop_or(result: Result<String, CommandError>) -> Result<Result<String, CommandError>, CommandError> {
    match result {
        Err(error) if error.code != ErrorCode::CommandFailed => Err(error),
        result => Ok(result),
    }
}

async fn clean_temp(context: &Context) -> Result<u64, CommandError> {
    let cleaned = cleanup::clean(context, None, &[CleanupTarget::Temp]).await?;
    let error = cleaned.targets.into_iter().find_map(|target| target.error);
    error.map_or(Ok(cleaned.freed_bytes), |error| Err(CommandError::failed(error)))
}

async fn fix_packages(context: &Context) -> Result<String, CommandError> {
    let manager = REPAIRS.iter().find(|(program, _)| tools::installed(&context.roots, program).is_some());
    let Some((program, arguments)) = manager else {
        return Err(CommandError::failed("there is nothing to repair packages with: neither dpkg, rpm nor apk"));
    };
    let printed = tools::output(context, program, *arguments).await?;
    Ok(tools::last_line(&printed).unwrap_or("nothing was left half done").to_owned())
}

/// The agent may not set the clock itself (CAP_SYS_TIME is not in its unit): whoever keeps it does.
async fn sync_time(context: &Context, bus: &dyn SystemBus) -> Result<String, CommandError> {
    if tools::installed(&context.roots, "chronyc").is_some() {
        return tools::output(context, "chronyc", ["makestep"]).await.map(|_| "chrony sets the clock".to_owned());
    }
    let restarted = restart(context, bus, "systemd-timesyncd.service").await;
    restarted.map(|_| "systemd-timesyncd was restarted and asks its servers".to_owned())
}

async fn restart_failed(context: &Context, bus: &dyn SystemBus) -> Result<Vec<Step>, CommandError> {
    let failed = match failed_services(context, bus).await {
        Ok(failed) => failed,
        Err(why) => return Ok(vec![Step::new("restart-failed", Err(CommandError::failed(why)))]),
    };
    let mut steps = Vec::with_capacity(failed.len());
    for unit in failed {
        let result = stop_or(restart(context, bus, &unit).await)?;
        steps.push(Step::new(format!("restart {unit}"), result));
    }
    if steps.is_empty() {
        steps.push(Step::new("restart-failed", Ok("nothing has failed".to_owned())));
    }
    Ok(steps)
}

async fn restart(context: &Context, bus: &dyn SystemBus, unit: &str) -> Result<String, CommandError> {
    match bus.restart(unit.to_owned()).await {
        Ok(result) if result == "done" => Ok("restarted".to_owned()),
        Ok(result) => Err(CommandError::failed(format!("systemd's job ended as {result}; see `journalctl -u {unit}`"))),
        Err(BusError::NoSystemd) => {
            tools::output(context, "rc-service", [unit, "restart"]).await.map(|_| "restarted".to_owned())
        }
        Err(BusError::Failed(why)) => Err(CommandError::failed(why)),
    }
}
