//! The one loop that owns all state. Measuring and the link work elsewhere and report here; [`state`] decides.

mod budget;
mod end;
mod inbound;
mod phase_log;
mod reload;
mod scripts_mark;
pub mod state;

use std::io;
use std::time::Instant;

use infini_protocol::ErrorCode;
use infini_protocol::agent::{AgentBody, AgentMessage};
use infini_protocol::encode::agent_line;
use infini_protocol::host::CommandName;
use tokio::time::{Interval, MissedTickBehavior, interval_at};

use crate::auth::Authenticator;
use crate::auth::audit::AuditFile;
use crate::clock::{self, ClockWatch};
use crate::collector::DataCollector;
use crate::commands::executor::{Answer, CommandExecutor, CommandLimits, refusal};
use crate::commands::intake::{Request, Requests};
use crate::commands::outcome::CommandError;
use crate::commands::policy::Policy;
use crate::communication::{Lane, LinkEvent, NotSent, VirtioSerial};
use crate::config::{Config, Loaded};
use crate::generation::GenerationWatch;
use crate::heap;
use crate::identity::random_id;
use crate::supervisor::{Order, Supervisor};
use phase_log::PhaseLog;
use reload::{Progress, Reloader};
pub use reload::{Reload, Reloaded};
pub use scripts_mark::ScriptsMark;
use state::{Effect, Input, Machine, Phase, Trouble};

/// The agent.
pub struct InfiniService {
    loaded: Loaded,
    /// What the link was started with; a reload does not change it.
    max_line_bytes: usize,
    collector: DataCollector,
    communication: VirtioSerial,
    command_executor: CommandExecutor,
    intake: Requests,
    authenticator: Authenticator,
    audit: AuditFile,
    machine: Machine,
    scripts_mark: ScriptsMark,
    phase_log: PhaseLog,
    supervisor: Supervisor,
    clock_watch: Option<ClockWatch>,
    generation_watch: Option<GenerationWatch>,
    reloader: Reloader,
    ticker: Interval,
    /// Something was asked since memory was given back last.
    is_heap_used: bool,
}

/// What the loop is made of. Each part is started already.
pub struct Parts {
    /// The configuration that the parts were made from.
    pub loaded: Loaded,
    /// Measures.
    pub collector: DataCollector,
    /// The link.
    pub communication: VirtioSerial,
    /// Runs commands.
    pub command_executor: CommandExecutor,
    /// What commands ask of the loop.
    pub intake: Requests,
    /// Judges inbound lines.
    pub authenticator: Authenticator,
    /// Where it is written down what was not believed.
    pub audit: AuditFile,
    /// Decides.
    pub machine: Machine,
    /// Whether a process of this boot had its pending scripts.
    pub scripts_mark: ScriptsMark,
    /// Whoever started the agent.
    pub supervisor: Supervisor,
    /// Reads the configuration again.
    pub reload: Reload,
}

enum Event {
    Link(LinkEvent),
    Sample(Box<infini_protocol::metrics::MetricsData>),
    Answer(Option<Answer>),
    Intake(Request),
    ClockSet(io::Result<()>),
    NewGeneration(io::Result<()>),
    Order(Order),
    Reload(Progress),
    SampleDue,
    Tick,
}

impl InfiniService {
    /// An agent of these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let clock_watch = ClockWatch::start()
            .inspect_err(|error| tracing::warn!(%error, "cannot see when the clock is set; hosts learn it with the next message"))
            .ok();
        let generation_watch = GenerationWatch::start()
            .inspect_err(
                |error| tracing::warn!(%error, "cannot see when this machine is cloned or brought back to a snapshot"),
            )
            .ok();
        let ticker = ticker(&parts.loaded.config, &parts.supervisor);
        let mut machine = parts.machine;
        machine.scripts_were_answered(parts.scripts_mark.is_set());
        Self {
            max_line_bytes: parts.loaded.config.limits.max_line_bytes,
            loaded: parts.loaded,
            collector: parts.collector,
            communication: parts.communication,
            command_executor: parts.command_executor,
            intake: parts.intake,
            authenticator: parts.authenticator,
            audit: parts.audit,
            machine,
            scripts_mark: parts.scripts_mark,
            phase_log: PhaseLog::new(),
            supervisor: parts.supervisor,
            clock_watch,
            generation_watch,
            reloader: Reloader::new(parts.reload),
            ticker,
            is_heap_used: true,
        }
    }

    /// Runs until the agent is told to stop.
    pub async fn run(mut self) {
        self.supervisor.ready();
        self.supervisor.status(self.machine.phase().describe());
        while self.machine.phase() != Phase::Stopping {
            let event = self.next_event().await;
            let before = self.machine.phase();
            let is_tick = matches!(event, Event::Tick);
            self.handle(event);
            self.start_commands();
            self.mark_scripts();
            let phase = self.machine.phase();
            if phase != before {
                self.phase_log.changed(before, phase, now());
                self.supervisor.status(phase.describe());
            }
            if is_tick {
                self.phase_log.tick(phase, now());
                self.supervisor.alive();
                self.give_memory_back();
            }
        }
        self.end().await;
    }

    /// What commands have needed, once none is left. At the tick, so that nothing wakes for it and no command waits for it.
    fn give_memory_back(&mut self) {
        if self.command_executor.is_idle() && std::mem::take(&mut self.is_heap_used) {
            heap::give_back();
        }
    }

    async fn next_event(&mut self) -> Event {
        tokio::select! {
            event = self.communication.next_event() => Event::Link(event),
            sample = self.collector.next_sample() => Event::Sample(Box::new(sample)),
            answer = self.command_executor.next() => Event::Answer(answer),
            request = self.intake.next() => Event::Intake(request),
            result = happening(self.clock_watch.as_ref().map(ClockWatch::clock_was_set)) => Event::ClockSet(result),
            result = happening(self.generation_watch.as_ref().map(GenerationWatch::is_another)) => Event::NewGeneration(result),
            order = self.supervisor.next_order() => Event::Order(order),
            progress = self.reloader.next() => Event::Reload(progress),
            () = sleep_until(self.machine.sample_due()) => Event::SampleDue,
            _ = self.ticker.tick() => Event::Tick,
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Link(event) => self.link_event(event),
            Event::Sample(data) => {
                let host_reads = !self.communication.outbox().has_metrics();
                self.decide(Input::Sample { data, host_reads });
            }
            Event::Answer(answer) => answer.into_iter().for_each(|answer| self.answer(answer)),
            Event::Intake(request) => self.intake(request),
            Event::ClockSet(Ok(())) => self.decide(Input::ClockSet),
            Event::ClockSet(Err(error)) => {
                tracing::warn!(%error, "no longer see when the clock is set");
                self.clock_watch = None;
            }
            Event::NewGeneration(Ok(())) => {
                let session_id = random_id();
                tracing::warn!(
                    session_id,
                    "this machine was cloned or brought back to a snapshot; a new session begins"
                );
                self.decide(Input::NewGeneration { session_id });
            }
            Event::NewGeneration(Err(error)) => {
                tracing::warn!(%error, "no longer see when this machine is cloned or brought back to a snapshot");
                self.generation_watch = None;
            }
            Event::Order(Order::Stop) => self.decide(Input::Stop),
            Event::Order(Order::Reload) => {
                self.supervisor.reloading();
                self.reloader.request();
            }
            Event::Reload(progress) => self.reload(progress),
            Event::SampleDue | Event::Tick => self.decide(Input::Tick),
        }
    }

    fn link_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Opened { port } => {
                tracing::info!(port = %port.endpoint, name = port.name, borrowed = port.borrowed, "port open");
                self.decide(Input::PortOpened);
            }
            LinkEvent::HostAttached if self.communication.may_speak() => self.decide(Input::HostAttached),
            // On a borrowed port whoever is there has to prove himself first.
            LinkEvent::HostAttached => {}
            LinkEvent::HostDetached => self.decide(Input::HostDetached),
            LinkEvent::Line { line, first_after_attach } => self.line(&line, first_after_attach),
            LinkEvent::TooLong { bytes } => self.decide(Input::Rejected(state::Rejection::TooLong { bytes })),
            LinkEvent::Dropped { lines } => self.decide(Input::SamplesDropped(lines)),
            // Commands that wait for it are started after every event.
            LinkEvent::Room => {}
            LinkEvent::Closed { error } => {
                tracing::warn!(%error, "port lost");
                let trouble =
                    Trouble { error_type: error.error_type().to_owned(), advice: Some(error.advice().to_owned()) };
                self.decide(Input::PortLost(trouble));
            }
            LinkEvent::Unavailable { error, retry_in, first } => {
                if first {
                    tracing::warn!(%error, advice = error.advice(), "no port; looking again from now on");
                } else {
                    tracing::debug!(%error, ?retry_in, "still no port");
                }
                self.decide(Input::PortUnavailable);
            }
        }
    }

    fn line(&mut self, line: &[u8], first_after_attach: bool) {
        self.is_heap_used = true;
        let judged = inbound::judge(&mut self.authenticator, line, first_after_attach, clock::moment());
        if judged.proves_host && !self.communication.may_speak() {
            self.communication.verified();
            // The host that proved itself may have left again.
            if self.communication.may_speak() {
                self.decide(Input::HostAttached);
            }
        }
        if let Some(input) = judged.input {
            self.decide(input);
        }
    }

    fn decide(&mut self, input: Input) {
        for effect in self.machine.on(input, now(), clock::now()) {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Answer(body) => self.send(Lane::Answer, body),
            Effect::Session(body) => self.send(Lane::Session, body),
            Effect::Sample(body) => self.send(Lane::Metrics, body),
            Effect::Audit { reason, dropped } => self.write_down(&reason, dropped),
            Effect::Collect => self.collector.request(),
            Effect::Run(command) => {
                self.authenticator.take_memory();
                if let Some(answer) = self.command_executor.take(*command, tokio::time::Instant::now()) {
                    self.answer(answer);
                }
            }
            Effect::Refuse { unheard, code, reason } => {
                if let Some(answer) = self.command_executor.refuse(*unheard, code, reason) {
                    self.answer(answer);
                }
            }
            Effect::RunScripts(scripts) => {
                let answers = self.command_executor.take_scripts(scripts, tokio::time::Instant::now());
                answers.into_iter().for_each(|answer| self.answer(answer));
            }
            Effect::Cancel(id) => {
                if let Some(answer) = self.command_executor.cancel(&id) {
                    self.answer(answer);
                }
            }
        }
    }

    /// A command wants to be alone, or the agent to write nothing down any more: neither which lines came nor which were not believed.
    fn intake(&mut self, request: Request) {
        if matches!(request, Request::Forget(_)) {
            self.authenticator.stop_writing();
            self.audit.stop_writing();
        }
        let answers = self.command_executor.intake(request);
        answers.into_iter().for_each(|answer| self.answer(answer));
    }

    /// A command begins only with room for the longest answer, which no other line can take from it.
    fn start_commands(&mut self) {
        let most = self.max_line_bytes + 1;
        let communication = &mut self.communication;
        let waits_for_room = self.command_executor.start(|| communication.reserve(most));
        self.communication.tell_room(waits_for_room.then_some(most));
        for event in self.command_executor.take_events() {
            self.send(Lane::Answer, AgentBody::AgentEvent(event));
        }
    }

    /// Once all have ended: scripts that a process left behind are to be asked for by the next.
    fn mark_scripts(&mut self) {
        if self.machine.scripts_are_answered() && !self.command_executor.has_scripts() {
            self.scripts_mark.set();
        }
    }

    fn answer(&mut self, answer: Answer) {
        let Answer { body, room } = answer;
        let again = repeated(&body);
        let Some(mut line) = self.encode(body) else { return };
        let room = room.or_else(|| self.communication.reserve(line.len()));
        if let (None, Some(command)) = (&room, again) {
            let sentence =
                "its answer is kept, and there is no room for it before the host has read others; send it again then";
            let refusal = refusal(command, CommandError::new(ErrorCode::ResourceLimit, sentence));
            let Some(short) = self.encode(AgentBody::Response(Box::new(refusal))) else { return };
            line = short;
        }
        let sent = match room {
            Some(room) => self.communication.send_reserved(room, line),
            None => self.communication.send(Lane::Answer, line),
        };
        if let Err(error) = sent {
            tracing::error!(%error, "an answer is lost");
        }
    }

    fn write_down(&self, reason: &str, dropped: u64) {
        tracing::warn!(dropped, "a line from the host's side was not believed: {reason}");
        if let Err(error) = self.audit.write(clock::now(), reason, dropped) {
            tracing::warn!(%error, "cannot write the audit file");
        }
    }

    fn send(&mut self, lane: Lane, body: AgentBody) {
        let Some(line) = self.encode(body) else { return };
        match self.communication.send(lane, line) {
            // What only means something to a host that is there has lost nothing when that host is gone.
            Ok(()) | Err(NotSent::HostAway) => {}
            Err(error) => tracing::error!(%error, "an answer is lost"),
        }
    }

    fn encode(&self, body: AgentBody) -> Option<Vec<u8>> {
        let message = AgentMessage { timestamp: clock::now(), body };
        let line = agent_line(message, self.max_line_bytes);
        line.inspect_err(|error| tracing::error!(%error, "a message could not be written")).ok()
    }

    fn reload(&mut self, progress: Progress) {
        match progress {
            Progress::Read(Ok(reloaded)) => self.take_over(*reloaded),
            Progress::Read(Err(reason)) => tracing::error!("the configuration stays as it was: {reason}"),
            Progress::Hangs => tracing::error!(
                "reading the configuration hangs: the one before it counts until the file system answers; see whether the mount that it is on is there"
            ),
        }
        self.supervisor.ready();
    }

    fn take_over(&mut self, reloaded: Reloaded) {
        let Reloaded { loaded, trust, own } = reloaded;
        for key in loaded.needs_restart(&self.loaded) {
            tracing::warn!(key, "this setting has changed and counts from the next start of the agent");
        }
        let policy = Policy::new(&trust, loaded.config.permissions.clone());
        self.machine.permit_raw(policy.may_run_raw());
        let limits = CommandLimits::of(&loaded.config);
        self.command_executor.reconfigure(limits, policy, loaded.config.audit, own);
        self.authenticator.set_trust(trust);
        self.collector.reconfigure(loaded.config.collector.settings.clone());
        self.machine.set_interval(loaded.config.collector.interval, now());
        self.loaded = loaded;
        self.ticker = ticker(&self.loaded.config, &self.supervisor);
        self.supervisor.alive();
        tracing::info!("configuration read again");
    }
}

/// The command whose kept answer this is. It may be long, and it may be asked for again and again; the reserve is not for it.
fn repeated(body: &AgentBody) -> Option<CommandName> {
    match body {
        AgentBody::Response(response) if response.duplicate => {
            Some(CommandName { id: response.id.clone(), command_type: response.command_type.clone() })
        }
        _ => None,
    }
}

/// The runtime's clock, which tests can stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn sleep_until(when: Option<Instant>) {
    happening(when.map(|when| tokio::time::sleep_until(when.into()))).await;
}

/// Waits for what is waited for, and for ever where that is nothing.
async fn happening<T>(awaited: Option<impl Future<Output = T>>) -> T {
    match awaited {
        Some(awaited) => awaited.await,
        None => std::future::pending().await,
    }
}

/// The loop's own time: often enough for the samples and for half of the watchdog's patience. Nothing that happens puts it off, so
/// whatever comes how often, the watchdog hears of a loop that turns and of no other.
fn ticker(config: &Config, supervisor: &Supervisor) -> Interval {
    let sample = config.collector.interval;
    let period = supervisor.watchdog().map_or(sample, |patience| sample.min(patience / 2));
    let mut ticker = interval_at(tokio::time::Instant::now() + period, period);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

#[cfg(test)]
mod tests;
