//! Who starts and stops services: [`ServiceManager`], whatever its name is on this machine.

use std::future::Future;
use std::pin::Pin;

use infini_protocol::ErrorCode;
use infini_protocol::metrics::ServiceInfo;

use crate::commands::action::Context;
use crate::commands::outcome::{CommandError, Outcome};
use crate::commands::stop::StopReason;
use crate::commands::validation::ServiceName;

/// What can be done to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Start it now.
    Start,
    /// Stop it now.
    Stop,
    /// Stop and start it now; start it where it does not run.
    Restart,
    /// Start it with the machine from now on.
    Enable,
    /// Do so no longer.
    Disable,
}

impl Change {
    /// What is to be done.
    #[must_use]
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Enable => "enable",
            Self::Disable => "disable",
        }
    }
}

/// Why a service could not be asked about or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct ServiceError {
    /// For the host.
    pub error: CommandError,
    /// The last lines that the service or its manager wrote; empty where there are none.
    pub log: String,
}

impl ServiceError {
    /// There is no such service.
    #[must_use]
    pub fn not_found(name: &ServiceName) -> Self {
        CommandError::new(ErrorCode::ServiceNotFound, format!("there is no service {name}")).into()
    }

    /// The command had to end first. What the manager has begun by then is in its hands.
    #[must_use]
    pub fn stopped(reason: StopReason) -> Self {
        let (code, why) = match reason {
            StopReason::Deadline => (ErrorCode::CommandTimeout, "the time was over"),
            StopReason::Cancelled => (ErrorCode::CommandCancelled, "the host took the command back"),
            StopReason::ShuttingDown => (ErrorCode::ShuttingDown, "the agent stops"),
        };
        let sentence = format!("{why} before the service manager was done; what it had begun may still be completed");
        CommandError::new(code, sentence).into()
    }
}

impl From<CommandError> for ServiceError {
    fn from(error: CommandError) -> Self {
        Self { error, log: String::new() }
    }
}

impl From<ServiceError> for Outcome {
    fn from(failure: ServiceError) -> Self {
        Self { stderr: failure.log, ..Self::from(failure.error) }
    }
}

/// An answer on its way.
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, ServiceError>> + Send + 'a>>;

/// Starts and stops services.
pub trait ServiceManager: Send + Sync {
    /// All services, in no order.
    fn list<'a>(&'a self, context: &'a Context) -> Asked<'a, Vec<ServiceInfo>>;

    /// One service. `SERVICE_NOT_FOUND` where there is none of that name.
    fn status<'a>(&'a self, name: &'a ServiceName, context: &'a Context) -> Asked<'a, ServiceInfo>;

    /// Changes a service and waits until that is done. `SERVICE_NOT_FOUND` as with [`status`](Self::status); `COMMAND_FAILED` where it
    /// cannot be done, and where `name` is another name of a service: rules would not know it by that.
    fn change<'a>(&'a self, change: Change, name: &'a ServiceName, context: &'a Context) -> Asked<'a, ()>;
}

/// The end of a text in at most so many bytes, from the beginning of a line where there is one.
#[must_use]
pub fn tail(text: &str, most: usize) -> &str {
    let text = text.trim_end();
    let Some(excess) = text.len().checked_sub(most).filter(|excess| *excess > 0) else { return text };
    let end = &text[text.ceil_char_boundary(excess)..];
    end.split_once('\n').map_or(end, |(_, lines)| lines)
}
