//! `infiniservice policy explain`: what the policy says about a command, and by which rule.

use std::fmt::Write as _;
use std::path::Path;

use infini_protocol::host::{HostMessage, SafeCommand, Script, UnsafeCommand};
use serde_json::{Map, Value};

use super::request::{Request, Subject};
use super::{Decision, Policy, process_facts, table};
use crate::commands::outcome::CommandError;

/// Why a text is no command that the policy could judge.
#[derive(Debug, thiserror::Error)]
pub enum NoCommand {
    /// It is not JSON, or not an object.
    #[error("this is no JSON object: {0}")]
    Json(String),
    /// It is no message that a host sends.
    #[error("this is no message of a host: {0}")]
    Message(String),
    /// It is a message, but nothing that the policy decides about.
    #[error("the policy decides about SafeCommand, UnsafeCommand and pending_scripts_response, not about this message")]
    NotACommand,
    /// The agent would refuse it before the policy is asked.
    #[error("the agent would refuse this command before its policy is asked: {0}")]
    Refused(#[from] CommandError),
}

/// A command and what the policy says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The command, for people.
    pub what: String,
    /// The decision.
    pub decision: Decision,
}

/// The commands of a message: a whole one without its envelope, or only its `{"action":...}` or `{"raw_command":...}`.
///
/// # Errors
/// Where it is neither.
pub fn parse(text: &str) -> Result<HostMessage, NoCommand> {
    let mut object: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| NoCommand::Json(error.to_string()))?;
    if object.contains_key("action") && !object.contains_key("type") {
        let command = Value::Object(std::mem::take(&mut object));
        object.insert("type".to_owned(), "SafeCommand".into());
        object.insert("command_type".to_owned(), command);
    }
    if object.contains_key("raw_command") {
        object.entry("type").or_insert("UnsafeCommand".into());
    }
    object.entry("id").or_insert("explain".into());
    HostMessage::parse(Value::Object(object).to_string().as_bytes())
        .map_err(|error| NoCommand::Message(error.to_string()))
}

/// What the policy says about each command of a message. Processes are looked at in `proc`.
///
/// # Errors
/// Where there is no command in it, or one that is refused whatever the policy says.
pub fn decide(policy: &Policy, message: &HostMessage, proc: &Path) -> Result<Vec<Explained>, NoCommand> {
    match message {
        HostMessage::SafeCommand(command) => Ok(vec![safe(policy, command, proc)?]),
        HostMessage::UnsafeCommand(command) => Ok(vec![raw(policy, command)]),
        HostMessage::PendingScriptsResponse(answer) => {
            Ok(answer.scripts.iter().map(|one| script(policy, one)).collect())
        }
        _ => Err(NoCommand::NotACommand),
    }
}

fn safe(policy: &Policy, command: &SafeCommand, proc: &Path) -> Result<Explained, CommandError> {
    let (kind, targets) = table::describe(command)?;
    let subjects: Vec<_> =
        targets.into_iter().map(|target| Subject::from_target(target, |pid| process_facts(proc, pid))).collect();
    let decision = policy.decide(&Request::of_safe(command, kind, &subjects));
    Ok(Explained { what: command.command_type.action.clone(), decision })
}

fn raw(policy: &Policy, command: &UnsafeCommand) -> Explained {
    let decision = policy.decide(&Request::Raw(command.into()));
    Explained { what: format!("raw command {:?}", command.raw_command), decision }
}

fn script(policy: &Policy, script: &Script) -> Explained {
    let decision = policy.decide(&Request::Script(script.into()));
    Explained { what: format!("script {:?}", script.execution_id), decision }
}

impl std::fmt::Display for Explained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        match &self.decision {
            Ok(permit) => {
                write!(text, "allowed: {}\n  rule: {}\n", self.what, permit.rule)?;
                if let Some(direct) = &permit.direct {
                    let program = direct.program.as_str();
                    writeln!(text, "  runs, without a shell: {program:?} {:?}", direct.arguments)?;
                }
            }
            Err(denial) => {
                write!(text, "denied: {}\n  rule: {}\n  reason: {}\n", self.what, denial.rule, denial.reason)?;
            }
        }
        f.write_str(&text)
    }
}
