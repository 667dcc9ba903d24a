//! What an entry says: of a command, with its secrets left out and its texts bounded.

use std::fmt;
use std::time::Duration;

use infini_protocol::encode::{escaped_bytes, head};
use infini_protocol::host::{SafeCommand, Script, UnsafeCommand};
use infini_protocol::limits;
use infini_protocol::{ErrorCode, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::chain::sha256;

/// So much of a command's text and parameters is kept, counted as it stands in the line. A host's line carries no more, and in its
/// envelope a text is escaped once more than here, so what a host can send is kept whole.
pub const TEXT_BYTES: usize = limits::MAX_LINE_BYTES;

/// So much of parameters is kept beside a text of any length.
const LEAST_PARAMETER_BYTES: usize = 32 << 10;

/// So much of a text, and of parameters, is in a line of the log: what a person reads there. The audit has all of it.
const LOG_BYTES: usize = 4 << 10;

/// So much of an id, a name or a rule is kept: what a person or a program makes is shorter.
const NAME_BYTES: usize = 1 << 10;

const REDACTED: &str = "(redacted)";

/// Fields whose own fields are variables of a program. Tokens and keys are handed over so, under any name, so no value is kept.
const VARIABLES: [&str; 3] = ["env_vars", "environment_vars", "input_values"];

/// The way by which a command came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandKind {
    /// An action with parameters.
    Safe,
    /// A line for a shell, or an action that runs what the host says.
    Raw,
    /// A script.
    Script,
}

/// A command, fit to be written down.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Command {
    pub(super) id: String,
    pub(super) kind: CommandKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) action: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Text>,
    #[serde(skip_serializing_if = "Value::is_null")]
    parameters: Value,
}

impl Command {
    /// A safe command. Fields named in `secrets` are left out wherever they stand, and so is every `password`.
    #[must_use]
    pub fn safe(command: &SafeCommand, secrets: &[&str]) -> Self {
        Self::action(command, CommandKind::Safe, None, fields(command), secrets)
    }

    /// A safe command that runs what the host says: a raw one, and its `script` is the text.
    #[must_use]
    pub fn raw_action(command: &SafeCommand, secrets: &[&str]) -> Self {
        let mut fields = fields(command);
        let script = match fields.remove("script") {
            Some(Value::String(script)) => Some(script),
            // What else stands there is no text, and shown as it came.
            Some(other) => {
                fields.insert("script".to_owned(), other);
                None
            }
            None => None,
        };
        Self::action(command, CommandKind::Raw, script.as_deref(), fields, secrets)
    }

    /// What can be read of a command that has no id or fields of the wrong shape.
    #[must_use]
    pub fn unreadable(
        id: &str,
        kind: CommandKind,
        action: Option<&str>,
        fields: Map<String, Value>,
        secrets: &[&str],
    ) -> Self {
        Self { action: action.map(clipped), ..Self::new(id, kind, None, Value::Object(fields), secrets) }
    }

    fn action(
        command: &SafeCommand,
        kind: CommandKind,
        text: Option<&str>,
        fields: Map<String, Value>,
        secrets: &[&str],
    ) -> Self {
        let action = Some(clipped(&command.command_type.action));
        Self { action, ..Self::new(&command.id, kind, text, Value::Object(fields), secrets) }
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
        Self::new(&command.id, CommandKind::Raw, Some(&command.raw_command), parameters, secrets)
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
        Self::new(&script.execution_id, CommandKind::Script, Some(&script.script_content), parameters, secrets)
    }

    fn new(id: &str, kind: CommandKind, text: Option<&str>, mut parameters: Value, secrets: &[&str]) -> Self {
        let text = text.map(|text| Text::new(text, TEXT_BYTES));
        let taken = text.as_ref().map_or(0, |text| escaped_bytes(&text.head));
        let most = TEXT_BYTES.saturating_sub(taken).max(LEAST_PARAMETER_BYTES);
        redact(&mut parameters, secrets);
        let whole = parameters.to_string();
        if whole.len() > most {
            parameters = json!({ "cut": Text::new(&whole, most) });
        }
        Self { id: clipped(id), kind, action: None, text, parameters }
    }
}

/// For a line of the log: the text and the parameters without secrets, cut to what a person reads, and with no character that would end
/// the line or act on a terminal.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = &self.text {
            let kept = brief(&text.head);
            write!(f, "{kept:?}{}", Rest(text.bytes - kept.len()))?;
        }
        let parameters = self.parameters.to_string();
        match self.parameters.as_object() {
            Some(fields) if fields.is_empty() && self.text.is_some() => Ok(()),
            _ => {
                let kept = brief(&parameters);
                let space = if self.text.is_some() { " " } else { "" };
                write!(f, "{space}{}{}", Visible(kept), Rest(parameters.len() - kept.len()))
            }
        }
    }
}

fn brief(text: &str) -> &str {
    &text[..text.floor_char_boundary(LOG_BYTES)]
}

/// How much is not shown.
struct Rest(usize);

impl fmt::Display for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, "... (and {} bytes more, which the audit has)", self.0) }
    }
}

/// JSON, in which what JSON leaves as it is and a terminal acts on is escaped, too.
struct Visible<'a>(&'a str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '"' | '\'' | '\\' => write!(f, "{c}"),
            c => write!(f, "{}", c.escape_debug()),
        })
    }
}

fn fields(command: &SafeCommand) -> Map<String, Value> {
    let mut fields = command.command_type.fields.clone();
    if let Some(params) = &command.params {
        fields.insert("params".to_owned(), params.clone());
    }
    fields
}

/// A text of any length: its beginning, and what tells whether it was this one.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Text {
    head: String,
    bytes: usize,
    sha256: String,
}

impl Text {
    /// Kept to so many bytes as they stand in the line.
    fn new(whole: &str, most: usize) -> Self {
        Self { head: head(whole, most).to_owned(), bytes: whole.len(), sha256: sha256(whole.as_bytes()) }
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

/// A password is called `password` or `admin_password`, so it counts anywhere in a name.
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
    let are_variables = VARIABLES.iter().any(|known| known.eq_ignore_ascii_case(name));
    match value {
        Value::Null => {}
        Value::Object(fields) if are_variables && !is_secret => {
            fields.values_mut().for_each(|value| *value = REDACTED.into());
        }
        value if is_secret || are_variables => *value = REDACTED.into(),
        value => redact(value, secrets),
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
    /// The rule that says so; empty where it was refused for what it is, before any rule.
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
    /// A command that came before, as it was then: it does not run again.
    Repeated {
        id: String,
        kind: CommandKind,
        #[serde(skip_serializing_if = "Option::is_none")]
        action: Option<String>,
        /// It got its answer once more; else the one answer was still to come.
        answered: bool,
    },
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
    #[serde(skip_serializing_if = "String::is_empty")]
    rule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<ErrorCode>,
}

impl Body {
    pub(super) fn decided(command: Command, decision: &Decision<'_>) -> Self {
        let decided = Decided { command, rule: clipped(decision.rule), error_code: decision.error_code };
        if decision.allowed { Self::Received(decided) } else { Self::Refused(decided) }
    }

    pub(super) fn repeated(command: Command, answered: bool) -> Self {
        let Command { id, kind, action, .. } = command;
        Self::Repeated { id, kind, action, answered }
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

#[cfg(test)]
mod tests {
    use infini_protocol::envelope::{Key, seal};

    use super::super::chain::{Head, MAX_LINE_BYTES};
    use super::*;

    fn written(command: Command) -> Value {
        let rule = "r".repeat(NAME_BYTES);
        let decision = Decision { allowed: true, rule: &rule, error_code: None };
        let body = Body::decided(command, &decision);
        let (line, _) = Head::start().next(Timestamp::from_unix_ms(0), &body).unwrap();
        assert!(line.len() <= MAX_LINE_BYTES);
        serde_json::from_slice(&line).unwrap()
    }

    fn raw(text: &str, variables: &Value) -> UnsafeCommand {
        serde_json::from_value(json!({ "id": "1", "raw_command": text, "env_vars": variables })).unwrap()
    }

    #[test]
    fn every_text_that_a_line_can_carry_is_written_whole() {
        let payload = |text: &str| {
            let mut command = serde_json::to_value(raw(text, &Value::Null)).unwrap();
            command["type"] = "UnsafeCommand".into();
            command.to_string()
        };
        let envelope = seal(&Key::new(b"k").unwrap(), 1, "n", "").unwrap().len();
        for filler in ["x", "\"", "\u{1}"] {
            let empty = envelope + escaped_bytes(&payload(""));
            let cost = envelope + escaped_bytes(&payload(filler)) - empty;
            let text = filler.repeat((limits::MAX_LINE_BYTES - empty) / cost);
            let entry = written(Command::raw(&raw(&text, &Value::Null), &[]));
            assert!(entry["text"]["head"].as_str() == Some(&text), "{filler:?}: {}", entry["text"]["bytes"]);
        }
    }

    #[test]
    fn parameters_of_any_length_are_cut_and_the_line_keeps_its_bound() {
        let text = "\u{1}".repeat(TEXT_BYTES / 6 + 1);
        let variables: Map<String, Value> = (0..2_000).map(|number| (format!("V{number}"), "".into())).collect();
        let entry = written(Command::raw(&raw(&text, &variables.into()), &[]));
        assert_eq!(entry["text"]["bytes"], text.len());
        assert_eq!(entry["text"]["head"].as_str().map(str::len), Some(TEXT_BYTES / 6));
        assert!(entry["parameters"]["cut"]["sha256"].is_string(), "{}", entry["parameters"]);
        let safe = json!({ "id": "1", "command_type": { "action": "X", "script": "x".repeat(1_000_000) } });
        let entry = written(Command::safe(&serde_json::from_value(safe).unwrap(), &[]));
        assert_eq!(entry["parameters"]["script"].as_str().map(str::len), Some(1_000_000));
    }

    #[test]
    fn variables_keep_their_names_and_lose_their_values() {
        let script = |values: Value| {
            let given = json!({ "execution_id": "e", "script_content": "env", "input_values": values });
            Command::script(&serde_json::from_value(given).unwrap(), &[])
        };
        let fields = json!({ "environment_vars": { "API_KEY": "canary" }, "deep": [{ "ENV_VARS": "canary" }] });
        let safe = json!({ "id": "1", "command_type": { "action": "X" }, "params": fields });
        for (command, name) in [
            (Command::raw(&raw("env", &json!({ "TOKEN": "canary", "EMPTY": "" })), &[]), "TOKEN"),
            (
                script(json!({ "AWS_SECRET_ACCESS_KEY": ["canary"], "N": { "deep": "canary" } })),
                "AWS_SECRET_ACCESS_KEY",
            ),
            (script(json!(["canary"])), "input_values"),
            (Command::safe(&serde_json::from_value(safe).unwrap(), &[]), "API_KEY"),
        ] {
            for told in [command.to_string(), written(command).to_string()] {
                assert!(!told.contains("canary") && told.contains(name) && told.contains(REDACTED), "{told}");
            }
        }
    }

    #[test]
    fn the_log_gets_one_line_of_bounded_length() {
        let command = Command::raw(&raw("echo a\n\u{1b}[2J \u{202e}", &json!({ "A": "b" })), &[]);
        assert_eq!(command.to_string(), r#""echo a\n\u{1b}[2J \u{202e}" {"env_vars":{"A":"(redacted)"}}"#);
        let safe = json!({ "id": "1", "command_type": { "action": "X", "service": "a\nb\u{9b}\u{202e}" } });
        let command = Command::safe(&serde_json::from_value(safe).unwrap(), &[]);
        assert_eq!(command.to_string(), r#"{"service":"a\nb\u{9b}\u{202e}"}"#);

        let long = Command::raw(&raw(&"\u{1}".repeat(900_000), &Value::Null), &[]).to_string();
        assert!(long.ends_with("bytes more, which the audit has)") && long.len() < 10 * LOG_BYTES, "{}", long.len());
        assert!(!long.contains(char::is_control), "a control character is left");
    }
}
