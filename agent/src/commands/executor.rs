//! From a command to its one answer: known already? legal? permitted? a place, and in the end what it came to.

mod entries;
mod gate;
pub(super) mod plan;
mod record;
mod scripts;
mod unheard;
pub(super) mod weight;

use std::sync::Arc;
use std::time::Duration;

use infini_protocol::ErrorCode;
use infini_protocol::agent::{AgentBody, AgentEvent, Response};
use infini_protocol::host::{CommandName, RAW_COMMAND_TYPE, SafeCommand, Script, UnsafeCommand};
use tokio::time::Instant;

use super::action::{Context, Exclusive, Origin};
use super::audit::{self, Audit, AuditSettings, Recorded};
use super::dispatch::{Dispatcher, Ended, Job, Ticket};
use super::golden_image::OwnFiles;
use super::ids::{Digest, Ids, Known};
use super::outcome::{CommandError, Outcome};
use super::package_management::{Adopted, Unanswered};
use super::policy::Policy;
use super::safe_executor;
use super::stop::Stop;
use crate::clock;
use crate::communication::{Receipt, Reservation};
use crate::config::Config;
use gate::Gate;
use plan::{Plan, Refusal};
pub use unheard::Unheard;

/// How many commands may wait for a place.
const MOST_WAITING: usize = 100;

/// How much memory those that wait may take, and the same again the scripts: twice what the longest line holds.
const MOST_WAITING_BYTES: usize = 2 << 20;

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
    policy: Arc<Policy>,
    ids: Ids,
    audit: Audit,
    /// Of the audit, for the host.
    events: Vec<AgentEvent>,
    dispatcher: Dispatcher,
    gate: Gate,
    /// Of the machine; each command gets it with a stop of its own.
    context: Context,
}

impl CommandExecutor {
    /// An executor that runs nothing yet.
    #[must_use]
    pub fn new(limits: CommandLimits, policy: Policy, ids: Ids, audit: Audit, context: Context) -> Self {
        let dispatcher = Dispatcher::new(limits.max_concurrent);
        let (policy, gate) = (Arc::new(policy), Gate::default());
        Self { limits, policy, ids, audit, events: Vec::new(), dispatcher, gate, context }
    }

    /// Takes a command. What is answered at once comes back; else the answer comes with [`CommandExecutor::next`].
    pub fn take(&mut self, command: Command, received: Instant) -> Option<Answer> {
        let entry = entries::of_work(&command.work);
        let planned = match self.ids.look_up(command.work.id(), &command.payload) {
            Known::New => self.gate.refusal().map_or_else(|| self.plan(&command.work), |error| Err(error.into())),
            Known::Underway => {
                self.note_repetition(entry, false);
                return None;
            }
            Known::Answered(body) => {
                self.note_repetition(entry, true);
                return Some(repeated(*body));
            }
            Known::Forgotten => {
                let sentence =
                    "this command was taken before and does not run again; what came of it is not kept any more";
                Err(CommandError::new(ErrorCode::Interrupted, sentence).into())
            }
            Known::Other => {
                let sentence = "another command of this boot had this id; give every command an id of its own";
                Err(CommandError::new(ErrorCode::InvalidParameters, sentence).into())
            }
        };
        let name = command.work.name();
        match self.write_down(entry, &name, planned) {
            Ok(plan) => {
                self.ids.accepted(command.work.id(), command.payload);
                let CommandName { id, command_type } = name.clone();
                let origin = Origin { id, command_type, payload: command.payload, received };
                self.enqueue(Ticket { name, received, is_script: false }, origin, plan);
                None
            }
            Err(error) => Some(refused(name, error)),
        }
    }

    /// What the host is to hear of the audit.
    pub fn take_events(&mut self) -> Vec<AgentEvent> {
        std::mem::take(&mut self.events)
    }

    fn plan(&self, work: &Work) -> Result<Plan, Refusal> {
        let plan = match work {
            Work::Safe(command) => safe_executor::plan(command, &self.policy, &self.limits, &self.context.roots)?,
            Work::Raw(command) => plan::raw(command, &self.policy, &self.limits)?,
        };
        self.check_queue(false, MOST_WAITING, plan.bytes)?;
        Ok(plan)
    }

    fn plan_script(&self, script: &Script) -> Result<Plan, Refusal> {
        let plan = plan::script(script, &self.policy, &self.limits)?;
        self.check_queue(true, scripts::MOST_WAITING, plan.bytes)?;
        Ok(plan)
    }

    fn check_queue(&self, of_scripts: bool, most: usize, bytes: usize) -> Result<(), CommandError> {
        let waiting = self.dispatcher.waiting(of_scripts);
        let what = if of_scripts { "scripts" } else { "commands" };
        let sentence = if waiting.count >= most {
            format!("{most} {what} wait already; send this one again when some are answered")
        } else if waiting.bytes + bytes > MOST_WAITING_BYTES {
            let (all, most) = ((waiting.bytes + bytes) >> 10, MOST_WAITING_BYTES >> 10);
            format!(
                "with this one the {what} that wait would take {all} KiB, and {most} KiB are the most; \
                 send it again when some are answered, or make it smaller"
            )
        } else {
            return Ok(());
        };
        Err(CommandError::new(ErrorCode::ResourceLimit, sentence))
    }

    fn enqueue(&mut self, ticket: Ticket, origin: Origin, plan: Plan) {
        let deadline = ticket.received + plan.time;
        let context = self.context.of(Arc::new(origin));
        let (note, exclusive, bytes) = (plan.note, plan.exclusive, plan.bytes);
        let start = move |stop: Stop, receipt: Receipt| -> super::action::Running {
            let running = (plan.run)(Context { stop, receipt, ..context });
            Box::pin(async move { with_note(running.await, note) })
        };
        self.dispatcher.enqueue(Job { ticket, deadline, exclusive, bytes, start: Box::new(start) });
    }

    /// Takes scripts, to run one after another in this order. Gives the answers of those that do not run.
    pub fn take_scripts(&mut self, scripts: Vec<Script>, received: Instant) -> Vec<Answer> {
        scripts.into_iter().filter_map(|script| self.take_script(script, received)).collect()
    }

    fn take_script(&mut self, script: Script, received: Instant) -> Option<Answer> {
        let (key, payload) = (scripts::key(&script.execution_id), scripts::digest(&script));
        let entry = entries::of_script(&script);
        let planned = match self.ids.look_up(&key, &payload) {
            Known::New => self.gate.refusal().map_or_else(|| self.plan_script(&script), |error| Err(error.into())),
            Known::Underway => {
                self.note_repetition(entry, false);
                return None;
            }
            Known::Answered(body) => {
                self.note_repetition(entry, true);
                return Some(Answer { body: *body, room: None });
            }
            Known::Forgotten | Known::Other => {
                let sentence = "a script with this execution_id was taken in this boot already";
                Err(CommandError::new(ErrorCode::Interrupted, sentence).into())
            }
        };
        match self.write_down(entry, &scripts::name(&script), planned) {
            Ok(plan) => {
                self.ids.accepted(&key, payload);
                self.enqueue(Ticket::script(&script.execution_id, received), Origin::nobody(), plan);
                None
            }
            Err(error) => Some(scripts::refused(script.execution_id, error)),
        }
    }

    /// Starts whoever is next, as long as there are places and `reserve` has room for another answer. Gives whether somebody waits for
    /// nothing but room.
    pub fn start(&mut self, reserve: impl FnMut() -> Option<Reservation>) -> bool {
        let ids = &mut self.ids;
        self.dispatcher.start(reserve, |ticket| ids.started(&key(ticket)))
    }

    /// Takes over a command that a process of the agent before this one has begun: its answer comes like any other.
    pub fn adopt(&mut self, adopted: Adopted) {
        let Adopted { command: Unanswered { origin, deadline, .. }, resume } = adopted;
        let name = CommandName { id: origin.id.clone(), command_type: origin.command_type.clone() };
        self.ids.accepted(&origin.id, origin.payload);
        let ticket = Ticket { name, received: origin.received, is_script: false };
        let context = self.context.of(origin);
        let start = move |stop: Stop, receipt: Receipt| resume(Context { stop, receipt, ..context });
        let exclusive = Some(Exclusive::Packages);
        self.dispatcher.enqueue(Job { ticket, deadline, exclusive, bytes: 0, start: Box::new(start) });
    }

    /// Waits for the next command that is over. Gives its answer, unless the next process of the agent gives it. Nothing is lost when the
    /// future is dropped.
    pub async fn next(&mut self) -> Option<Answer> {
        let ended = self.dispatcher.next().await;
        (!ended.outcome.is_handed_over).then(|| self.answer(ended))
    }

    fn answer(&mut self, ended: Ended) -> Answer {
        let Ended { ticket, outcome, room } = ended;
        let key = key(&ticket);
        // The host told an id off, or its own timer did: that was the id's one answer. What the agent's end kept from beginning is still to be done.
        let code = outcome.error.as_ref().map(|error| error.code);
        let may_come_again = room.is_none() && code == Some(ErrorCode::ShuttingDown);
        let took = ticket.received.elapsed();
        let ending = audit::Ending {
            success: outcome.error.is_none(),
            exit_code: outcome.exit_code,
            error_code: code,
            duration: took,
        };
        let Recorded { event, .. } =
            self.audit.ended(clock::now(), &ticket.name.id, entries::kind_of(&ticket), &ending);
        self.events.extend(event);
        let body = if ticket.is_script {
            scripts::completion(ticket.name.id, outcome)
        } else {
            let mut response = outcome.into_response(ticket.name);
            response.execution_time_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            AgentBody::Response(Box::new(response))
        };
        if may_come_again {
            self.ids.withdrawn(&key);
        } else {
            self.ids.answered(&key, &body);
        }
        self.look_whether_alone();
        Answer { body, room }
    }

    /// Takes a command or a script back.
    pub fn cancel(&mut self, id: &str) -> Option<Answer> {
        self.dispatcher.cancel(id).map(|ended| self.answer(ended))
    }

    /// The agent ends: who runs is told, who waits is answered.
    pub fn shut_down(&mut self) -> Vec<Answer> {
        let ended = self.dispatcher.shut_down();
        ended.into_iter().map(|ended| self.answer(ended)).collect()
    }

    /// Kills after `grace` what is left of the programs of commands that had to end, and waits until all of it is gone.
    pub fn end_programs(&self, grace: Duration) -> impl Future<Output = ()> + Send + use<> {
        self.context.programs.end(grace)
    }

    /// Nothing comes any more: the host hears where the audit ends.
    pub fn close(&mut self) -> Option<AgentEvent> {
        self.audit.stop(clock::now())
    }

    /// The audit, to be brought to the disk when all else is over.
    #[must_use]
    pub fn into_audit(self) -> Audit {
        self.audit
    }

    /// Whether nothing runs and nothing waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.dispatcher.is_idle()
    }

    /// Whether a script runs or waits.
    #[must_use]
    pub fn has_scripts(&self) -> bool {
        self.dispatcher.has_scripts()
    }

    /// Other rules, bounds and files count for what comes from now on.
    pub fn reconfigure(&mut self, limits: CommandLimits, policy: Policy, audit: AuditSettings, own: OwnFiles) {
        self.limits = limits;
        self.policy = Arc::new(policy);
        self.audit.reconfigure(audit);
        self.context.own = Arc::new(own);
        self.dispatcher.set_most_running(limits.max_concurrent);
    }
}

/// What the memory of ids knows it by.
fn key(ticket: &Ticket) -> String {
    if ticket.is_script { scripts::key(&ticket.name.id) } else { ticket.name.id.clone() }
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

fn refused(command: CommandName, error: CommandError) -> Answer {
    Answer { body: AgentBody::Response(Box::new(refusal(command, error))), room: None }
}

/// An answer that says nothing but why there is no other.
#[must_use]
pub fn refusal(command: CommandName, error: CommandError) -> Response {
    Outcome::from(error).into_response(command)
}

#[cfg(test)]
mod tests;
