//! Decides what becomes of a command and answers it.
//!
//! This agent's policy permits no command: every one is answered, none runs.

use infini_protocol::ErrorCode;
use infini_protocol::agent::{Response, ScriptCompletion};
use infini_protocol::host::{SafeCommand, Script, UnsafeCommand};

use super::ACTIONS;

/// The exit code by which shells say that a program may not be run.
const NOT_PERMITTED: i32 = 126;

/// What `command_type` says of a raw command.
const RAW: &str = "unsafe";

/// Takes commands and gives each its one answer.
#[derive(Debug, Default)]
pub struct CommandExecutor;

impl CommandExecutor {
    /// The answer to a safe command.
    #[must_use]
    pub fn safe(&self, command: SafeCommand) -> Response {
        let action = command.command_type.action;
        if ACTIONS.binary_search(&action.as_str()).is_err() {
            let sentence = format!("no action has the name {action:?}");
            return refusal(command.id, action, ErrorCode::UnknownCommand, sentence);
        }
        let sentence = format!("this machine's policy does not permit {action}");
        refusal(command.id, action, ErrorCode::PermissionDenied, sentence)
    }

    /// The answer to a raw command.
    #[must_use]
    pub fn raw(&self, command: UnsafeCommand) -> Response {
        let sentence = "this machine's policy does not permit raw commands".to_owned();
        refusal(command.id, RAW.to_owned(), ErrorCode::PermissionDenied, sentence)
    }

    /// The end of a script.
    #[must_use]
    pub fn script(&self, script: Script) -> ScriptCompletion {
        ScriptCompletion {
            execution_id: script.execution_id,
            exit_code: NOT_PERMITTED,
            stdout: String::new(),
            stderr: "this machine's policy does not permit scripts".to_owned(),
            log_file: None,
        }
    }
}

/// An answer that says why nothing ran.
#[must_use]
pub fn refusal(id: String, command_type: String, code: ErrorCode, sentence: String) -> Response {
    Response {
        id,
        success: false,
        exit_code: 1,
        command_type,
        error: Some(sentence),
        error_code: Some(code),
        ..Response::default()
    }
}

#[cfg(test)]
mod tests {
    use infini_protocol::host::{Action, HostMessage};

    use super::*;

    fn safe(action: &str) -> Response {
        CommandExecutor.safe(SafeCommand {
            id: "7".to_owned(),
            command_type: Action { action: action.to_owned(), fields: serde_json::Map::new() },
            params: None,
            timeout: None,
        })
    }

    #[test]
    fn the_table_of_actions_is_sorted() {
        assert!(ACTIONS.is_sorted(), "binary search needs order");
    }

    #[test]
    fn a_known_action_is_not_permitted_and_another_is_unknown() {
        assert_eq!(safe("OsInfo").error_code, Some(ErrorCode::PermissionDenied));
        assert_eq!(safe("osinfo").error_code, Some(ErrorCode::UnknownCommand));
        assert_eq!(safe("").error_code, Some(ErrorCode::UnknownCommand));
    }

    #[test]
    fn a_raw_command_and_a_script_are_answered() {
        let raw = br#"{"type":"UnsafeCommand","id":"r","raw_command":"id"}"#;
        let Ok(HostMessage::UnsafeCommand(command)) = HostMessage::parse(raw) else { panic!("it is a raw command") };
        let answer = CommandExecutor.raw(command);
        assert_eq!((answer.id.as_str(), answer.success, answer.command_type.as_str()), ("r", false, "unsafe"));

        let script = serde_json::from_str(r#"{"execution_id":"e","script_content":"id"}"#).unwrap();
        assert_eq!(CommandExecutor.script(script).exit_code, 126);
    }
}
