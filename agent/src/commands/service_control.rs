//! `ServiceList`, `ServiceControl`, `RestartServices`.

mod manager;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub use linux::find;
#[cfg(test)]
mod tests;

pub use manager::{Asked, Change, ServiceError, ServiceManager};

use std::fmt::Write as _;

use infini_protocol::ErrorCode;
use infini_protocol::host::SafeCommand;
use infini_protocol::metrics::{ServiceInfo, ServiceStatus};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::action::{Action, Context, Kind, Running, Target, fields, typed};
use super::outcome::{CommandError, Outcome};
use super::stop::Stop;
use super::validation::{ListLimit, ServiceName};
use crate::collector::service::order;

/// What is kept of all services' last lines together; the rest of an answer needs room, too.
const LONGEST_LOG: usize = 64 * 1024;

/// `ServiceList`: what needs attention first.
#[derive(Debug, Deserialize)]
struct ServiceList {}

/// `ServiceControl`.
#[derive(Debug, Deserialize)]
struct ServiceControl {
    service: ServiceName,
    operation: Operation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Operation {
    Start,
    Stop,
    Restart,
    Enable,
    Disable,
    Status,
}

/// `RestartServices`: one, or all that have failed.
#[derive(Debug, Deserialize)]
struct RestartServices {
    service_name: Option<ServiceName>,
}

/// Makes a `ServiceList`.
///
/// # Errors
/// None: it has no fields.
pub fn list(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    fields::<ServiceList>(command)
}

/// Makes a `ServiceControl`. Older hosts put its fields into `params`; what stands beside the action counts before that.
///
/// # Errors
/// `INVALID_PARAMETERS` where a field is missing or holds no legal value.
pub fn control(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    let params = command.params.as_ref().and_then(Value::as_object);
    let mut fields = params.cloned().unwrap_or_default();
    let beside = command.command_type.fields.iter().filter(|(_, value)| !value.is_null());
    fields.extend(beside.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>());
    typed::<ServiceControl>(Value::Object(fields))
}

/// Makes a `RestartServices`.
///
/// # Errors
/// `INVALID_PARAMETERS` where the name is no legal one.
pub fn restart(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    fields::<RestartServices>(command)
}

impl Operation {
    /// What it changes; `None`: nothing.
    const fn change(self) -> Option<Change> {
        match self {
            Self::Start => Some(Change::Start),
            Self::Stop => Some(Change::Stop),
            Self::Restart => Some(Change::Restart),
            Self::Enable => Some(Change::Enable),
            Self::Disable => Some(Change::Disable),
            Self::Status => None,
        }
    }
}

impl Action for ServiceList {
    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move {
            match until_stopped(&context.stop, context.services.list(&context)).await {
                Ok(services) => listed(services),
                Err(failure) => failure.into(),
            }
        })
    }
}

fn listed(mut services: Vec<ServiceInfo>) -> Outcome {
    order(&mut services);
    let truncated = services.len() > ListLimit::MOST;
    services.truncate(ListLimit::MOST);
    Outcome { truncated, ..Outcome::from(data(&services)) }
}

impl Action for ServiceControl {
    fn kind(&self) -> Option<Kind> {
        self.operation.change().is_none().then_some(Kind::Read)
    }

    fn targets(&self) -> Vec<Target> {
        vec![Target::Service(self.service.clone())]
    }

    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move {
            let changed = match self.operation.change() {
                Some(change) => {
                    until_stopped(&context.stop, context.services.change(change, &self.service, &context)).await
                }
                None => Ok(()),
            };
            match changed {
                Ok(()) => afterwards(&context, &self.service).await,
                Err(failure) => {
                    Outcome { data: state_behind(&failure, &context, &self.service).await, ..failure.into() }
                }
            }
        })
    }
}

/// The service as it is now.
async fn afterwards(context: &Context, name: &ServiceName) -> Outcome {
    match until_stopped(&context.stop, context.services.status(name, context)).await {
        Ok(service) => Outcome::from(data(&service)),
        Err(failure) => failure.into(),
    }
}

/// What has become of a service that could not be changed, where the manager tried.
async fn state_behind(failure: &ServiceError, context: &Context, name: &ServiceName) -> Option<Value> {
    let tried = failure.error.code == ErrorCode::CommandFailed;
    if tried { afterwards(context, name).await.data } else { None }
}

impl Action for RestartServices {
    fn targets(&self) -> Vec<Target> {
        vec![self.service_name.clone().map_or(Target::AnyService, Target::Service)]
    }

    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move {
            match self.service_name {
                Some(name) => restart_one(name, &context).await,
                None => restart_failed(&context).await,
            }
        })
    }
}

async fn restart_one(name: ServiceName, context: &Context) -> Outcome {
    let mut restarts = Restarts::default();
    restarts.restart(&name, context).await;
    // One that is not there has its own word; it is the whole of the answer.
    match restarts.worst.take_if(|error| error.code == ErrorCode::ServiceNotFound) {
        Some(error) => error.into(),
        None => restarts.into(),
    }
}

/// One after another: services that failed together often need each other.
async fn restart_failed(context: &Context) -> Outcome {
    let services = match until_stopped(&context.stop, context.services.list(context)).await {
        Ok(services) => services,
        Err(failure) => return failure.into(),
    };
    let mut restarts = Restarts::default();
    for service in services.iter().filter(|service| service.status == ServiceStatus::Failed) {
        match ServiceName::try_from(service.name.to_string()) {
            Ok(name) => restarts.restart(&name, context).await,
            Err(error) => restarts.fail(&service.name, &CommandError::failed(error.to_string()).into()),
        }
        if restarts.is_over() {
            break;
        }
    }
    restarts.into()
}

/// What has been restarted so far.
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

impl Restarts {
    async fn restart(&mut self, name: &ServiceName, context: &Context) {
        match until_stopped(&context.stop, context.services.change(Change::Restart, name, context)).await {
            Ok(()) => self.restarted.push(name.to_string()),
            Err(failure) => self.fail(name.as_str(), &failure),
        }
    }

    fn fail(&mut self, name: &str, failure: &ServiceError) {
        self.failed.push(FailedRestart { name: name.to_owned(), error: failure.to_string() });
        if !failure.log.is_empty() && self.log.len() + failure.log.len() < LONGEST_LOG {
            // Writing to a string does not fail.
            writeln!(self.log, "{name}:\n{}", failure.log).ok();
        }
        self.worst = Some(failure.error.clone());
    }

    /// Whether the command had to end.
    fn is_over(&self) -> bool {
        let ends = [ErrorCode::CommandTimeout, ErrorCode::CommandCancelled, ErrorCode::ShuttingDown];
        self.worst.as_ref().is_some_and(|error| ends.contains(&error.code))
    }
}

impl From<Restarts> for Outcome {
    fn from(restarts: Restarts) -> Self {
        let outcome = Self::from(data(&restarts));
        let (failed, all) = (restarts.failed.len(), restarts.failed.len() + restarts.restarted.len());
        let error = match restarts.worst {
            Some(error) if all > 1 && error.code == ErrorCode::CommandFailed => {
                CommandError::failed(format!("{failed} of {all} services could not be restarted; `failed` says why"))
            }
            Some(error) => error,
            None => return outcome,
        };
        Self { data: outcome.data, stderr: restarts.log, ..Self::from(error) }
    }
}

fn data(value: &impl Serialize) -> Result<Value, CommandError> {
    serde_json::to_value(value).map_err(|error| CommandError::new(ErrorCode::Internal, error.to_string()))
}

/// What the manager says, unless the command must end first.
async fn until_stopped<T>(stop: &Stop, asked: Asked<'_, T>) -> Result<T, ServiceError> {
    tokio::select! {
        biased;
        answer = asked => answer,
        reason = stop.reached() => Err(ServiceError::stopped(reason)),
    }
}
