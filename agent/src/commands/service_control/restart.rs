//! `RestartServices`, and restarting for other actions.

use std::fmt::Write as _;

use infini_protocol::ErrorCode;
use infini_protocol::host::SafeCommand;
use infini_protocol::metrics::ServiceStatus;
use serde::{Deserialize, Serialize};

use super::manager::{Change, ServiceError};
use super::{data, until_stopped};
use crate::commands::action::{Action, Context, Running, Target, fields};
use crate::commands::outcome::{CommandError, Outcome};
use crate::commands::validation::ServiceName;

/// What is kept of all services' last lines together; the rest of an answer needs room, too.
const LONGEST_LOG: usize = 64 * 1024;

/// `RestartServices`: one, or all that have failed.
#[derive(Debug, Deserialize)]
struct RestartServices {
    service_name: Option<ServiceName>,
}

/// Makes a `RestartServices`.
///
/// # Errors
/// `INVALID_PARAMETERS` where the name is no legal one.
pub fn restart(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    fields::<RestartServices>(command)
}

impl Action for RestartServices {
    fn targets(&self) -> Vec<Target> {
        vec![self.service_name.clone().map_or(Target::AnyService, Target::Service)]
    }

    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move {
            match self.service_name {
                Some(name) => restarted_one(&name, &context).await,
                None => match restart_failed(&context).await {
                    Ok(results) => results.into_iter().collect::<Restarts>().into(),
                    Err(failure) => failure.into(),
                },
            }
        })
    }
}

async fn restarted_one(name: &ServiceName, context: &Context) -> Outcome {
    match restart_service(name, context).await {
        // One that is not there has its own word; it is the whole of the answer.
        Err(failure) if failure.error.code == ErrorCode::ServiceNotFound => failure.into(),
        result => Restarts::from_iter([(name.to_string(), result)]).into(),
    }
}

/// Restarts a service and waits until that is done, or the command must end.
///
/// # Errors
/// `PERMISSION_DENIED` where the policy leaves that service out; as with [`ServiceManager::change`](super::ServiceManager::change); and
/// where the command must end: what the manager has begun by then is in its hands.
pub async fn restart_service(name: &ServiceName, context: &Context) -> Result<(), ServiceError> {
    context.judge.service(name).map_err(CommandError::from)?;
    until_stopped(&context.stop, context.services.change(Change::Restart, name, context)).await
}

/// The name of a service that was to be restarted, and what came of it.
pub type Restarted = (String, Result<(), ServiceError>);

/// Restarts all services that have failed, one after another: services that failed together often need each other. Where the command
/// must end, the last result says so.
///
/// # Errors
/// Where nobody can say which have failed.
pub async fn restart_failed(context: &Context) -> Result<Vec<Restarted>, ServiceError> {
    let services = until_stopped(&context.stop, context.services.list(context)).await?;
    let mut results = Vec::new();
    for service in services.iter().filter(|service| service.status == ServiceStatus::Failed) {
        let result = match ServiceName::try_from(service.name.to_string()) {
            Ok(name) => restart_service(&name, context).await,
            Err(error) => Err(CommandError::failed(error.to_string()).into()),
        };
        let is_over = result.as_ref().is_err_and(|failure| failure.error.is_ordered_end());
        results.push((service.name.to_string(), result));
        if is_over {
            break;
        }
    }
    Ok(results)
}

/// What has been restarted.
#[derive(Debug, Default, Serialize)]
struct Restarts {
    restarted: Vec<String>,
    failed: Vec<FailedRestart>,
    #[serde(skip)]
    log: String,
    /// The last error, or the one that ended it.
    #[serde(skip)]
    worst: Option<CommandError>,
}

#[derive(Debug, Serialize)]
struct FailedRestart {
    name: String,
    error: String,
}

impl FromIterator<Restarted> for Restarts {
    fn from_iter<I: IntoIterator<Item = Restarted>>(results: I) -> Self {
        let mut restarts = Self::default();
        for (name, result) in results {
            match result {
                Ok(()) => restarts.restarted.push(name),
                Err(failure) => restarts.fail(name, failure),
            }
        }
        restarts
    }
}

impl Restarts {
    fn fail(&mut self, name: String, failure: ServiceError) {
        if !failure.log.is_empty() && self.log.len() + failure.log.len() < LONGEST_LOG {
            // Writing to a string does not fail.
            writeln!(self.log, "{name}:\n{}", failure.log).ok();
        }
        self.failed.push(FailedRestart { name, error: failure.to_string() });
        self.worst = Some(failure.error);
    }
}

impl From<Restarts> for Outcome {
    fn from(restarts: Restarts) -> Self {
        let outcome = Self::from(data(&restarts));
        let (failed, all) = (restarts.failed.len(), restarts.failed.len() + restarts.restarted.len());
        let error = match restarts.worst {
            Some(error) if all > 1 && !error.is_ordered_end() => {
                CommandError::failed(format!("{failed} of {all} services could not be restarted; `failed` says why"))
            }
            Some(error) => error,
            None => return outcome,
        };
        Self { data: outcome.data, stderr: restarts.log, ..Self::from(error) }
    }
}
