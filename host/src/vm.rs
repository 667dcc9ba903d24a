//! One virtual machine as the host sees it.
//!
//! [`Vm::follow`] starts a task that owns the connection. It connects, comes back with a backoff when the socket goes away, and
//! publishes a [`Status`] whenever something changed. Dropping the last [`Vm`] ends the task.

mod commands;
mod events;
mod status;
mod task;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use infini_protocol::Timestamp;
use infini_protocol::agent::{AgentEvent, ErrorMessage, ErrorReport, Handshake, Response, ScriptCompletion};
use infini_protocol::envelope::Key;
use infini_protocol::host::{Action, HostMessage, UnsafeCommand};
use infini_protocol::metrics::MetricsData;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::link::SendError;
pub use commands::Command;
pub use events::Events;
use events::{Listeners, Teller};
pub use status::{ANSWER_TIME, Counters, Disconnection, Requests, Status, VmState};

/// How long the answer to a command may be late: the agent answers before its deadline, the rest is the way.
const ANSWER_GRACE: Duration = Duration::from_secs(5);

/// Where a machine's agent is reached and what belongs to that place.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The socket of the QEMU character device.
    pub socket: PathBuf,
    /// Who should be there; compared with what the guest says, never replaced by it.
    pub vm_id: Option<String>,
    /// The machine's secret; without it the host can only listen.
    pub key: Option<Key>,
    /// How often samples are expected: the agent's own interval, or that of `refresh`. Nothing for three of them is stale.
    pub interval: Duration,
    /// Ask for a sample this often; `None` waits for the agent's own.
    pub refresh: Option<Duration>,
}

impl Endpoint {
    /// An endpoint that only listens, at the agent's own 30 s.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), vm_id: None, key: None, interval: Duration::from_secs(30), refresh: None }
    }

    /// With the secret that belongs to the socket.
    #[must_use]
    pub fn with_key(self, key: Key) -> Self {
        Self { key: Some(key), ..self }
    }

    /// With the identity that belongs to the socket.
    #[must_use]
    pub fn with_vm_id(self, vm_id: impl Into<String>) -> Self {
        Self { vm_id: Some(vm_id.into()), ..self }
    }

    /// Asks for a sample that often, where there is a key to ask with.
    #[must_use]
    pub fn refreshed_every(self, interval: Duration) -> Self {
        if self.key.is_none() {
            return self;
        }
        Self { refresh: Some(interval), interval, ..self }
    }
}

/// One sample, when it was taken and when it came.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// The guest's clock when the sample was sent.
    pub timestamp: Timestamp,
    /// The host's clock when it came.
    pub received: Timestamp,
    /// What was measured; what could not be is absent and named in `errors`.
    pub data: MetricsData,
}

/// Something that happened. Texts in here are as the guest wrote them: [`crate::sanitize`] before they reach a terminal.
#[derive(Clone, Debug)]
pub enum VmEvent {
    /// The machine's state changed.
    State(VmState),
    /// The agent introduced itself.
    Handshake(Arc<Handshake>),
    /// A sample came.
    Metrics(Arc<Sample>),
    /// The agent could not use a line of this host.
    Error(ErrorMessage),
    /// A communication error of the agent that is over.
    ErrorReport(ErrorReport),
    /// Something happened in the agent.
    Agent(AgentEvent),
    /// The guest's `vm_id` is not the one that belongs to the socket.
    WrongVmId {
        /// What belongs to the socket.
        expected: String,
        /// What the guest says.
        told: String,
    },
    /// A line that is no message; the reason is fit for a terminal.
    InvalidLine(String),
    /// An answer that nobody here waits for.
    UnexpectedAnswer,
    /// The agent asks for the scripts that wait for it.
    ScriptsWanted,
    /// A script ended.
    ScriptEnded(Arc<ScriptCompletion>),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It could not be sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Too many questions are open.
    #[error("too many requests wait for this machine already")]
    TooMany,
    /// Nothing came in time. A command may have run all the same.
    #[error("the agent did not answer within {} s", .0.as_secs())]
    NoAnswer(Duration),
    /// The guest was started anew before it answered. The command may have run.
    #[error("the guest was started anew before it answered")]
    Rebooted,
    /// The agent does not name `cancel` among what it can do.
    #[error("this agent cannot take a command back")]
    CannotCancel,
    /// The task that follows the machine has ended.
    #[error("the machine is not followed any more")]
    Closed,
    /// The system has no random numbers.
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

/// A machine that is followed. Clones share the task.
#[derive(Clone, Debug)]
pub struct Vm {
    requests: mpsc::Sender<Request>,
    status: watch::Receiver<Arc<Status>>,
    listeners: Listeners,
}

/// What a handle asks of the task.
#[derive(Debug)]
enum Request {
    /// Send; the answer says whether it was queued.
    Send(HostMessage, oneshot::Sender<Result<(), SendError>>),
    /// Send and hand the `response` of this id over.
    Command(Command, oneshot::Sender<Result<Response, RequestError>>),
    /// Take the command of this id back.
    Cancel(String, oneshot::Sender<Result<(), RequestError>>),
    /// Send a `keep_alive_request` and say when its answer came.
    KeepAlive(oneshot::Sender<Result<(), RequestError>>),
}

impl Vm {
    /// Starts following a machine; needs a Tokio runtime. The machine is absent until the first connection.
    #[must_use]
    pub fn follow(endpoint: Endpoint) -> Self {
        let (requests, inbox) = mpsc::channel(16);
        let (publish, status) = watch::channel(Arc::new(Status::default()));
        let events = Teller::new();
        let listeners = events.listeners();
        tokio::spawn(task::run(endpoint, inbox, publish, events));
        Self { requests, status, listeners }
    }

    /// What is known now.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status.borrow())
    }

    /// Waits until what is known changes, and gives it.
    ///
    /// # Errors
    /// Where the task has ended.
    pub async fn changed(&mut self) -> Result<Arc<Status>, RequestError> {
        self.status.changed().await.map_err(|_| RequestError::Closed)?;
        Ok(Arc::clone(&self.status.borrow_and_update()))
    }

    /// Waits until what is known fulfils a condition, and gives it.
    ///
    /// # Errors
    /// Where the task has ended.
    pub async fn wait_for(&self, condition: impl FnMut(&Arc<Status>) -> bool) -> Result<Arc<Status>, RequestError> {
        let mut status = self.status.clone();
        let found = status.wait_for(condition).await.map_err(|_| RequestError::Closed)?;
        Ok(Arc::clone(&found))
    }

    /// Everything that happens from now on. A listener that is 256 events or 8 MiB behind loses the oldest and is told so.
    #[must_use]
    pub fn events(&self) -> Events {
        self.listeners.add()
    }

    /// Sends any message; done when it is queued.
    ///
    /// # Errors
    /// Where it cannot be signed or queued, or the task has ended.
    pub async fn send(&self, message: HostMessage) -> Result<(), RequestError> {
        let (sender, receiver) = oneshot::channel();
        self.request(Request::Send(message, sender)).await?;
        Ok(receiver.await.map_err(|_| RequestError::Closed)??)
    }

    /// Asks for a sample and waits for the next one, for as long as the caller lets it.
    ///
    /// # Errors
    /// Where it cannot be asked for.
    pub async fn sample(&self) -> Result<Arc<Sample>, RequestError> {
        let mut events = self.events();
        self.wait_for(|status| status.state != VmState::Absent).await?;
        self.send(HostMessage::Metrics {}).await?;
        loop {
            match events.recv().await {
                Ok(VmEvent::Metrics(sample)) => return Ok(sample),
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Err(RequestError::Closed),
            }
        }
    }

    /// Runs a safe command and waits for its one answer, a little longer than `limit`.
    ///
    /// # Errors
    /// As with [`Vm::run`].
    pub async fn command(&self, action: Action, limit: Duration) -> Result<Response, RequestError> {
        self.run(Command::safe(action, Some(limit))?).await
    }

    /// Runs a raw command as the caller describes it, under an id of its own, and waits a little longer than `limit`.
    ///
    /// # Errors
    /// As with [`Vm::run`].
    pub async fn raw_command(&self, command: UnsafeCommand, limit: Duration) -> Result<Response, RequestError> {
        self.run(Command::raw(command, Some(limit))?).await
    }

    /// Runs a command and waits for its one answer, a little longer than the command's time. Where the connection breaks or the
    /// agent is started anew meanwhile, the command is sent again under its id, which the agent runs once in a boot.
    ///
    /// # Errors
    /// Where it cannot be sent or is not answered. A command that failed is an answer, not an error.
    pub async fn run(&self, command: Command) -> Result<Response, RequestError> {
        let patience = command.patience;
        let (sender, receiver) = oneshot::channel();
        self.request(Request::Command(command, sender)).await?;
        wait(receiver, patience).await
    }

    /// Takes a command back that [`Vm::run`] waits for; the answer still comes there. Done when it is queued.
    ///
    /// # Errors
    /// Where the agent cannot do that, or it cannot be sent.
    pub async fn cancel(&self, id: &str) -> Result<(), RequestError> {
        let (sender, receiver) = oneshot::channel();
        self.request(Request::Cancel(id.to_owned(), sender)).await?;
        receiver.await.map_err(|_| RequestError::Closed)?
    }

    /// Asks the agent whether it is alive and waits for the answer.
    ///
    /// # Errors
    /// Where it cannot be asked or does not answer within `limit`.
    pub async fn keep_alive(&self, limit: Duration) -> Result<(), RequestError> {
        let (sender, receiver) = oneshot::channel();
        self.request(Request::KeepAlive(sender)).await?;
        wait(receiver, limit).await
    }

    async fn request(&self, request: Request) -> Result<(), RequestError> {
        self.requests.send(request).await.map_err(|_| RequestError::Closed)
    }
}

async fn wait<T>(answer: oneshot::Receiver<Result<T, RequestError>>, limit: Duration) -> Result<T, RequestError> {
    match timeout(limit, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(RequestError::Closed),
        Err(_) => Err(RequestError::NoAnswer(limit)),
    }
}
