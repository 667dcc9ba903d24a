//! What the executor writes down: into the audit, and into the log.

use infini_protocol::ErrorCode;
use infini_protocol::host::CommandName;

use super::plan::{Plan, Refusal};
use super::{Answer, CommandExecutor, Unheard, refused};
use crate::clock;
use crate::commands::audit::{self, Recorded};
use crate::commands::outcome::CommandError;

impl CommandExecutor {
    /// Puts a decision into the audit and the log. A command that must be in the audit and cannot be is refused.
    pub(super) fn write_down(
        &mut self,
        entry: audit::Command,
        name: &CommandName,
        planned: Result<Plan, Refusal>,
    ) -> Result<Plan, CommandError> {
        let (rule, error_code) = match &planned {
            Ok(plan) => (plan.rule.as_str(), None),
            Err(refusal) => (refusal.rule.as_deref().unwrap_or_default(), Some(refusal.error.code)),
        };
        let decision = audit::Decision { allowed: planned.is_ok(), rule, error_code };
        let what = entry.to_string();
        let Recorded { event, refusal } = self.audit.decided(clock::now(), entry, &decision);
        self.events.extend(event);
        let CommandName { id, command_type } = name;
        match (planned, refusal) {
            (Ok(_), Some(error)) => Err(error),
            (Ok(plan), None) => {
                tracing::info!(id, command_type, rule = plan.rule, "a command is permitted: {what}");
                Ok(plan)
            }
            (Err(refusal), _) => {
                let Refusal { error, .. } = &refusal;
                tracing::info!(id, command_type, code = ?error.code, "a command is refused: {what}: {error}");
                Err(refusal.error)
            }
        }
    }

    /// A command that came before gets the answer of then, and a line in the audit.
    pub(super) fn note_repetition(&mut self, entry: audit::Command, answered: bool) {
        let Recorded { event, .. } = self.audit.repeated(clock::now(), entry, answered);
        self.events.extend(event);
    }

    /// Refuses what came out of its time, for another process of the agent, in the wrong shape or at the agent's end. Gives the answer,
    /// where the host waits for one.
    pub fn refuse(&mut self, unheard: Unheard, code: ErrorCode, sentence: String) -> Option<Answer> {
        let error = CommandError::new(code, sentence);
        for entry in unheard.entries {
            self.write_refusal(entry, code);
        }
        Some(refused(unheard.command?, error))
    }

    fn write_refusal(&mut self, entry: audit::Command, code: ErrorCode) {
        let decision = audit::Decision { allowed: false, rule: "", error_code: Some(code) };
        let Recorded { event, .. } = self.audit.decided(clock::now(), entry, &decision);
        self.events.extend(event);
    }
}
