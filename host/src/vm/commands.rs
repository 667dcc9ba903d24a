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

    /// The same command under this id, which no other command of the guest's boot may have. A command whose end is not known is sent
    /// again like this: what has run under its id does not run a second time.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        match &mut self.message {
            HostMessage::SafeCommand(command) => command.id.clone_from(&self.id),
            HostMessage::UnsafeCommand(command) => command.id.clone_from(&self.id),
            _ => {}
        }
        self
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
    /// The guest's boot that was known last when it was sent. The agent knows the ids of one boot: only where it is still the same one
    /// does it run no id twice.
    boot: Option<String>,
    /// It was sent in this connection, in which the agent has not introduced itself yet.
    is_early: bool,
    cancelled: bool,
}

impl Asked {
    /// What was sent early may have been sent in either boot, and is still to be waited for.
    fn is_of_another_boot(&self, here: &str) -> bool {
        !self.is_early && self.boot.as_deref().is_some_and(|boot| boot != here)
    }

    /// The same once more, and its id where it is to be taken back. An agent that introduces itself reads what was sent early in its
    /// connection, unless one that has ended since has read it; and what was sent in a boot that nobody knows is not sent twice.
    fn again(&mut self, here: &str, is_new: bool) -> Option<(HostMessage, Option<String>)> {
        let is_on_its_way = std::mem::take(&mut self.is_early);
        let is_same_boot = self.boot.as_deref() == Some(here);
        if is_on_its_way {
            self.boot = Some(here.to_owned());
        }
        let is_due = is_same_boot && (is_new || !is_on_its_way);
        is_due.then(|| (self.message.clone(), self.cancelled.then(|| self.id.clone())))
    }
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

    /// Remembers what was sent and who waits; gives the waiter back where too many do already. `is_early` is what was sent before the
    /// handshake of its connection: `boot` is then that of an earlier one.
    pub fn insert(
        &mut self,
        command: Command,
        boot: Option<String>,
        is_early: bool,
        waiter: Waiter,
    ) -> Result<(), Waiter> {
        self.waiters.insert(command.id.clone(), waiter)?;
        self.prune();
        self.asked.retain(|asked| asked.id != command.id);
        self.asked.push(Asked { id: command.id, message: command.message, boot, is_early, cancelled: false });
        Ok(())
    }

    /// Nothing that was sent is on its way any more: the connection is a new one, or the agent has refused what came before its handshake.
    pub fn may_be_lost(&mut self) {
        self.asked.iter_mut().for_each(|asked| asked.is_early = false);
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
    /// waits for an answer of an earlier boot is told that there will be none. `is_new` is an agent that was started anew.
    pub fn again(&mut self, handshake: &Handshake, is_new: bool) -> Vec<(HostMessage, Option<String>)> {
        self.prune();
        let here = handshake.boot_id.as_str();
        for asked in self.asked.extract_if(.., |asked| asked.is_of_another_boot(here)) {
            self.waiters.answer(&asked.id, Err(RequestError::Rebooted));
        }
        self.asked.iter_mut().filter_map(|asked| asked.again(here, is_new)).collect()
    }

    fn prune(&mut self) {
        self.asked.retain(|asked| self.waiters.is_waiting(&asked.id));
    }
}
