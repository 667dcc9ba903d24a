//! What the agent does about everything that happens, decided without a clock and without I/O: the time is passed in, what to do
//! comes back as [`Effect`]s.
//!
//! ```text
//! Disconnected ── port opened ──▶ Connecting ── host attached ──▶ Connected ── first sample sent ──▶ Active
//!      ▲                             ▲  host detached from any of the three on the right ──┘  ▲         │ host does not read
//!      └──── port lost, from any ────┘                                                        └ Degraded ◀
//! ```
//! Stopping is entered from anywhere and never left.

mod input;
mod messages;
mod negotiation;

use std::time::{Duration, Instant};

use infini_protocol::agent::{AgentBody, ErrorReport, ErrorSeverity, KeepAlive, Metrics, RequestPendingScripts};
use infini_protocol::host::{HostMessage, Script};
use infini_protocol::metrics::MetricsData;
use infini_protocol::{ErrorCode, Timestamp};

use super::budget::{Admission, Budget};
use crate::commands::executor::{Command, Unheard, Work};
use crate::identity::Identity;
pub use input::{Heard, Input, Rejection, Trouble};
use messages::{MORE, REPLAY, SHUTTING_DOWN, clock_event, complaint, gap_event, misaddressed, not_negotiated};
use negotiation::Negotiation;
pub use negotiation::{CAPABILITIES, RAW_CAPABILITY};

/// How many `error` messages a minute a host gets.
const ERRORS_A_MINUTE: u32 = 100;

/// How many of them may say that a line was not believed; so many lines about it the audit file gets.
const AUTH_ERRORS_A_MINUTE: u32 = 1;

/// How many lines a minute the audit file gets about lines that are replays, or may be.
const REPLAYS_A_MINUTE: u32 = 1;

/// A tick that comes this much early still counts as due: timers are not exact, and a sample that waits for the next tick because
/// of a millisecond comes a whole interval late.
const TICK_TOLERANCE: Duration = Duration::from_millis(500);

/// Where the agent stands with its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// There is no port.
    Disconnected,
    /// A port is open; no host is at its other end, or none that may be spoken to.
    Connecting,
    /// A host is there and was greeted.
    Connected,
    /// Samples reach the host.
    Active,
    /// The host does not read what it is sent.
    Degraded,
    /// The agent ends.
    Stopping,
}

impl Phase {
    /// Whether there is a host that may be spoken to.
    #[must_use]
    pub const fn has_host(self) -> bool {
        matches!(self, Self::Connected | Self::Active | Self::Degraded)
    }

    /// For people, as a half sentence.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Disconnected => "looking for the port",
            Self::Connecting => "port open, waiting for the host",
            Self::Connected => "host attached",
            Self::Active => "sending samples to the host",
            Self::Degraded => "the host does not read what it is sent",
            Self::Stopping => "stopping",
        }
    }
}

/// Something to do.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Send what may not be lost, to the next host if need be.
    Answer(AgentBody),
    /// Send what only means something to the host that is there now, before anything else.
    Session(AgentBody),
    /// Send a sample.
    Sample(AgentBody),
    /// Write down that lines were not believed, where no flood can push it out.
    Audit {
        /// Why not.
        reason: String,
        /// How many like it came since this was last written down.
        dropped: u64,
    },
    /// Take a sample.
    Collect,
    /// Run a command, or say why not.
    Run(Box<Command>),
    /// Say why a command does not run, where the host waits for that, and write it down.
    Refuse {
        /// The command.
        unheard: Box<Unheard>,
        /// The word of the answer.
        code: ErrorCode,
        /// Its sentence.
        reason: String,
    },
    /// Run scripts, one after another.
    RunScripts(Vec<Script>),
    /// End a command early.
    Cancel(String),
}

/// The state and what decides about it.
#[derive(Debug)]
pub struct Machine {
    phase: Phase,
    identity: Identity,
    interval: Duration,
    next_sample: Instant,
    collecting: bool,
    attempts: u32,
    trouble: Option<Trouble>,
    scripts_answered: bool,
    negotiation: Negotiation,
    raw_is_permitted: bool,
    errors: Budget,
    auth_errors: Budget,
    replays: Budget,
}

impl Machine {
    /// A machine without a port that shall send a sample every `interval`.
    #[must_use]
    pub fn new(identity: Identity, interval: Duration, now: Instant) -> Self {
        Self {
            phase: Phase::Disconnected,
            identity,
            interval,
            next_sample: now,
            collecting: false,
            attempts: 0,
            trouble: None,
            scripts_answered: false,
            negotiation: Negotiation::default(),
            raw_is_permitted: false,
            errors: Budget::new(ERRORS_A_MINUTE),
            auth_errors: Budget::new(AUTH_ERRORS_A_MINUTE),
            replays: Budget::new(REPLAYS_A_MINUTE),
        }
    }

    /// Where the agent stands.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Samples come at another interval from now on.
    pub fn set_interval(&mut self, interval: Duration, now: Instant) {
        self.interval = interval;
        self.next_sample = self.next_sample.min(now + interval);
    }

    /// When the next regular sample is due; `None` while there is no host to read it.
    #[must_use]
    pub fn sample_due(&self) -> Option<Instant> {
        self.phase.has_host().then_some(self.next_sample)
    }

    /// The kernel's name for this boot.
    #[must_use]
    pub fn boot_id(&self) -> &str {
        &self.identity.boot_id
    }

    /// Raw commands are offered from the next handshake on, or not any more.
    pub fn permit_raw(&mut self, is_permitted: bool) {
        self.raw_is_permitted = is_permitted;
    }

    /// Whether the host has answered the question for pending scripts in this boot.
    #[must_use]
    pub const fn scripts_are_answered(&self) -> bool {
        self.scripts_answered
    }

    /// Whether it answered a process before this one.
    pub fn scripts_were_answered(&mut self, were_answered: bool) {
        self.scripts_answered = were_answered;
    }

    /// Decides. `wall` is only written into messages.
    pub fn on(&mut self, input: Input, now: Instant, wall: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::PortOpened => self.enter(Phase::Connecting),
            Input::HostAttached => self.host_attached(now, wall, &mut effects),
            Input::HostDetached => self.enter(Phase::Connecting),
            Input::PortLost(trouble) => {
                self.trouble = Some(trouble);
                self.attempts = 0;
                self.enter(Phase::Disconnected);
            }
            Input::PortUnavailable => {
                self.attempts = self.attempts.saturating_add(1);
                self.enter(Phase::Disconnected);
            }
            Input::Message(heard) => self.heard(*heard, now, wall, &mut effects),
            Input::Rejected(rejection) => self.rejected(rejection, now, &mut effects),
            Input::Sample { data, host_reads } => self.sample(data, host_reads, &mut effects),
            Input::SamplesDropped(count) => effects.push(Effect::Answer(gap_event(count))),
            Input::ClockSet if self.phase.has_host() => effects.push(Effect::Answer(clock_event())),
            Input::ClockSet => {}
            Input::NewGeneration { session_id } => self.new_generation(session_id, wall, &mut effects),
            Input::Tick => self.tick(now, &mut effects),
            Input::Stop => self.enter(Phase::Stopping),
        }
        effects
    }

    fn enter(&mut self, phase: Phase) {
        if self.phase != Phase::Stopping {
            self.phase = phase;
        }
    }

    fn host_attached(&mut self, now: Instant, wall: Timestamp, effects: &mut Vec<Effect>) {
        self.enter(Phase::Connected);
        if !self.phase.has_host() {
            return;
        }
        self.greet(wall, effects);
        if let Some(trouble) = self.trouble.take() {
            effects.push(Effect::Session(AgentBody::ErrorReport(ErrorReport {
                error_type: trouble.error_type,
                severity: ErrorSeverity::Recoverable,
                retry_attempt: std::mem::take(&mut self.attempts),
                max_retries: 0,
                recovery_suggestion: trouble.advice,
                vm_id: self.identity.vm_id.clone(),
                windows_error_code: None,
            })));
        }
        self.collect(effects);
        self.next_sample = now + self.interval;
    }

    /// What was agreed on was agreed on by another machine, and what is signed for its session may be a replay here.
    fn new_generation(&mut self, session_id: String, wall: Timestamp, effects: &mut Vec<Effect>) {
        self.identity.session_id = session_id;
        self.negotiation = Negotiation::default();
        if self.phase.has_host() {
            self.greet(wall, effects);
        }
    }

    fn greet(&self, wall: Timestamp, effects: &mut Vec<Effect>) {
        effects.push(Effect::Session(AgentBody::Handshake(self.identity.handshake(&self.capabilities()))));
        if !self.scripts_answered {
            effects.push(Effect::Session(AgentBody::RequestPendingScripts(RequestPendingScripts {
                vm_id: self.identity.vm_id.clone(),
                request_timestamp: wall,
            })));
        }
    }

    fn capabilities(&self) -> Vec<&'static str> {
        CAPABILITIES.iter().copied().chain(self.raw_is_permitted.then_some(RAW_CAPABILITY)).collect()
    }

    fn collect(&mut self, effects: &mut Vec<Effect>) {
        if !self.collecting {
            self.collecting = true;
            effects.push(Effect::Collect);
        }
    }

    /// A message of version 2 names the agent's process that it is for; another one's is refused whatever the clock says.
    fn heard(&mut self, heard: Heard, now: Instant, wall: Timestamp, effects: &mut Vec<Effect>) {
        let Heard { message, sessions, payload } = heard;
        let belongs = match &message {
            HostMessage::Hello(_) => Ok(()),
            _ => self.negotiation.heard(&sessions, &self.identity.session_id),
        };
        if let Err(not_for_us) = belongs {
            let unheard = Unheard::in_message(message);
            let reason = misaddressed(not_for_us).to_owned();
            return self.rejected(Rejection::Stale { unheard, reason }, now, effects);
        }
        let command = |work| Box::new(Command { payload, work });
        match message {
            HostMessage::Metrics {} => self.collect(effects),
            HostMessage::KeepAliveRequest(request) => {
                let sequence_number = request.sequence_number;
                effects.push(Effect::Session(AgentBody::KeepAlive(KeepAlive { sequence_number })));
            }
            HostMessage::Hello(hello) => {
                self.negotiation.hello(hello, &self.capabilities());
                self.greet(wall, effects);
            }
            HostMessage::HandshakeAck(ack) => self.negotiation.acknowledged(ack),
            HostMessage::PendingScriptsResponse(response) => {
                self.scripts_answered = true;
                if !response.scripts.is_empty() {
                    effects.push(Effect::RunScripts(response.scripts));
                }
            }
            HostMessage::SafeCommand(safe) => effects.push(self.run(command(Work::Safe(safe)))),
            HostMessage::UnsafeCommand(raw) => effects.push(self.run(command(Work::Raw(raw)))),
            HostMessage::Cancel(cancel) if self.negotiation.is_on("cancel") => effects.push(Effect::Cancel(cancel.id)),
            HostMessage::Cancel(_) => {
                effects.extend(self.complain(1, now, |dropped| not_negotiated("cancel", dropped)))
            }
            HostMessage::KeepAliveResponse(_) => {}
        }
    }

    fn run(&self, command: Box<Command>) -> Effect {
        match self.phase {
            Phase::Stopping => refuse(Unheard::work(&command.work), ErrorCode::ShuttingDown, SHUTTING_DOWN.to_owned()),
            _ => Effect::Run(command),
        }
    }

    fn rejected(&mut self, rejection: Rejection, now: Instant, effects: &mut Vec<Effect>) {
        match rejection {
            Rejection::NotBelieved { reason } => self.not_believed(reason, now, effects),
            Rejection::Replayed => self.replayed(now, effects),
            Rejection::BelowFloor { command, reason } => {
                self.replayed(now, effects);
                // A line that somebody sends again and again must not push the audit of commands out.
                let unheard = Unheard { command, entries: Vec::new() };
                self.unheard(unheard, ErrorCode::AuthFailed, reason, now, effects);
            }
            Rejection::Stale { unheard, reason } => {
                self.unheard(unheard, ErrorCode::AuthFailed, reason, now, effects);
            }
            Rejection::NotAMessage { unheard, reason } => {
                let code = match unheard.command {
                    Some(_) => ErrorCode::InvalidParameters,
                    None => ErrorCode::InvalidMessage,
                };
                self.unheard(unheard, code, reason, now, effects);
            }
            Rejection::TooLong { bytes } => {
                let reason = format!("the line has {bytes} bytes");
                effects.extend(self.complain(1, now, |dropped| complaint(ErrorCode::MessageTooLarge, reason, dropped)));
            }
        }
    }

    /// What asks for something to be run is written down; a command is answered, and of everything else the host hears by a complaint.
    fn unheard(&mut self, unheard: Unheard, code: ErrorCode, reason: String, now: Instant, effects: &mut Vec<Effect>) {
        if unheard.command.is_none() {
            let reason = reason.clone();
            effects.extend(self.complain(1, now, |dropped| complaint(code, reason, dropped)));
        }
        if unheard != Unheard::default() {
            effects.push(refuse(unheard, code, reason));
        }
    }

    fn replayed(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if let Admission::Send { dropped } = self.replays.admit(now) {
            effects.push(Effect::Audit { reason: REPLAY.to_owned(), dropped });
        }
    }

    /// Written down whoever is there; told only where somebody is who may be spoken to.
    fn not_believed(&mut self, reason: String, now: Instant, effects: &mut Vec<Effect>) {
        if let Admission::Send { dropped } = self.auth_errors.admit(now) {
            let say = |others| complaint(ErrorCode::AuthFailed, reason.clone(), dropped + others);
            effects.extend(self.complain(dropped + 1, now, say));
            effects.push(Effect::Audit { reason, dropped });
        }
    }

    /// Every `error` message passes here, so that they share one budget. What is said stands for `lines` lines and for those that
    /// the budget held back before, whose number `say` is given.
    fn complain(&mut self, lines: u64, now: Instant, say: impl FnOnce(u64) -> AgentBody) -> Option<Effect> {
        if !self.phase.has_host() {
            return None;
        }
        match self.errors.admit_for(lines, now) {
            Admission::Send { dropped } => Some(Effect::Answer(say(dropped))),
            Admission::Hold => None,
        }
    }

    fn sample(&mut self, data: Box<MetricsData>, host_reads: bool, effects: &mut Vec<Effect>) {
        self.collecting = false;
        if !self.phase.has_host() {
            return;
        }
        self.enter(if host_reads { Phase::Active } else { Phase::Degraded });
        effects.push(Effect::Sample(AgentBody::Metrics(Box::new(Metrics { data: *data }))));
    }

    fn tick(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if let Some(dropped) = self.replays.overdue(now) {
            effects.push(Effect::Audit { reason: REPLAY.to_owned(), dropped });
        }
        if let Some(dropped) = self.auth_errors.overdue(now) {
            let say = |others| complaint(ErrorCode::AuthFailed, MORE.to_owned(), dropped + others);
            effects.extend(self.complain(dropped, now, say));
            effects.push(Effect::Audit { reason: MORE.to_owned(), dropped });
        }
        if !self.phase.has_host() {
            return;
        }
        if let Some(dropped) = self.errors.overdue(now) {
            effects.push(Effect::Answer(complaint(ErrorCode::InvalidMessage, MORE.to_owned(), dropped)));
        }
        if now + TICK_TOLERANCE >= self.next_sample {
            self.collect(effects);
            self.next_sample = now + self.interval;
        }
    }
}

fn refuse(unheard: Unheard, code: ErrorCode, reason: String) -> Effect {
    Effect::Refuse { unheard: Box::new(unheard), code, reason }
}

#[cfg(test)]
mod tests;
