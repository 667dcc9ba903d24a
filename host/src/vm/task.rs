mod requests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use infini_protocol::agent::{AgentBody, AgentMessage, ErrorMessage, Handshake};
use infini_protocol::metrics::MetricsData;
use infini_protocol::{ErrorCode, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use super::commands::Commands;
use super::events::Teller;
use super::{Disconnection, Endpoint, Request, RequestError, Requests, Sample, Status, VmEvent, VmState};
use crate::link::{Incoming, Link, host_now, random_name};
use crate::pending::Pending;

/// The first pause before another attempt; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause. Connecting to a local socket costs next to nothing, and a machine that starts should be seen soon.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A connection on which not one byte has come for this long is given up for a new one. It happens that a guest's kernel misses the
/// notice that this host is there and then writes nothing; a new connection brings a new notice. An agent that is merely down costs
/// a connection now and then: each silent one is waited on twice as long as the one before.
const FIRST_SILENCE: Duration = Duration::from_secs(6);

/// The longest wait on a silent connection.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// How far the guest's clock may move before a refused line is worth signing again.
const CLOCK_MOVED_MS: u64 = 1_000;

/// Follows a machine until no handle is left.
pub async fn run(
    endpoint: Endpoint,
    requests: mpsc::Receiver<Request>,
    publish: watch::Sender<Arc<Status>>,
    events: Teller,
) {
    let link = Link::new(&endpoint.socket, endpoint.key.clone());
    // Numbers of an earlier host, whose answers may still wait in the port, must not look like this one's. Version 1 does not say how
    // large they may be: this leaves room even in 32 bits.
    let first_sequence = || Ok(u64::from(getrandom::u32()? >> 1));
    let (link, session, sequence) = match link.and_then(|link| Ok((link, random_name()?, first_sequence()?))) {
        Ok(made) => made,
        Err(error) => {
            let failure = Disconnection { kind: io::ErrorKind::Other, why: format!("no random numbers: {error}") };
            publish.send_modify(|status| Arc::make_mut(status).disconnected(failure));
            return;
        }
    };
    let task = Task {
        link,
        session,
        endpoint,
        requests,
        publish,
        events,
        status: Status::default(),
        commands: Commands::new(),
        send_again: false,
        keep_alives: Pending::new(),
        sequence,
        sequence_before: sequence,
        next_ask: None,
        asked: None,
        asked_offset: None,
        accepted_lines: 0,
        doubtful_lines: 0,
        silence: FIRST_SILENCE,
    };
    task.run().await;
}

struct Task {
    link: Link,
    /// Names this start of the host side in `hello`.
    session: String,
    endpoint: Endpoint,
    requests: mpsc::Receiver<Request>,
    publish: watch::Sender<Arc<Status>>,
    events: Teller,
    status: Status,
    commands: Commands,
    /// Whether this connection has not seen a handshake yet: what is not answered goes out again after it.
    send_again: bool,
    keep_alives: Pending<u64, Result<(), RequestError>>,
    sequence: u64,
    /// The last number before this connection.
    sequence_before: u64,
    /// When to ask for a sample, while connected and refreshing.
    next_ask: Option<Instant>,
    /// When a sample was asked for last.
    asked: Option<Instant>,
    /// What was believed of the guest's clock when it was asked last.
    asked_offset: Option<i64>,
    /// How many lines had been signed when the agent last showed that it takes them, or began.
    accepted_lines: u64,
    /// How many lines, signed before the guest's clock was known, may still be refused for it.
    doubtful_lines: u64,
    /// How long the next silent connection is waited on.
    silence: Duration,
}

/// No handle is left.
struct Closed;

/// How a connection ended.
enum End {
    /// It broke, or the other end closed it.
    Lost(io::Error),
    /// Nothing came; a new one may fare better.
    Silent,
}

impl Task {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let failure = match self.link.connect().await {
                Ok(()) => match self.serve().await {
                    // The machine is there all the same, so nobody is told that it is not.
                    Ok(End::Silent) => continue,
                    Ok(End::Lost(failure)) => {
                        // A machine that spoke just now is missed at once; one that stays away is not.
                        if self.status.heard_bytes > 0 {
                            pause = FIRST_PAUSE;
                        }
                        failure
                    }
                    Err(Closed) => return,
                },
                Err(error) => error,
            };
            self.disconnected(&failure);
            if let Err(Closed) = self.rest(pause).await {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One connection, until it ends.
    async fn serve(&mut self) -> Result<End, Closed> {
        self.turn(|status, _| status.connected());
        self.sequence_before = self.sequence;
        self.send_again = true;
        self.commands.may_be_lost();
        self.greet();
        self.publish();
        let give_up_at = Instant::now() + self.silence;
        loop {
            let (stale_at, ask_at) = (self.status.stale_at(self.endpoint.interval), self.next_ask);
            // Without a key, or with nothing asked, there is nothing that a silent agent would have to answer.
            let asked = self.asked.is_some() || self.commands.is_waiting();
            let owes_answer = self.endpoint.key.is_some() && asked && self.status.heard_bytes == 0;
            let silent_until = owes_answer.then_some(give_up_at);
            tokio::select! {
                incoming = self.link.next() => match incoming {
                    Ok(incoming) => self.take(incoming),
                    Err(error) => return Ok(End::Lost(error)),
                },
                request = self.requests.recv() => self.handle(request.ok_or(Closed)?),
                () = until(ask_at) => self.ask(),
                () = until(silent_until) => {
                    self.silence = (self.silence * 2).min(LONGEST_SILENCE);
                    return Ok(End::Silent);
                }
                () = until(stale_at) => self.turn(|status, interval| status.tick(Instant::now(), interval)),
            }
            self.publish();
            // A guest that never stops sending is always ready to be read; whoever watches it must get a turn all the same.
            yield_now().await;
        }
    }

    /// Waits before the next attempt; who asks for something meanwhile is told that there is no connection.
    async fn rest(&mut self, pause: Duration) -> Result<(), Closed> {
        let end = Instant::now() + pause;
        loop {
            tokio::select! {
                () = sleep_until(end) => return Ok(()),
                request = self.requests.recv() => self.handle(request.ok_or(Closed)?),
            }
        }
    }

    fn disconnected(&mut self, failure: &io::Error) {
        let was = self.status.state;
        self.next_ask = None;
        self.status.disconnected(explain(failure));
        if was != VmState::Absent {
            self.events.tell(VmEvent::State(VmState::Absent), 0);
        }
        self.publish();
    }

    fn take(&mut self, incoming: Incoming) {
        self.status.heard_bytes = self.link.heard_bytes();
        self.silence = FIRST_SILENCE;
        let (event, bytes) = match incoming {
            Incoming::Message { message, bytes } => {
                self.status.clock_offset_ms = self.link.clock().offset_ms();
                self.turn(|status, _| status.heard(Instant::now()));
                (self.message(*message), bytes)
            }
            Incoming::Invalid(reason) => (self.bad_line(reason), 0),
            Incoming::TooLong { bytes } => (self.bad_line(format!("a line of {bytes} bytes is over the limit")), 0),
        };
        if let Some(event) = event {
            self.events.tell(event, bytes);
        }
    }

    fn message(&mut self, AgentMessage { timestamp, body }: AgentMessage) -> Option<VmEvent> {
        Some(match body {
            AgentBody::Handshake(handshake) => self.introduced(handshake),
            AgentBody::Metrics(metrics) => self.sampled(timestamp, metrics.data),
            AgentBody::Response(response) => {
                if self.commands.answer(*response) {
                    self.taken();
                    return None;
                }
                VmEvent::UnexpectedAnswer
            }
            AgentBody::KeepAlive(answer) => {
                let number = answer.sequence_number;
                let asked_here = (self.sequence_before + 1..=self.sequence).contains(&number);
                if asked_here {
                    self.taken();
                }
                if self.keep_alives.answer(&number, Ok(())) || asked_here {
                    return None;
                }
                VmEvent::UnexpectedAnswer
            }
            AgentBody::Error(error) => self.refused(error),
            AgentBody::ErrorReport(report) => VmEvent::ErrorReport(report),
            AgentBody::AgentEvent(event) => VmEvent::Agent(event),
            AgentBody::RequestPendingScripts(_) => VmEvent::ScriptsWanted,
            AgentBody::ScriptCompletion(completion) => VmEvent::ScriptEnded(Arc::new(completion)),
        })
    }

    fn introduced(&mut self, handshake: Handshake) -> VmEvent {
        self.status.wrong_vm_id = match &self.endpoint.vm_id {
            Some(expected) if *expected != handshake.vm_id => {
                let told = handshake.vm_id.clone();
                self.events.tell(VmEvent::WrongVmId { expected: expected.clone(), told: told.clone() }, 0);
                Some(told)
            }
            _ => None,
        };
        let handshake = Arc::new(handshake);
        let before = self.status.handshake.replace(Arc::clone(&handshake));
        let another = before.is_some_and(|before| before.session_id != handshake.session_id);
        let is_first = std::mem::take(&mut self.send_again);
        if is_first || another {
            self.send_again(&handshake, another);
        }
        if another {
            self.accepted_lines = self.link.signed_lines();
        }
        // What the agent before this one was asked for went with it; and an agent that sees only now that the host before this one is gone
        // may have taken the first lines of this one for that one's, and thrown away their answers.
        let may_be_lost = another || is_first && self.status.requests != Requests::Taken;
        if may_be_lost && self.endpoint.refresh.is_some() {
            self.ask();
        }
        VmEvent::Handshake(handshake)
    }

    /// The agent answered what only it could have been asked for.
    fn taken(&mut self) {
        self.status.requests = Requests::Taken;
        self.accepted_lines = self.link.signed_lines();
    }

    fn sampled(&mut self, timestamp: Timestamp, data: MetricsData) -> VmEvent {
        let sample = Arc::new(Sample { timestamp, received: host_now(), data });
        self.status.sample = Some(Arc::clone(&sample));
        self.status.counters.samples += 1;
        if let (Some(refresh), Some(asked)) = (self.endpoint.refresh, self.asked) {
            self.next_ask = Some((asked + refresh).max(Instant::now()));
        }
        VmEvent::Metrics(sample)
    }

    /// The agent could not use a line of this host. Where that may be the clock's fault, which is known better now, everything is said
    /// again, and what was said before is refused in vain.
    fn refused(&mut self, error: ErrorMessage) -> VmEvent {
        let offset = self.link.clock().offset_ms().unwrap_or(0);
        let moved = offset.abs_diff(self.asked_offset.unwrap_or(0)) > CLOCK_MOVED_MS;
        let is_refusal = error.details.error_code == ErrorCode::AuthFailed;
        if is_refusal && moved {
            self.asked_offset = Some(offset);
            self.doubtful_lines = self.link.signed_lines() - self.accepted_lines;
            self.send_again = true;
            self.commands.may_be_lost();
            self.greet();
        }
        if is_refusal && self.doubtful_lines > 0 {
            let told_of = error.details.dropped.unwrap_or(0).saturating_add(1);
            self.doubtful_lines = self.doubtful_lines.saturating_sub(told_of);
        } else {
            self.status.complaint = Some(Arc::new(error.clone()));
        }
        VmEvent::Error(error)
    }

    fn bad_line(&mut self, reason: String) -> Option<VmEvent> {
        self.status.counters.bad_lines += 1;
        Some(VmEvent::InvalidLine(reason))
    }

    /// Changes the status and tells if that changed the state.
    fn turn(&mut self, change: impl FnOnce(&mut Status, Duration)) {
        let was = self.status.state;
        change(&mut self.status, self.endpoint.interval);
        if self.status.state != was {
            self.events.tell(VmEvent::State(self.status.state), 0);
        }
    }

    fn publish(&self) {
        self.publish.send_replace(Arc::new(self.status.clone()));
    }
}

/// Waits until then, or for ever.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What a failed connection means.
fn explain(error: &io::Error) -> Disconnection {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "there is no such socket; is the virtual machine running?".to_owned(),
        io::ErrorKind::ConnectionRefused => {
            "nobody listens on the socket; the virtual machine that made it is gone".to_owned()
        }
        io::ErrorKind::PermissionDenied => "no permission to connect to the socket; try as root".to_owned(),
        io::ErrorKind::UnexpectedEof => "the virtual machine closed the socket".to_owned(),
        _ => error.to_string(),
    };
    Disconnection { kind: error.kind(), why }
}
