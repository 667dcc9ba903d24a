//! From the host's messages to what the policy is asked.

use infini_protocol::host::{SafeCommand, Script, UnsafeCommand};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::request::{RawCommand, RawScript, Request, SCRIPT, Setting, Subject};
use crate::commands::action::Kind;

/// What runs a script where the host names no shell.
const DEFAULT_SHELL: &str = "sh";

/// What runs the script of an action.
const POWERSHELL: &str = "powershell";

/// Who runs the script of an action that is not to be an administrator's.
pub const NO_ADMIN: &str = "nobody";

impl<'a> From<&'a UnsafeCommand> for RawCommand<'a> {
    fn from(command: &'a UnsafeCommand) -> Self {
        Self {
            line: &command.raw_command,
            shell: command.shell.as_deref(),
            setting: Setting {
                working_dir: command.working_dir.as_deref(),
                has_variables: command.env_vars.as_ref().is_some_and(|variables| !variables.is_empty()),
                run_as: command.run_as.as_deref(),
            },
        }
    }
}

impl<'a> From<&'a Script> for RawScript<'a> {
    fn from(script: &'a Script) -> Self {
        Self {
            action: SCRIPT,
            sha256: Some(Sha256::digest(&script.script_content).into()),
            shell: script.shell.as_deref().unwrap_or(DEFAULT_SHELL),
            setting: Setting {
                working_dir: None,
                has_variables: script.input_values.as_ref().is_some_and(says_something),
                run_as: script.run_as.as_deref(),
            },
        }
    }
}

impl<'a> Request<'a> {
    /// A safe command that does this to these.
    #[must_use]
    pub fn of_safe(command: &'a SafeCommand, kind: Kind, subjects: &'a [Subject]) -> Self {
        let script = RawScript::of_action(command).filter(|_| kind == Kind::Raw);
        let name = &command.command_type.action;
        script.map_or(Self::Action { name, kind, subjects }, Self::Script)
    }
}

impl<'a> RawScript<'a> {
    /// The script that an action such as `ExecutePowerShellScript` carries; absent where it carries none.
    fn of_action(command: &'a SafeCommand) -> Option<Self> {
        let fields = &command.command_type.fields;
        let text = |field: &str| fields.get(field).and_then(Value::as_str);
        let is_admin = fields.get("run_as_admin").and_then(Value::as_bool).unwrap_or(true);
        let script = text("script")?;
        Some(Self {
            action: &command.command_type.action,
            sha256: (text("script_type") != Some("file")).then(|| Sha256::digest(script).into()),
            shell: POWERSHELL,
            setting: Setting {
                working_dir: text("working_directory"),
                has_variables: fields.get("environment_vars").is_some_and(says_something),
                run_as: (!is_admin).then_some(NO_ADMIN),
            },
        })
    }
}

/// Hosts send empty objects and lists for "none".
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(entries) => !entries.is_empty(),
        _ => true,
    }
}
