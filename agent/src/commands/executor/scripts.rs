//! Scripts: from the host's words to what the executor works with, and back.

use infini_protocol::agent::{AgentBody, ScriptCompletion};
use infini_protocol::host::{CommandName, Script};

use super::Answer;
use crate::commands::ids::{self, Digest};
use crate::commands::outcome::{CommandError, Outcome};
use crate::commands::policy::SCRIPT;

/// How many scripts may wait: far more than a host has for a machine.
pub const MOST_WAITING: usize = 1000;

/// The exit code by which shells say that a program may not be run.
const NOT_RUN: i32 = 126;

/// An execution's id among those of commands, none of which has a control character.
pub fn key(execution_id: &str) -> String {
    format!("\0script {execution_id}")
}

/// What the log calls it.
pub fn name(script: &Script) -> CommandName {
    CommandName { id: script.execution_id.clone(), command_type: SCRIPT.to_owned() }
}

/// What tells whether a script is the same as before.
pub fn digest(script: &Script) -> Digest {
    ids::digest(script.script_content.as_bytes())
}

/// A script that does not run.
pub fn refused(execution_id: String, error: CommandError) -> Answer {
    Answer { body: completion(execution_id, error.into()), room: None }
}

/// How a script ended. There is no other place for why it failed than the end of its errors.
pub fn completion(execution_id: String, outcome: Outcome) -> AgentBody {
    let mut stderr = outcome.stderr;
    if let Some(error) = &outcome.error {
        if !stderr.is_empty() && !stderr.ends_with('\n') {
            stderr.push('\n');
        }
        stderr.push_str(&error.sentence);
        stderr.push('\n');
    }
    let never_ran = outcome.error.is_some() && outcome.ended.is_none();
    AgentBody::ScriptCompletion(ScriptCompletion {
        execution_id,
        exit_code: if never_ran { NOT_RUN } else { outcome.exit_code },
        stdout: outcome.stdout,
        stderr,
        log_file: None,
    })
}
