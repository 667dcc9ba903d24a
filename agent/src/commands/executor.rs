//! From a command to its one answer: known already? legal? permitted? a place, and in the end what it came to.

mod gate;
mod plan;
mod scripts;

use std::sync::Arc;
use std::time::Duration;

use infini_protocol::ErrorCode;
use infini_protocol::agent::{AgentBody, AgentEvent, Response};
use infini_protocol::host::{CommandName, RAW_COMMAND_TYPE, SafeCommand, Script, UnsafeCommand};
use tokio::time::Instant;

use super::action::{Context, Kind};
use super::audit::{self, Audit, CommandKind, Recorded};
use super::dispatch::{Dispatcher, Ended, Job, Ticket};
use super::golden_image::OwnFiles;
use super::ids::{Digest, Ids, Known};
use super::outcome::{CommandError, Outcome};
use super::policy::{Policy, SCRIPT};
use super::spec;
use super::stop::Stop;
use crate::clock;
use crate::communication::Reservation;
use crate::config::Config;
use gate::Gate;
use plan::{Plan, Refusal};
use scripts::Scripts;

/// How many commands may wait for a place.
const MOST_WAITING: usize = 100;

/// A command of the host, well signed and well formed.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Of the payload that it came in.
    pub payload: Digest,
    /// What to do.
    pub work: Work,
}

/// What a command is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// An action with fields.
    Safe(SafeCommand),
    /// A line for a shell.
    Raw(UnsafeCommand),
}

impl Work {
    /// The host's id for it.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Safe(command) => &command.id,
            Self::Raw(command) => &command.id,
        }
    }

    /// What its answer says of it.
    #[must_use]
    pub fn name(&self) -> CommandName {
        let (id, command_type) = match self {
            Self::Safe(command) => (&command.id, command.command_type.action.as_str()),
            Self::Raw(command) => (&command.id, RAW_COMMAND_TYPE),
        };
        CommandName { id: id.clone(), command_type: command_type.to_owned() }
    }
}

/// An answer on its way to the host.
#[derive(Debug)]
pub struct Answer {
    /// The `response` or `script_completion`.
    pub body: AgentBody,
    /// The room that was set aside for it; absent where no command began.
    pub room: Option<Reservation>,
}

/// Bounds that the configuration sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandLimits {
    /// How many run at once.
    pub max_concurrent: usize,
    /// The longest time that a host may ask for.
    pub max_timeout: Duration,
}

impl CommandLimits {
    /// Those of a configuration.
    #[must_use]
    pub const fn of(config: &Config) -> Self {
        Self { max_concurrent: config.commands.max_concurrent, max_timeout: config.limits.max_timeout }
    }
}

/// Takes commands and gives each its one answer.
pub struct CommandExecutor {
    limits: CommandLimits,
    policy: Policy,
    ids: Ids,
    audit: Audit,
    /// Of the audit, for the host.
    events: Vec<AgentEvent>,
    dispatcher: Dispatcher,
    scripts: Scripts,
    gate: Gate,
    /// Of the machine; each command gets it with a stop of its own.
    context: Context,
}

impl CommandExecutor {
    /// An executor that runs nothing yet.
    #[must_use]
    pub fn new(limits: CommandLimits, policy: Policy, ids: Ids, audit: Audit, context: Context) -> Self {
        let dispatcher = Dispatcher::new(limits.max_concurrent, MOST_WAITING);
        let (events, scripts, gate) = (Vec::new(), Scripts::default(), Gate::default());
        Self { limits, policy, ids, audit, events, dispatcher, scripts, gate, context }
    }

    /// Takes a command. What is answered at once comes back; else the answer comes with [`CommandExecutor::next`].
    pub fn take(&mut self, command: Command, received: Instant) -> Option<Answer> {
        match self.ids.look_up(command.work.id(), &command.payload) {
            Known::Underway => return None,
            Known::Answered(body) => return Some(repeated(*body)),
            Known::New => {}
            Known::Forgotten => {
                let sentence = "this command has run already; its answer is not kept any more";
                return Some(refused(&command.work, CommandError::new(ErrorCode::Interrupted, sentence)));
            }
            Known::Other => {
                let sentence = "another command of this boot had this id; give every command an id of its own";
                return Some(refused(&command.work, CommandError::new(ErrorCode::InvalidParameters, sentence)));
            }
        }
        let planned = match self.gate.refusal() {
            None => self.plan(&command.work),
            Some(refusal) => Err(refusal.into()),
        };
        match self.write_down(entry(&command.work), &command.work.name(), planned) {
            Ok(plan) => {
                let ticket = Ticket { name: command.work.name(), received, is_script: false };
                self.ids.accepted(command.work.id(), command.payload);
                self.enqueue(ticket, plan);
                None
            }
            Err(error) => Some(refused(&command.work, error)),
        }
    }

    /// Puts a decision into the audit and the log. A command that must be in the audit and cannot be is refused.
    fn write_down(
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
        let Recorded { event, refusal } = self.audit.decided(clock::now(), entry, &decision);
        self.events.extend(event);
        let CommandName { id, command_type } = name;
        match (planned, refusal) {
            (Ok(_), Some(error)) => Err(error),
            (Ok(plan), None) => {
                tracing::info!(id, command_type, rule = plan.rule, "a command is permitted");
                Ok(plan)
            }
            (Err(refusal), _) => {
                tracing::info!(id, command_type, code = ?refusal.error.code, "a command is refused: {}", refusal.error);
                Err(refusal.error)
            }
        }
    }

    /// What the host is to hear of the audit.
    pub fn take_events(&mut self) -> Vec<AgentEvent> {
        std::mem::take(&mut self.events)
    }

    fn plan(&self, work: &Work) -> Result<Plan, Refusal> {
        let plan = match work {
            Work::Safe(command) => plan::safe(command, &self.policy, &self.limits, &self.context.roots)?,
            Work::Raw(command) => plan::raw(command, &self.policy, &self.limits)?,
        };
        if self.dispatcher.has_room() {
            return Ok(plan);
        }
        let sentence = format!("{MOST_WAITING} commands wait already; send this one again when some are answered");
        Err(CommandError::new(ErrorCode::ResourceLimit, sentence).into())
    }

    fn enqueue(&mut self, ticket: Ticket, plan: Plan) {
        let deadline = ticket.received + plan.time;
        let context = self.context.clone();
        let note = plan.note;
        let start = move |stop: Stop| -> super::action::Running {
            let running = (plan.run)(context.stopping_at(stop));
            Box::pin(async move { with_note(running.await, note) })
        };
        self.dispatcher.enqueue(Job { ticket, deadline, start: Box::new(start) });
    }

    /// Takes scripts, to run one after another in this order.
    pub fn take_scripts(&mut self, scripts: Vec<Script>) -> Vec<Answer> {
        let mut answers = Vec::new();
        for script in scripts {
            let payload = scripts::digest(&script);
            let refusal = self.gate.refusal();
            match self.ids.look_up(&scripts::key(&script.execution_id), &payload) {
                Known::New if refusal.is_some() => {
                    answers.extend(refusal.map(|error| scripts::refused(script.execution_id, error)));
                }
                Known::New if self.scripts.has_room() => {
                    self.ids.accepted(&scripts::key(&script.execution_id), payload);
                    self.scripts.push(script);
                }
                Known::New => {
                    let error = CommandError::new(ErrorCode::ResourceLimit, "too many scripts wait already");
                    answers.push(scripts::refused(script.execution_id, error));
                }
                Known::Underway => {}
                Known::Answered(body) => answers.push(Answer { body: *body, room: None }),
                Known::Forgotten | Known::Other => {
                    let sentence = "a script with this execution_id was started in this boot already";
                    let error = CommandError::new(ErrorCode::Interrupted, sentence);
                    answers.push(scripts::refused(script.execution_id, error));
                }
            }
        }
        answers
    }

    /// Starts whoever is next, as long as there are places and `reserve` has room for another answer. Gives whether somebody waits for
    /// nothing but room, and the answers of scripts that may not run.
    pub fn start(&mut self, reserve: impl FnMut() -> Option<Reservation>) -> (bool, Vec<Answer>) {
        let answers = self.next_script();
        let ids = &mut self.ids;
        let waits = self.dispatcher.start(reserve, |ticket| ids.started(&key(ticket)));
        (waits, answers)
    }

    /// Scripts come one at a time: the next when the one before has its answer.
    fn next_script(&mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        while let Some(script) = self.scripts.next(self.dispatcher.has_room()) {
            let planned = plan::script(&script, &self.policy, &self.limits);
            let name = CommandName { id: script.execution_id.clone(), command_type: SCRIPT.to_owned() };
            match self.write_down(audit::Command::script(&script, &[]), &name, planned) {
                Ok(plan) => {
                    self.enqueue(Ticket::script(&script.execution_id, Instant::now()), plan);
                    break;
                }
                Err(error) => {
                    self.scripts.ended();
                    self.ids.withdrawn(&scripts::key(&script.execution_id));
                    answers.push(scripts::refused(script.execution_id, error));
                }
            }
        }
        answers
    }

    /// Waits for the next answer. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Answer {
        let ended = self.dispatcher.next().await;
        self.answer(ended)
    }

    fn answer(&mut self, ended: Ended) -> Answer {
        let Ended { ticket, outcome, room } = ended;
        let key = key(&ticket);
        let took = ticket.received.elapsed();
        let ending = audit::Ending {
            success: outcome.error.is_none(),
            exit_code: outcome.exit_code,
            error_code: outcome.error.as_ref().map(|error| error.code),
            duration: took,
        };
        let Recorded { event, .. } = self.audit.ended(clock::now(), &ticket.name.id, audit_kind(&ticket), &ending);
        self.events.extend(event);
        let body = if ticket.is_script {
            self.scripts.ended();
            scripts::completion(ticket.name.id, outcome)
        } else {
            let mut response = outcome.into_response(ticket.name);
            response.execution_time_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            AgentBody::Response(Box::new(response))
        };
        if room.is_some() {
            let bytes = size(&body);
            self.ids.answered(&key, &body, bytes);
        } else {
            self.ids.withdrawn(&key);
        }
        self.look_whether_alone();
        Answer { body, room }
    }

    /// Takes a command back.
    pub fn cancel(&mut self, id: &str) -> Option<Answer> {
        self.dispatcher.cancel(id).map(|ended| self.answer(ended))
    }

    /// The agent ends: who runs is told, who waits is answered.
    pub fn shut_down(&mut self) -> Vec<Answer> {
        self.scripts.clear();
        let ended = self.dispatcher.shut_down();
        ended.into_iter().map(|ended| self.answer(ended)).collect()
    }

    /// Nothing comes any more: the audit is brought to the disk, and the host hears where it ends.
    pub fn close(&mut self) -> Option<AgentEvent> {
        self.audit.stop(clock::now())
    }

    /// Whether nothing runs and nothing waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.dispatcher.is_idle()
    }

    /// Other rules, bounds and files count for what comes from now on.
    pub fn reconfigure(&mut self, limits: CommandLimits, policy: Policy, own: OwnFiles) {
        self.limits = limits;
        self.policy = policy;
        self.context.own = Arc::new(own);
        self.dispatcher.set_most_running(limits.max_concurrent);
    }
}

/// What the audit is told of a command.
fn entry(work: &Work) -> audit::Command {
    match work {
        Work::Safe(command) => match spec(&command.command_type.action) {
            Some(spec) if spec.kind == Kind::Raw => audit::Command::raw_action(command, spec.secrets),
            spec => audit::Command::safe(command, spec.map_or(&[], |spec| spec.secrets)),
        },
        Work::Raw(command) => audit::Command::raw(command, &[]),
    }
}

fn audit_kind(ticket: &Ticket) -> CommandKind {
    match ticket.name.command_type.as_str() {
        _ if ticket.is_script => CommandKind::Script,
        RAW_COMMAND_TYPE => CommandKind::Raw,
        action if spec(action).is_some_and(|spec| spec.kind == Kind::Raw) => CommandKind::Raw,
        _ => CommandKind::Safe,
    }
}

/// What the memory of ids knows it by.
fn key(ticket: &Ticket) -> String {
    if ticket.is_script { scripts::key(&ticket.name.id) } else { ticket.name.id.clone() }
}

/// What a kept answer costs, about.
fn size(body: &AgentBody) -> usize {
    const FIXED: usize = size_of::<Response>() + 128;
    let text = match body {
        AgentBody::Response(response) => {
            let data = response.data.as_ref().map_or(0, |data| data.to_string().len() * 2);
            response.stdout.len() + response.stderr.len() + response.error.as_ref().map_or(0, String::len) + data
        }
        AgentBody::ScriptCompletion(completion) => completion.stdout.len() + completion.stderr.len(),
        _ => 0,
    };
    FIXED + text
}

fn with_note(mut outcome: Outcome, note: Option<String>) -> Outcome {
    if let Some(note) = note {
        if !outcome.stderr.is_empty() && !outcome.stderr.ends_with('\n') {
            outcome.stderr.push('\n');
        }
        outcome.stderr.push_str(&note);
        outcome.stderr.push('\n');
    }
    outcome
}

/// The kept answer, once more.
fn repeated(mut body: AgentBody) -> Answer {
    if let AgentBody::Response(response) = &mut body {
        response.duplicate = true;
    }
    Answer { body, room: None }
}

fn refused(work: &Work, error: CommandError) -> Answer {
    let response = Outcome::from(error).into_response(work.name());
    Answer { body: AgentBody::Response(Box::new(response)), room: None }
}

/// An answer that says why nothing ran.
#[must_use]
pub fn refusal(command: CommandName, code: ErrorCode, sentence: String) -> Response {
    Outcome::from(CommandError::new(code, sentence)).into_response(command)
}

#[cfg(test)]
mod tests;
