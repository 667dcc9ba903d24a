//! Scripts: one after another, in the order in which the host gave them.

use std::collections::VecDeque;

use infini_protocol::agent::{AgentBody, ScriptCompletion};
use infini_protocol::host::Script;

use super::Answer;
use crate::commands::ids::{self, Digest};
use crate::commands::outcome::{CommandError, Outcome};

/// How many scripts may wait: far more than a host has for a machine.
const MOST_WAITING: usize = 1000;

/// The exit code by which shells say that a program may not be run.
const NOT_PERMITTED: i32 = 126;

/// Scripts that wait, and whether one runs.
#[derive(Debug, Default)]
pub struct Scripts {
    waiting: VecDeque<Script>,
    runs: bool,
}

impl Scripts {
    /// Whether another one may wait.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < MOST_WAITING
    }

    /// Another one waits.
    pub fn push(&mut self, script: Script) {
        self.waiting.push_back(script);
    }

    /// The next one, where none runs and there is a place for it.
    pub fn next(&mut self, has_room: bool) -> Option<Script> {
        if self.runs || !has_room {
            return None;
        }
        let script = self.waiting.pop_front()?;
        self.runs = true;
        Some(script)
    }

    /// The one that ran has its answer.
    pub fn ended(&mut self) {
        self.runs = false;
    }

    /// None of those that wait will run; the host asks for them in the next boot, or another agent does in this one.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }

    /// The same, where no agent of this machine will: each is given back.
    pub fn turn_away(&mut self) -> VecDeque<Script> {
        std::mem::take(&mut self.waiting)
    }
}

/// An execution's id among those of commands, none of which has a control character.
pub fn key(execution_id: &str) -> String {
    format!("\0script {execution_id}")
}

/// What tells whether a script is the same as before.
pub fn digest(script: &Script) -> Digest {
    ids::digest(script.script_content.as_bytes())
}

/// A script that does not run.
pub fn refused(execution_id: String, error: CommandError) -> Answer {
    let completion = ScriptCompletion {
        execution_id,
        exit_code: NOT_PERMITTED,
        stdout: String::new(),
        stderr: error.sentence,
        log_file: None,
    };
    Answer { body: AgentBody::ScriptCompletion(completion), room: None }
}

/// How a script ended. There is no other place for why it failed than the end of its errors.
pub fn completion(execution_id: String, outcome: Outcome) -> AgentBody {
    let mut stderr = outcome.stderr;
    if let Some(error) = outcome.error {
        if !stderr.is_empty() && !stderr.ends_with('\n') {
            stderr.push('\n');
        }
        stderr.push_str(&error.sentence);
        stderr.push('\n');
    }
    AgentBody::ScriptCompletion(ScriptCompletion {
        execution_id,
        exit_code: outcome.exit_code,
        stdout: outcome.stdout,
        stderr,
        log_file: None,
    })
}
