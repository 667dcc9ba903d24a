//! `ServiceList`, `ServiceControl`, `RestartServices`.

#[cfg(test)]
pub(crate) mod fake;
mod manager;
mod restart;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub use linux::find;
#[cfg(test)]
mod tests;

pub use manager::{Asked, Change, ServiceError, ServiceManager};
pub use restart::{Restarted, restart, restart_failed, restart_service};

use infini_protocol::ErrorCode;
use infini_protocol::host::SafeCommand;
use infini_protocol::metrics::ServiceInfo;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::action::{Action, Context, Kind, Running, Target, fields, typed};
use super::outcome::{CommandError, Outcome};
use super::stop::Stop;
use super::validation::{ListLimit, ServiceName};
use crate::collector::service::order;

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

/// Whether there is a service of that name.
///
/// # Errors
/// Where that cannot be found out, and where the command must end.
pub async fn exists(name: &ServiceName, context: &Context) -> Result<bool, ServiceError> {
    match until_stopped(&context.stop, context.services.status(name, context)).await {
        Ok(_) => Ok(true),
        Err(failure) if failure.error.code == ErrorCode::ServiceNotFound => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// What has become of a service that could not be changed, where the manager tried.
async fn state_behind(failure: &ServiceError, context: &Context, name: &ServiceName) -> Option<Value> {
    let tried = failure.error.code == ErrorCode::CommandFailed;
    if tried { afterwards(context, name).await.data } else { None }
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
