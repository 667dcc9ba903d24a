//! How much memory a command takes while it waits, about: its texts, and what is around each of them.

use infini_protocol::host::{SafeCommand, Script, UnsafeCommand};
use serde_json::Value;

/// A text's own, and that of the list or the table that it stands in.
const AROUND_TEXT: usize = 64;

/// Of an action.
pub fn of_safe(command: &SafeCommand) -> usize {
    command.command_type.fields.values().map(of_value).sum()
}

/// Of a raw command.
pub fn of_raw(command: &UnsafeCommand) -> usize {
    let variables = command.env_vars.iter().flatten().map(|(name, value)| of_text(name) + of_text(value));
    of_text(&command.raw_command) + command.working_dir.as_deref().map_or(0, of_text) + variables.sum::<usize>()
}

/// Of a script.
pub fn of_script(script: &Script) -> usize {
    of_text(&script.script_content) + script.input_values.as_ref().map_or(0, of_value)
}

fn of_text(text: &str) -> usize {
    AROUND_TEXT + text.len()
}

fn of_value(value: &Value) -> usize {
    match value {
        Value::String(text) => of_text(text),
        Value::Array(values) => AROUND_TEXT + values.iter().map(of_value).sum::<usize>(),
        Value::Object(fields) => fields.iter().map(|(name, value)| of_text(name) + of_value(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => AROUND_TEXT,
    }
}
