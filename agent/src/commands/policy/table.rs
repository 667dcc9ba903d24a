//! What the policy must know of the table of actions.

use infini_protocol::ErrorCode;
use infini_protocol::host::SafeCommand;

use super::request::{RAW_COMMAND, SCRIPT};
use crate::commands::action::{Kind, Target};
use crate::commands::outcome::CommandError;
use crate::commands::{ACTIONS, spec};

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
/// `UNKNOWN_COMMAND` where there is no such action, `UNSUPPORTED_PLATFORM` where it is another system's, `INVALID_PARAMETERS` where a
/// field holds no legal value.
pub fn describe(command: &SafeCommand) -> Result<(Kind, Vec<Target>), CommandError> {
    let name = command.command_type.action.as_str();
    let unknown = || CommandError::new(ErrorCode::UnknownCommand, format!("no action has the name {name:?}"));
    let spec = spec(name).ok_or_else(unknown)?;
    let action = (spec.parse)(command)?;
    Ok((action.kind().unwrap_or(spec.kind), action.targets()))
}
