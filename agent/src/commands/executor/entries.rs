//! What the audit has of a command, whatever becomes of it.

use infini_protocol::host::{RAW_COMMAND_TYPE, SafeCommand, Script};
use serde_json::{Map, Value};

use super::Work;
use crate::commands::action::Kind;
use crate::commands::audit::{self, CommandKind};
use crate::commands::dispatch::Ticket;
use crate::commands::spec;

/// A command.
pub fn of_work(work: &Work) -> audit::Command {
    match work {
        Work::Safe(command) => of_safe(command),
        Work::Raw(command) => audit::Command::raw(command, &[]),
    }
}

fn of_safe(command: &SafeCommand) -> audit::Command {
    let name = command.command_type.action.as_str();
    match kind_of_action(name) {
        CommandKind::Raw => audit::Command::raw_action(command, secrets(name)),
        _ => audit::Command::safe(command, secrets(name)),
    }
}

/// A script.
pub fn of_script(script: &Script) -> audit::Command {
    audit::Command::script(script, &[])
}

/// The command, or the scripts, of a payload with fields that no command has.
pub fn of_unreadable(payload: &[u8]) -> Option<audit::Command> {
    let mut fields: Map<String, Value> = serde_json::from_slice(payload).ok()?;
    let action = fields.get("command_type").and_then(|typed| typed.get("action")?.as_str()).map(str::to_owned);
    let kind = match fields.remove("type")?.as_str()? {
        "SafeCommand" => action.as_deref().map_or(CommandKind::Safe, kind_of_action),
        "UnsafeCommand" => CommandKind::Raw,
        "pending_scripts_response" => CommandKind::Script,
        _ => return None,
    };
    let id = fields.remove("id").and_then(|id| id.as_str().map(str::to_owned)).unwrap_or_default();
    let secrets = action.as_deref().map_or(&[][..], secrets);
    Some(audit::Command::unreadable(&id, kind, action.as_deref(), fields, secrets))
}

/// How a command counts that has run.
pub fn kind_of(ticket: &Ticket) -> CommandKind {
    match ticket.name.command_type.as_str() {
        _ if ticket.is_script => CommandKind::Script,
        RAW_COMMAND_TYPE => CommandKind::Raw,
        action => kind_of_action(action),
    }
}

/// An action that runs whatever the host says is a raw command by another name.
fn kind_of_action(name: &str) -> CommandKind {
    match spec(name).map(|spec| spec.kind) {
        Some(Kind::Raw) => CommandKind::Raw,
        _ => CommandKind::Safe,
    }
}

fn secrets(action: &str) -> &'static [&'static str] {
    spec(action).map_or(&[], |spec| spec.secrets)
}
