//! The tasks on Linux.

use infini_protocol::ErrorCode;

use super::Task;
use crate::commands::action::Context;
use crate::commands::cleanup::{CleanupTarget, Step, linux as cleanup};
use crate::commands::outcome::CommandError;
use crate::commands::package_management;
use crate::commands::service_control;
use crate::commands::tools;
use crate::commands::validation::ServiceName;

/// Who sets the clock when it starts: systemd's, and the name that OpenRC's systems give to an NTP daemon, such as busybox's on Alpine.
const TIME_SERVICES: [&str; 2] = ["systemd-timesyncd", "ntpd"];

/// Does a task; what fails of it is a step that failed. `None`: the process of the agent after this one answers.
///
/// # Errors
/// Where the command has to end.
pub async fn perform(context: &Context, task: Task) -> Result<Option<Vec<Step>>, CommandError> {
    let freed = |freed: u64| format!("{freed} bytes are free again");
    let (name, result) = match task {
        Task::TrimDisks => match cleanup::trim(context).await {
            Ok(steps) => return Ok(Some(steps)),
            Err(error) => ("fstrim", Err(error)),
        },
        Task::RestartFailed => return restart_failed(context).await.map(Some),
        Task::VacuumJournal { days } => {
            ("vacuum", cleanup::vacuum_journal(context, &format!("{days}d")).await.map(freed))
        }
        Task::CleanPackageCache => ("clean-cache", cleanup::clean_package_caches(context).await.map(freed)),
        Task::CleanTemp => ("clean", clean_temp(context).await.map(freed)),
        Task::FixPackages => match package_management::repair(context).await {
            Ok(None) => return Ok(None),
            Ok(Some(printed)) => ("fix", Ok(last_line_of_repair(&printed))),
            Err(error) => ("fix", Err(error)),
        },
        Task::SyncTime => ("sync", sync_time(context).await),
    };
    stop_or(result).map(|result| Some(vec![Step::new(name, result)]))
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

/// What a repair says of itself.
pub fn last_line_of_repair(printed: &str) -> String {
    tools::last_line(printed).unwrap_or("nothing was left half done").to_owned()
}

/// The agent may not set the clock itself (CAP_SYS_TIME is not in its unit): whoever keeps it does.
async fn sync_time(context: &Context) -> Result<String, CommandError> {
    if tools::installed(&context.roots, "chronyc").is_some() {
        return tools::output(context, "chronyc", ["makestep"]).await.map(|_| "chrony sets the clock".to_owned());
    }
    for name in time_services() {
        if service_control::exists(&name, context).await.map_err(|failure| failure.error)? {
            let restarted = service_control::restart_service(&name, context).await;
            return restarted.map(|()| format!("{name} was restarted and asks its servers")).map_err(|it| it.error);
        }
    }
    let names = TIME_SERVICES.join(" nor ");
    Err(CommandError::failed(format!("neither chrony nor {names} is here, so nobody keeps the clock")))
}

/// The services of [`TIME_SERVICES`].
pub fn time_services() -> impl Iterator<Item = ServiceName> {
    TIME_SERVICES.iter().filter_map(|name| ServiceName::try_from((*name).to_owned()).ok())
}

async fn restart_failed(context: &Context) -> Result<Vec<Step>, CommandError> {
    let results = service_control::restart_failed(context).await.map_err(|failure| failure.error)?;
    let mut steps = Vec::with_capacity(results.len());
    for (name, result) in results {
        match result {
            Err(failure) if failure.error.is_ordered_end() => return Err(failure.error),
            Err(failure) => steps.push(Step::new(format!("restart {name}"), Err(failure.error))),
            Ok(()) => steps.push(Step::new(format!("restart {name}"), Ok("restarted".to_owned()))),
        }
    }
    if steps.is_empty() {
        steps.push(Step::new("restart-failed", Ok("nothing has failed".to_owned())));
    }
    Ok(steps)
}
