//! How a command has the agent take no others, and in the end write nothing down any more. The command asks; the loop, which owns all
//! that, does it.

use infini_protocol::ErrorCode;
use tokio::sync::{mpsc, oneshot};

use super::outcome::CommandError;

/// The end that commands have.
#[derive(Clone, Debug)]
pub struct Intake(mpsc::UnboundedSender<Request>);

/// The loop's end.
#[derive(Debug)]
pub struct Requests(mpsc::UnboundedReceiver<Request>);

/// What is asked of the loop: a few times in a command, so nothing has to bound them.
#[derive(Debug)]
pub enum Request {
    /// No command is taken any more. The answer comes once none runs but the one that asks.
    Close(oneshot::Sender<Result<Closed, CommandError>>),
    /// Commands are taken again, unless [`Request::Forget`] came before.
    Open,
    /// Nothing is written into the agent's own files any more, as long as this process lives. Then the answer comes.
    Forget(oneshot::Sender<()>),
}

/// While this is held no other command is taken. Dropping it opens the intake again, unless the agent was to forget.
#[derive(Debug)]
pub struct Closed(Intake);

/// Both ends.
#[must_use]
pub fn channel() -> (Intake, Requests) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Intake(sender), Requests(receiver))
}

impl Intake {
    /// Has no other command be taken, and waits until none runs.
    ///
    /// # Errors
    /// `SHUTTING_DOWN` where another command has closed the intake, or the agent ends.
    pub async fn close(&self) -> Result<Closed, CommandError> {
        let (answer, closed) = oneshot::channel();
        self.0.send(Request::Close(answer)).map_err(|_| agent_ends())?;
        closed.await.map_err(|_| agent_ends())?
    }

    /// For the loop to hand out.
    pub fn closed(&self) -> Closed {
        Closed(self.clone())
    }
}

impl Closed {
    /// Has the agent write nothing into its own files any more.
    ///
    /// # Errors
    /// `SHUTTING_DOWN` where the agent ends.
    pub async fn forget(&self) -> Result<(), CommandError> {
        let (answer, forgotten) = oneshot::channel();
        self.0.0.send(Request::Forget(answer)).map_err(|_| agent_ends())?;
        forgotten.await.map_err(|_| agent_ends())
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        // Where nobody listens the agent ends.
        self.0.0.send(Request::Open).ok();
    }
}

impl Requests {
    /// The next one. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Request {
        match self.0.recv().await {
            Some(request) => request,
            None => std::future::pending().await,
        }
    }
}

fn agent_ends() -> CommandError {
    CommandError::new(ErrorCode::ShuttingDown, "the agent ends")
}
