//! What an action is: its row in the table, what it may touch, and how it runs.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use infini_protocol::ErrorCode;
use infini_protocol::host::{SafeCommand, Timeout};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::golden_image::OwnFiles;
use super::ids::Digest;
use super::intake::Intake;
use super::outcome::{CommandError, Outcome};
use super::package_management::Packages;
use super::policy::Judge;
use super::process_runner::ProgramRunner;
use super::service_control::ServiceManager;
use super::stop::Stop;
use super::validation::{PackageName, Pid, ServiceName};
use crate::collector::SystemMetricsProvider;
use crate::collector::linux::Roots;
use crate::communication::Receipt;
use crate::panics::contain;

/// What an action does to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It only looks.
    Read,
    /// It changes something.
    Change,
    /// It runs whatever the host says.
    Raw,
}

/// Which systems can do an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platforms {
    /// Linux alone.
    Linux,
    /// Windows alone.
    Windows,
    /// Both.
    All,
}

/// A read's time where the host gives none.
const READ_TIME: Duration = Duration::from_secs(30);

/// The time of a change or of a raw command where the host gives none.
pub const CHANGE_TIME: Duration = Duration::from_secs(60);

/// The same of what installs, updates or prepares an image.
const LONG_TIME: Duration = Duration::from_secs(30 * 60);

/// An action's row in [`super::ACTIONS`].
#[derive(Clone, Copy, Debug)]
pub struct ActionSpec {
    /// Its name on the wire.
    pub name: &'static str,
    /// What it does at most; [`Action::kind`] may say less.
    pub kind: Kind,
    /// Where it can be done.
    pub platforms: Platforms,
    /// Its time where the host gives none.
    pub default_time: Duration,
    /// Fields that no log and no audit may show.
    pub secrets: &'static [&'static str],
    /// Makes legal values of the host's fields.
    pub parse: Parse,
}

/// Makes an action of a command, or says which field is wrong.
pub type Parse = fn(&SafeCommand) -> Result<Box<dyn Action>, CommandError>;

impl ActionSpec {
    /// An action that only looks.
    #[must_use]
    pub const fn read(name: &'static str, parse: Parse) -> Self {
        let (kind, default_time) = (Kind::Read, READ_TIME);
        Self { name, kind, platforms: Platforms::All, default_time, secrets: &[], parse }
    }

    /// An action that changes something.
    #[must_use]
    pub const fn change(name: &'static str, parse: Parse) -> Self {
        let (kind, default_time) = (Kind::Change, CHANGE_TIME);
        Self { name, kind, platforms: Platforms::All, default_time, secrets: &[], parse }
    }

    /// An action that runs what the host says.
    #[must_use]
    pub const fn raw(name: &'static str, parse: Parse) -> Self {
        Self { kind: Kind::Raw, ..Self::change(name, parse) }
    }

    /// An action that only Windows has.
    #[must_use]
    pub const fn windows(name: &'static str, kind: Kind) -> Self {
        let refuse: Parse = |command| {
            let action = &command.command_type.action;
            Err(CommandError::new(ErrorCode::UnsupportedPlatform, format!("{action} is for Windows only")))
        };
        Self { kind, platforms: Platforms::Windows, ..Self::read(name, refuse) }
    }

    /// The same, for Linux alone.
    #[must_use]
    pub const fn linux(self) -> Self {
        Self { platforms: Platforms::Linux, ..self }
    }

    /// The same, with half an hour of time: packages, updates, images.
    #[must_use]
    pub const fn long(self) -> Self {
        Self { default_time: LONG_TIME, ..self }
    }

    /// The same, with fields that nothing may show.
    #[must_use]
    pub const fn hiding(self, secrets: &'static [&'static str]) -> Self {
        Self { secrets, ..self }
    }
}

/// Something in the machine that an action acts on, for the policy's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A service.
    Service(ServiceName),
    /// Services that are only found while it runs, such as those that have failed.
    AnyService,
    /// A package.
    Package(PackageName),
    /// Packages that are only found while it runs, such as those with updates.
    AnyPackage,
    /// A process.
    Process(Pid),
}

/// What only one command at a time may do. The next one waits in the queue, and others pass it there: in one of the places it would
/// keep them from running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusive {
    /// Changing packages: their managers lock out each other, and themselves.
    Packages,
    /// Pending scripts: the host gives their order.
    Scripts,
}

/// An action with legal values, ready to be judged and run.
pub trait Action: Send {
    /// What it does with these values; `None`: what its row says.
    fn kind(&self) -> Option<Kind> {
        None
    }

    /// What it acts on.
    fn targets(&self) -> Vec<Target> {
        Vec::new()
    }

    /// What it does that only one at a time may do.
    fn exclusive(&self) -> Option<Exclusive> {
        None
    }

    /// A time among its fields, which counts beside the command's own.
    fn timeout(&self) -> Option<&Timeout> {
        None
    }

    /// Does it.
    fn run(self: Box<Self>, context: Context) -> Running;
}

/// An action that only reads what may block: what it gives is its `data`.
pub trait Read: Send + 'static {
    /// Reads, on a thread where that is allowed.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn read(self: Box<Self>, context: &Context) -> Result<Value, CommandError>;
}

impl<R: Read> Action for R {
    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move { context.blocking(move |context| self.read(context)).await.into() })
    }
}

/// A command at work. Dropping it ends what it started.
pub type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// The host's command that something is done for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Origin {
    /// The host's id for it.
    pub id: String,
    /// What its answer calls it.
    pub command_type: String,
    /// Of the payload that it came in.
    pub payload: Digest,
    /// When it came.
    #[serde(skip, default = "Instant::now")]
    pub received: Instant,
}

impl Origin {
    /// Nobody's: for what the agent does by itself.
    #[must_use]
    pub fn nobody() -> Self {
        Self { id: String::new(), command_type: String::new(), payload: Digest::default(), received: Instant::now() }
    }
}

/// What a command works with.
#[derive(Clone)]
pub struct Context {
    /// The command.
    pub origin: Arc<Origin>,
    /// When and why it must end.
    pub stop: Stop,
    /// Hears when its answer has left.
    pub receipt: Receipt,
    /// The one place that starts programs.
    pub programs: Arc<dyn ProgramRunner>,
    /// Whose turn it is to change packages, and where such changes run.
    pub packages: Arc<Packages>,
    /// Where the machine's files are.
    pub roots: Arc<Roots>,
    /// Makes a collector that has seen nothing yet, on the thread that is going to use it.
    pub collector: Arc<dyn Fn() -> Box<dyn SystemMetricsProvider> + Send + Sync>,
    /// Who starts and stops services.
    pub services: Arc<dyn ServiceManager>,
    /// To be asked about what is only found while the command runs.
    pub judge: Judge,
    /// Has the agent take no other command.
    pub intake: Intake,
    /// Where the agent keeps what is its own.
    pub own: Arc<OwnFiles>,
}

impl Context {
    /// The same for another command.
    #[must_use]
    pub fn of(&self, origin: Arc<Origin>) -> Self {
        Self { origin, ..self.clone() }
    }

    /// The same with another end.
    #[must_use]
    pub fn stopping_at(&self, stop: Stop) -> Self {
        Self { stop, ..self.clone() }
    }

    /// The same for an action that is permitted by what this judge goes by.
    #[must_use]
    pub fn judged_by(self, judge: Judge) -> Self {
        Self { judge, ..self }
    }

    /// Does on another thread what may block, and gives what it found. A panic there is an error here.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, CommandError> + Send + 'static,
    ) -> Result<T, CommandError> {
        let context = self.clone();
        let contained = move || contain(AssertUnwindSafe(|| work(&context)));
        match tokio::task::spawn_blocking(contained).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(CommandError::defect()),
        }
    }
}

/// The action that the fields of a command describe. Fields that it does not have are ignored.
///
/// # Errors
/// `INVALID_PARAMETERS` where a field is missing or holds no legal value.
pub fn fields<A: Action + DeserializeOwned + 'static>(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    typed::<A>(Value::Object(command.command_type.fields.clone()))
}

/// The action that a JSON object describes.
///
/// # Errors
/// As with [`fields`].
pub fn typed<A: Action + DeserializeOwned + 'static>(fields: Value) -> Result<Box<dyn Action>, CommandError> {
    match serde_json::from_value::<A>(fields) {
        Ok(action) => Ok(Box::new(action)),
        Err(error) => Err(CommandError::new(ErrorCode::InvalidParameters, error.to_string())),
    }
}
