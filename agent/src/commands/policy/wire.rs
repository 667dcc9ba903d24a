//! From the host's messages to what the policy is asked.

use infini_protocol::host::{SafeCommand, Script, UnsafeCommand};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::request::{RawCommand, RawScript, SCRIPT, Setting};

/// What runs a script where the host names no shell.
const DEFAULT_SHELL: &str = "sh";

/// What runs the script of an action.
const POWERSHELL: &str = "powershell";

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
            sha256: Sha256::digest(&script.script_content).into(),
            shell: script.shell.as_deref().unwrap_or(DEFAULT_SHELL),
            setting: Setting {
                working_dir: None,
                has_variables: script.input_values.as_ref().is_some_and(says_something),
                run_as: script.run_as.as_deref(),
            },
        }
    }
}

impl<'a> RawScript<'a> {
    /// The script that an action such as `ExecutePowerShellScript` carries; absent where it carries none.
    #[must_use]
    pub fn of_action(command: &'a SafeCommand) -> Option<Self> {
        let fields = &command.command_type.fields;
        let text = |field: &str| fields.get(field).and_then(Value::as_str);
        Some(Self {
            action: &command.command_type.action,
            sha256: Sha256::digest(text("script")?).into(),
            shell: POWERSHELL,
            setting: Setting {
                working_dir: text("working_directory"),
                has_variables: fields.get("environment_vars").is_some_and(says_something),
                run_as: None,
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
