//! Whether commands are taken.

use infini_protocol::ErrorCode;
use tokio::sync::oneshot;

use super::{Answer, CommandExecutor};
use crate::commands::intake::{self, Closed};
use crate::commands::outcome::CommandError;

/// Whoever closes it hears of it here.
type Asking = oneshot::Sender<Result<Closed, CommandError>>;

const CLOSED: &str = "this machine is being made into a golden image; until that is over no other command is taken";
const FORGOTTEN: &str =
    "this machine was made into a golden image; no command is taken until the agent is started again";

/// See the module.
#[derive(Debug, Default)]
pub enum Gate {
    /// They are.
    #[default]
    Open,
    /// They are not; whoever asked for that waits for those that still run.
    Closing(Asking),
    /// They are not, and one alone runs.
    Closed,
    /// They never will be, for as long as this process lives.
    Forgotten,
}

impl Gate {
    /// Why no command is taken; absent where they are.
    pub fn refusal(&mut self) -> Option<CommandError> {
        // A command that had to end while it waited has left the gate like this.
        if matches!(self, Self::Closing(asking) if asking.is_closed()) {
            *self = Self::Open;
        }
        match self {
            Self::Open => None,
            Self::Closing(_) | Self::Closed => Some(refused(CLOSED)),
            Self::Forgotten => Some(refused(FORGOTTEN)),
        }
    }

    /// Takes no more, for whoever asks; gives what to tell those who wait, where that is new.
    pub fn close(&mut self, asking: Asking) -> Option<CommandError> {
        if let Some(refusal) = self.refusal() {
            asking.send(Err(refusal)).ok();
            return None;
        }
        *self = Self::Closing(asking);
        Some(refused(CLOSED))
    }

    /// Tells whoever waits that nothing else runs. Where that one is gone, what it would have held is dropped, and that opens the gate.
    pub fn is_alone(&mut self, closed: impl FnOnce() -> Closed) {
        if matches!(self, Self::Closing(_))
            && let Self::Closing(asking) = std::mem::replace(self, Self::Closed)
        {
            asking.send(Ok(closed())).ok();
        }
    }

    /// Takes commands again.
    pub fn open(&mut self) {
        if !matches!(self, Self::Forgotten) {
            *self = Self::Open;
        }
    }

    /// Takes none any more.
    pub fn forget(&mut self) {
        *self = Self::Forgotten;
    }
}

impl CommandExecutor {
    /// What a command asks about the intake. Where that ends others, their answers come back.
    pub fn intake(&mut self, request: intake::Request) -> Vec<Answer> {
        match request {
            intake::Request::Close(asking) => match self.gate.close(asking) {
                Some(reason) => self.turn_away(&reason),
                None => Vec::new(),
            },
            intake::Request::Open => {
                self.gate.open();
                Vec::new()
            }
            intake::Request::Forget(done) => {
                self.gate.forget();
                self.ids.stop_writing();
                self.events.extend(self.audit.stop_writing());
                // Whoever asked may have had to end; what was stopped stays so.
                done.send(()).ok();
                Vec::new()
            }
        }
    }

    /// Who waits does not run any more, for this reason.
    fn turn_away(&mut self, reason: &CommandError) -> Vec<Answer> {
        let ended = self.dispatcher.turn_away(&reason.sentence);
        let answers = ended.into_iter().map(|ended| self.answer(ended)).collect();
        self.look_whether_alone();
        answers
    }

    /// Whoever has closed the intake waits for the others.
    pub(super) fn look_whether_alone(&mut self) {
        if self.dispatcher.running() <= 1 {
            let intake = &self.context.intake;
            self.gate.is_alone(|| intake.closed());
        }
    }
}

fn refused(sentence: &str) -> CommandError {
    CommandError::new(ErrorCode::ShuttingDown, sentence)
}
