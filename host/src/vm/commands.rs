use std::time::Duration;

use infini_protocol::agent::{Handshake, Response};
use infini_protocol::host::{Action, HostMessage, SafeCommand, Timeout, UnsafeCommand};
use tokio::sync::oneshot;

use super::{ANSWER_GRACE, RequestError};
use crate::link::random_name;
use crate::pending::Pending;

/// The longest time that an agent gives a command by itself: packages, updates and images have half an hour.
const LONGEST_DEFAULT: Duration = Duration::from_secs(30 * 60);

/// A command under an id of its own, ready to be run by [`super::Vm::run`].
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    pub(super) id: String,
    pub(super) message: HostMessage,
    pub(super) patience: Duration,
}

impl Command {
    /// An action with structured parameters. Without a limit it gets the agent's own time for it, at most half an hour.
    ///
    /// # Errors
    /// Where the system has no random numbers for the id.
    pub fn safe(action: Action, limit: Option<Duration>) -> Result<Self, RequestError> {
        let id = random_name()?;
        let command = SafeCommand { id: id.clone(), command_type: action, params: None, timeout: timeout(limit) };
        Ok(Self { id, message: HostMessage::SafeCommand(command), patience: patience(limit) })
    }

    /// A raw command as the caller describes it; its `id` and `timeout` are replaced.
    ///
    /// # Errors
    /// As with [`Command::safe`].
    pub fn raw(command: UnsafeCommand, limit: Option<Duration>) -> Result<Self, RequestError> {
        let id = random_name()?;
        let command = UnsafeCommand { id: id.clone(), timeout: timeout(limit), ..command };
        Ok(Self { id, message: HostMessage::UnsafeCommand(command), patience: patience(limit) })
    }

    /// The id that its answer carries.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

fn timeout(limit: Option<Duration>) -> Option<Timeout> {
    limit.map(|limit| Timeout::from_secs(limit.as_secs().max(1)))
}

/// The agent answers before its deadline; the rest is the way.
fn patience(limit: Option<Duration>) -> Duration {
    limit.unwrap_or(LONGEST_DEFAULT) + ANSWER_GRACE
}

/// Who waits for an answer.
pub type Waiter = oneshot::Sender<Result<Response, RequestError>>;

/// What was sent and is not answered.
#[derive(Debug)]
struct Asked {
    id: String,
    message: HostMessage,
    /// The guest's boot in which it was sent. The agent knows the ids of one boot: only in the same one does it run no id twice.
    boot: Option<String>,
    cancelled: bool,
}

/// The commands that were sent and are not answered, in the order in which they were.
#[derive(Debug)]
pub struct Commands {
    waiters: Pending<String, Result<Response, RequestError>>,
    asked: Vec<Asked>,
}

impl Commands {
    pub fn new() -> Self {
        Self { waiters: Pending::new(), asked: Vec::new() }
    }

    /// Whether somebody waits for an answer.
    pub fn is_waiting(&self) -> bool {
        self.asked.iter().any(|asked| self.waiters.is_waiting(&asked.id))
    }

    /// Remembers what was sent and who waits; gives the waiter back where too many do already.
    pub fn insert(&mut self, command: Command, boot: Option<String>, waiter: Waiter) -> Result<(), Waiter> {
        self.waiters.insert(command.id.clone(), waiter)?;
        self.prune();
        self.asked.push(Asked { id: command.id, message: command.message, boot, cancelled: false });
        Ok(())
    }

    /// Hands an answer on; `false` where nobody waits for it (any more).
    pub fn answer(&mut self, response: Response) -> bool {
        let id = response.id.clone();
        self.asked.retain(|asked| asked.id != id);
        self.waiters.answer(&id, Ok(response))
    }

    /// Notes that a command is taken back; `false` where nobody waits for it.
    pub fn cancel(&mut self, id: &str) -> bool {
        let Some(asked) = self.asked.iter_mut().find(|asked| asked.id == id) else { return false };
        asked.cancelled = true;
        true
    }

    /// What to send to an agent that may not have got it, or whose answer was lost on the way: the same ids once more. Whoever
    /// waits for an answer of an earlier boot is told that there will be none.
    pub fn again(&mut self, handshake: &Handshake) -> Vec<(HostMessage, Option<String>)> {
        self.prune();
        let same_boot = |asked: &Asked| asked.boot.as_deref() == Some(handshake.boot_id.as_str());
        for asked in self.asked.extract_if(.., |asked| asked.boot.is_some() && !same_boot(asked)) {
            self.waiters.answer(&asked.id, Err(RequestError::Rebooted));
        }
        let same = self.asked.iter().filter(|asked| same_boot(asked));
        same.map(|asked| (asked.message.clone(), asked.cancelled.then(|| asked.id.clone()))).collect()
    }

    fn prune(&mut self) {
        self.asked.retain(|asked| self.waiters.is_waiting(&asked.id));
    }
}
