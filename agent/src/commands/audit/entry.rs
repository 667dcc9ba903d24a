//! What an entry says: of a command, with its secrets left out and its texts bounded.

use std::time::Duration;

use infini_protocol::host::{SafeCommand, Script, UnsafeCommand};
use infini_protocol::{ErrorCode, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::chain::sha256;

/// So much of a raw command's or a script's text is kept, and of parameters: most scripts fit whole, and a line stays within a MiB.
pub const TEXT_BYTES: usize = 64 << 10;

/// So much of an id, a name or a rule is kept: what a person or a program makes is shorter.
const NAME_BYTES: usize = 1 << 10;

const REDACTED: &str = "(redacted)";

/// The way by which a command came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandKind {
    /// An action with parameters.
    Safe,
    /// A line for a shell.
    Raw,
    /// A script.
    Script,
}

/// A command, fit to be written down.
#[derive(Clone, Debug, Serialize)]
pub struct Command {
    id: String,
    kind: CommandKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Text>,
    #[serde(skip_serializing_if = "Value::is_null")]
    parameters: Value,
}

impl Command {
    /// A safe command. Fields named in `secrets` are left out wherever they stand, and so is every `password`.
    #[must_use]
    pub fn safe(command: &SafeCommand, secrets: &[&str]) -> Self {
        Self::of_action(command, CommandKind::Safe, parameters(command), secrets)
    }

    /// A safe command that is a raw one, with the text that it runs.
    #[must_use]
    pub fn raw_action(command: &SafeCommand, secrets: &[&str]) -> Self {
        let mut parameters = parameters(command);
        let script = parameters.remove("script");
        let text = script.map(|script| Text::new(script.as_str().unwrap_or(&script.to_string())));
        Self { text, ..Self::of_action(command, CommandKind::Raw, parameters, secrets) }
    }

    /// A raw command, with its text.
    #[must_use]
    pub fn raw(command: &UnsafeCommand, secrets: &[&str]) -> Self {
        let parameters = json!({
            "shell": command.shell,
            "working_dir": command.working_dir,
            "env_vars": command.env_vars,
            "run_as": command.run_as,
        });
        let text = Some(Text::new(&command.raw_command));
        Self { text, ..Self::new(&command.id, CommandKind::Raw, parameters, secrets) }
    }

    /// A script, with its text.
    #[must_use]
    pub fn script(script: &Script, secrets: &[&str]) -> Self {
        let parameters = json!({
            "script_id": script.script_id,
            "script_name": script.script_name,
            "shell": script.shell,
            "execution_type": script.execution_type,
            "input_values": script.input_values,
            "run_as": script.run_as,
        });
        let text = Some(Text::new(&script.script_content));
        Self { text, ..Self::new(&script.execution_id, CommandKind::Script, parameters, secrets) }
    }

    fn of_action(command: &SafeCommand, kind: CommandKind, parameters: Map<String, Value>, secrets: &[&str]) -> Self {
        let action = Some(clipped(&command.command_type.action));
        Self { action, ..Self::new(&command.id, kind, Value::Object(parameters), secrets) }
    }

    fn new(id: &str, kind: CommandKind, mut parameters: Value, secrets: &[&str]) -> Self {
        redact(&mut parameters, secrets);
        let whole = parameters.to_string();
        if whole.len() > TEXT_BYTES {
            parameters = json!({ "cut": Text::new(&whole) });
        }
        Self { id: clipped(id), kind, action: None, text: None, parameters }
    }
}

/// All that a host says about an action.
fn parameters(command: &SafeCommand) -> Map<String, Value> {
    let mut fields = command.command_type.fields.clone();
    if let Some(params) = &command.params {
        fields.insert("params".to_owned(), params.clone());
    }
    fields
}

/// A text of any length: its beginning, and what tells whether it was this one.
#[derive(Clone, Debug, Serialize)]
struct Text {
    head: String,
    bytes: usize,
    sha256: String,
}

impl Text {
    fn new(whole: &str) -> Self {
        let head = whole[..whole.floor_char_boundary(TEXT_BYTES)].to_owned();
        Self { head, bytes: whole.len(), sha256: sha256(whole.as_bytes()) }
    }
}

/// A name that is short, or its beginning and what tells the whole.
fn clipped(name: &str) -> String {
    if name.len() <= NAME_BYTES {
        return name.to_owned();
    }
    let head = &name[..name.floor_char_boundary(NAME_BYTES)];
    format!("{head}... ({} bytes, SHA-256 {})", name.len(), sha256(name.as_bytes()))
}

/// Environment variables are called PGPASSWORD and DB_PASSWORD, so it counts anywhere in a name.
fn redact(value: &mut Value, secrets: &[&str]) {
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| redact_field(name, value, secrets)),
        Value::Array(values) => values.iter_mut().for_each(|value| redact(value, secrets)),
        _ => {}
    }
    if let Value::Object(fields) = value {
        drop_absent(fields);
    }
}

fn redact_field(name: &str, value: &mut Value, secrets: &[&str]) {
    let is_secret = name.to_ascii_lowercase().contains("password")
        || secrets.iter().any(|secret| secret.eq_ignore_ascii_case(name));
    if is_secret {
        *value = REDACTED.into();
    } else {
        redact(value, secrets);
    }
}

fn drop_absent(fields: &mut Map<String, Value>) {
    fields.retain(|_, value| !value.is_null());
}

/// What was decided about a command, before it starts.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'a> {
    /// Whether it may run.
    pub allowed: bool,
    /// The rule that says so.
    pub rule: &'a str,
    /// With which word it was refused.
    pub error_code: Option<ErrorCode>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// Whether it did its work.
    pub success: bool,
    /// As its answer says.
    pub exit_code: i32,
    /// The word of its answer.
    pub error_code: Option<ErrorCode>,
    /// From receipt to answer.
    pub duration: Duration,
}

/// What stands in a line beside what makes the chain.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Body {
    /// A file begins; `previous` of the same line and these join it to the one before.
    File { file: u64, oldest: u64 },
    /// A command that will run.
    Received(Decided),
    /// A command that will not.
    Refused(Decided),
    /// A command is over.
    Ended {
        id: String,
        kind: CommandKind,
        success: bool,
        exit_code: i32,
        #[serde(skip_serializing_if = "Option::is_none")]
        error_code: Option<ErrorCode>,
        duration_ms: u64,
    },
    /// The file ended within a line, which is gone.
    Repaired { dropped_bytes: usize, dropped_sha256: String },
    /// Entries could not be written.
    Missing { count: u64, since: Timestamp },
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Decided {
    #[serde(flatten)]
    command: Command,
    rule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<ErrorCode>,
}

impl Body {
    pub(super) fn decided(command: Command, decision: &Decision<'_>) -> Self {
        let decided = Decided { command, rule: clipped(decision.rule), error_code: decision.error_code };
        if decision.allowed { Self::Received(decided) } else { Self::Refused(decided) }
    }

    pub(super) fn ended(id: &str, kind: CommandKind, ending: &Ending) -> Self {
        Self::Ended {
            id: clipped(id),
            kind,
            success: ending.success,
            exit_code: ending.exit_code,
            error_code: ending.error_code,
            duration_ms: u64::try_from(ending.duration.as_millis()).unwrap_or(u64::MAX),
        }
    }
}
