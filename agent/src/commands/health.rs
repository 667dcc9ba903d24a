//! `RunHealthCheck`, `RunAllHealthChecks`, `ValidateSystemHealth`, `CheckSystemIntegrity`: whether the machine is well.

#[cfg(target_os = "linux")]
pub mod linux;
#[cfg(target_os = "linux")]
use linux as platform;

use infini_protocol::ErrorCode;
use infini_protocol::host::SafeCommand;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::action::{Action, Context, Running, fields};
use super::outcome::{CommandError, Outcome};
use super::system_bus::{DBus, SystemBus};

/// What can be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", try_from = "String")]
pub enum CheckName {
    /// Space and inodes of each file system.
    Disk,
    /// Memory that programs can still get, and how long they wait for it.
    Memory,
    /// How many programs want a processor, for each that there is.
    Load,
    /// Units or services that have failed.
    FailedUnits,
    /// Whether a time service keeps the clock.
    TimeSync,
    /// Whether an update waits for a reboot.
    PendingReboot,
    /// File systems that are read-only and should not be.
    FilesystemReadOnly,
    /// Programs that the kernel killed for lack of memory since boot.
    OomKills,
    /// Whether the files of the system's core packages are as they were installed. Not among [`ALL`](Self::ALL): it reads them all.
    PackageIntegrity,
}

impl CheckName {
    /// The checks that cost next to nothing.
    pub const ALL: [Self; 8] = [
        Self::Disk,
        Self::Memory,
        Self::Load,
        Self::FailedUnits,
        Self::TimeSync,
        Self::PendingReboot,
        Self::FilesystemReadOnly,
        Self::OomKills,
    ];

    /// What `CheckSystemIntegrity` looks at.
    const INTEGRITY: [Self; 3] = [Self::PackageIntegrity, Self::FilesystemReadOnly, Self::FailedUnits];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Memory => "memory",
            Self::Load => "load",
            Self::FailedUnits => "failed_units",
            Self::TimeSync => "time_sync",
            Self::PendingReboot => "pending_reboot",
            Self::FilesystemReadOnly => "filesystem_read_only",
            Self::OomKills => "oom_kills",
            Self::PackageIntegrity => "package_integrity",
        }
    }
}

impl TryFrom<String> for CheckName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let known = || Self::ALL.into_iter().chain([Self::PackageIntegrity]);
        known().find(|check| check.as_str() == name).ok_or_else(|| {
            let names: Vec<&str> = known().map(Self::as_str).collect();
            format!("there is no check {name:?}; there are {}", names.join(", "))
        })
    }
}

/// How a part of the machine is, from well to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Status {
    /// Nothing to do.
    Healthy,
    /// It could not be found out. Nobody vouches for it, so it is no better than a warning.
    Unknown,
    /// Somebody should look at it.
    Warning,
    /// Somebody has to act.
    Critical,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// How it is.
    pub status: Status,
    /// Why, and what to do about it.
    pub message: String,
    /// Figures and names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
}

impl Finding {
    /// A finding without details.
    #[must_use]
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), details: None }
    }

    /// The same with details.
    #[must_use]
    pub fn with(self, details: Value) -> Self {
        Self { details: Some(details), ..self }
    }
}

/// A check that was made, or tried.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// Which.
    pub name: CheckName,
    /// What it found.
    #[serde(flatten)]
    pub finding: Finding,
}

/// `data` of all four actions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Health {
    /// The worst of the checks.
    pub overall_health: Status,
    /// Each.
    pub checks: Vec<Check>,
}

/// Makes the checks one after another.
pub async fn check(context: &Context, bus: &dyn SystemBus, names: &[CheckName]) -> Health {
    let mut checks = Vec::with_capacity(names.len());
    for &name in names {
        let found = platform::check(context, bus, name).await;
        let finding = found.unwrap_or_else(|why| Finding::new(Status::Unknown, why));
        checks.push(Check { name, finding });
    }
    let worst = checks.iter().map(|check| check.finding.status).max().unwrap_or(Status::Unknown);
    let overall_health = if worst == Status::Unknown { Status::Warning } else { worst };
    Health { overall_health, checks }
}

/// All four actions: which checks they make.
#[derive(Debug)]
struct Checks(Vec<CheckName>);

#[derive(Deserialize)]
struct OneName {
    check_name: CheckName,
}

#[derive(Deserialize)]
struct PerhapsAName {
    check_name: Option<CheckName>,
}

impl<'de> Deserialize<'de> for Checks {
    fn deserialize<D: serde::Deserializer<'de>>(fields: D) -> Result<Self, D::Error> {
        let fields = PerhapsAName::deserialize(fields)?;
        Ok(Self(fields.check_name.map_or_else(|| CheckName::ALL.to_vec(), |name| vec![name])))
    }
}

/// Makes a `RunHealthCheck`.
///
/// # Errors
/// `INVALID_PARAMETERS` where there is no such check.
pub fn one(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    let fields = Value::Object(command.command_type.fields.clone());
    match serde_json::from_value::<OneName>(fields) {
        Ok(OneName { check_name }) => Ok(Box::new(Checks(vec![check_name]))),
        Err(error) => Err(CommandError::new(ErrorCode::InvalidParameters, error.to_string())),
    }
}

/// Makes a `RunAllHealthChecks`.
///
/// # Errors
/// None: it has no fields.
pub fn all(_: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    Ok(Box::new(Checks(CheckName::ALL.to_vec())))
}

/// Makes a `ValidateSystemHealth`: one check, or all where none is named.
///
/// # Errors
/// `INVALID_PARAMETERS` where there is no such check.
pub fn validate(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    fields::<Checks>(command)
}

/// Makes a `CheckSystemIntegrity`.
///
/// # Errors
/// None: it has no fields.
pub fn integrity(_: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    Ok(Box::new(Checks(CheckName::INTEGRITY.to_vec())))
}

impl Action for Checks {
    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move { Outcome::from(value(&check(&context, &DBus, &self.0).await)) })
    }
}

/// A result as JSON.
///
/// # Errors
/// `INTERNAL` where it is none.
pub fn value(data: &impl Serialize) -> Result<Value, CommandError> {
    serde_json::to_value(data).map_err(|error| CommandError::new(ErrorCode::Internal, error.to_string()))
}

#[cfg(test)]
mod tests;
