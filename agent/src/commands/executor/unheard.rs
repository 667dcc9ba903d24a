//! Commands that are refused before anybody looks at what they ask for.

use infini_protocol::host::{CommandName, HostMessage};

use super::{Work, entries};
use crate::commands::audit;

/// A command, or scripts, that came out of their time, for another process of the agent, at its end, or cannot be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unheard {
    /// What the answer carries; absent where nobody waits for one.
    pub command: Option<CommandName>,
    /// What the audit has of it.
    pub entries: Vec<audit::Command>,
}

impl Unheard {
    /// That of a payload which may be no message at all.
    #[must_use]
    pub fn in_payload(payload: &[u8]) -> Self {
        match HostMessage::parse(payload) {
            Ok(message) => Self::in_message(message),
            Err(_) => Self {
                command: HostMessage::command(payload),
                entries: entries::of_unreadable(payload).into_iter().collect(),
            },
        }
    }

    /// That of a message; none where it asks for nothing to be run.
    #[must_use]
    pub fn in_message(message: HostMessage) -> Self {
        match message {
            HostMessage::SafeCommand(command) => Self::work(&Work::Safe(command)),
            HostMessage::UnsafeCommand(command) => Self::work(&Work::Raw(command)),
            HostMessage::PendingScriptsResponse(answer) => {
                Self { command: None, entries: answer.scripts.iter().map(entries::of_script).collect() }
            }
            _ => Self::default(),
        }
    }

    /// A command that could be run.
    #[must_use]
    pub fn work(work: &Work) -> Self {
        Self { command: Some(work.name()), entries: vec![entries::of_work(work)] }
    }
}
