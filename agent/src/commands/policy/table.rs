//! What the policy must know of the table of actions.

use infini_protocol::ErrorCode;
use infini_protocol::host::SafeCommand;
use serde_json::Value;

use super::request::{RAW_COMMAND, SCRIPT};
use crate::commands::action::{Kind, Target};
use crate::commands::outcome::CommandError;
use crate::commands::{ACTIONS, spec};

/// Actions that change something.
const CHANGES: &[&str] = &[
    "AutoFixDefender",
    "AutoFixWindowsUpdates",
    "AutoOptimizeDisk",
    "CleanTemporaryFiles",
    "DiskCleanup",
    "JoinDomain",
    "PackageInstall",
    "PackageRemove",
    "PackageUpdate",
    "PrepareGoldenImage",
    "ProcessKill",
    "RebootSystem",
    "RestartServices",
    "RunDefenderQuickScan",
    "RunMaintenanceTask",
    "ServiceControl",
    "UpdateSystemSoftware",
];

/// Raw commands in a safe command's clothes.
const RAW: &[&str] = &["ExecutePowerShellScript"];

/// The names that a rule can be about.
pub(super) fn all_actions() -> impl Iterator<Item = &'static str> {
    ACTIONS.iter().map(|spec| spec.name).chain([RAW_COMMAND, SCRIPT])
}

/// The names that `reads`, `changes` and `allow` can permit: no raw ones.
pub(super) fn typed_actions() -> impl Iterator<Item = &'static str> {
    ACTIONS.iter().filter(|spec| spec.kind != Kind::Raw).map(|spec| spec.name)
}

/// What a safe command does and what it acts on.
///
/// # Errors
/// `UNKNOWN_COMMAND` where there is no such action, `INVALID_PARAMETERS` where a name in it is none.
pub fn describe(command: &SafeCommand) -> Result<(Kind, Vec<Target>), CommandError> {
    let name = command.command_type.action.as_str();
    if spec(name).is_none() {
        return Err(CommandError::new(ErrorCode::UnknownCommand, format!("no action has the name {name:?}")));
    }
    let field = |field: &str| {
        let params = command.params.as_ref().and_then(|params| params.get(field)).filter(|_| name == "ServiceControl");
        command.command_type.fields.get(field).or(params).filter(|value| !value.is_null()).cloned()
    };
    let kind = match name {
        "ServiceControl" if field("operation").is_some_and(|operation| operation == "status") => Kind::Read,
        name if RAW.contains(&name) => Kind::Raw,
        name if CHANGES.contains(&name) => Kind::Change,
        _ => Kind::Read,
    };
    let targets = match name {
        "ServiceControl" => one(field("service"), Target::Service, None),
        "RestartServices" => one(field("service_name"), Target::Service, Some(Target::AnyService)),
        "PackageInstall" | "PackageRemove" | "PackageUpdate" => one(field("package"), Target::Package, None),
        "UpdateSystemSoftware" => one(field("package"), Target::Package, Some(Target::AnyPackage)),
        "ProcessKill" => one(field("pid"), Target::Process, None),
        _ => Ok(Vec::new()),
    };
    Ok((kind, targets?))
}

/// The one thing that a field names, or what its absence means.
fn one<T: serde::de::DeserializeOwned>(
    field: Option<Value>,
    target: fn(T) -> Target,
    absent: Option<Target>,
) -> Result<Vec<Target>, CommandError> {
    let invalid = |reason: String| CommandError::new(ErrorCode::InvalidParameters, reason);
    match (field, absent) {
        (Some(value), _) => {
            Ok(vec![target(serde_json::from_value(value).map_err(|error| invalid(error.to_string()))?)])
        }
        (None, Some(absent)) => Ok(vec![absent]),
        (None, None) => Err(invalid("what it acts on is not named".to_owned())),
    }
}
