//! Who runs now, who waits, who has to end: places, the queue, deadlines. Knows nothing of what a command does.

use std::collections::VecDeque;
use std::time::Duration;

use infini_protocol::ErrorCode;
use infini_protocol::host::CommandName;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::action::{Exclusive, Running};
use super::outcome::{CommandError, Outcome};
use super::stop::{Stop, StopOrder, StopReason};
use crate::communication::{Receipt, Reservation};

/// How long a command that must end may take to say what it has so far. It fits into what is left between the agent's deadline and the
/// host's, which is at least a tenth of a second.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// A command that is to run.
pub struct Job {
    /// What the host calls it.
    pub ticket: Ticket,
    /// When it must have its answer.
    pub deadline: Instant,
    /// What only one at a time may do of it.
    pub exclusive: Option<Exclusive>,
    /// How much memory it takes while it waits, about.
    pub bytes: usize,
    /// Starts it, with what tells it to end and what hears when its answer has left.
    pub start: Box<dyn FnOnce(Stop, Receipt) -> Running + Send>,
}

/// What the answer to a command needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The host's id for it and what it was.
    pub name: CommandName,
    /// When it came.
    pub received: Instant,
    /// Its answer is a `script_completion`.
    pub is_script: bool,
}

impl Ticket {
    /// Of a script.
    #[must_use]
    pub fn script(execution_id: &str, received: Instant) -> Self {
        let name = CommandName { id: execution_id.to_owned(), command_type: String::new() };
        Self { name, received, is_script: true }
    }
}

/// A command that is over, or never began.
#[derive(Debug)]
pub struct Ended {
    /// Which.
    pub ticket: Ticket,
    /// How.
    pub outcome: Outcome,
    /// Room for its answer; absent where it never began.
    pub room: Option<Reservation>,
}

/// What waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many.
    pub count: usize,
    /// How much memory they take, about.
    pub bytes: usize,
}

/// A command that runs.
struct Active {
    number: u64,
    ticket: Ticket,
    exclusive: Option<Exclusive>,
    order: StopOrder,
    room: Reservation,
}

/// Places and queue.
pub struct Dispatcher {
    most_running: usize,
    waiting: VecDeque<Job>,
    running: Vec<Active>,
    started: u64,
    reports: mpsc::UnboundedReceiver<(u64, Outcome)>,
    // Unbounded, and yet at most one report a place.
    reporter: mpsc::UnboundedSender<(u64, Outcome)>,
}

impl Dispatcher {
    /// So many at once.
    #[must_use]
    pub fn new(most_running: usize) -> Self {
        let (reporter, reports) = mpsc::unbounded_channel();
        Self { most_running, waiting: VecDeque::new(), running: Vec::new(), started: 0, reports, reporter }
    }

    /// So many at once from now on; who runs goes on.
    pub fn set_most_running(&mut self, most: usize) {
        self.most_running = most;
    }

    /// The commands that wait, or the scripts.
    #[must_use]
    pub fn waiting(&self, are_scripts: bool) -> Waiting {
        let jobs = self.waiting.iter().filter(|job| job.ticket.is_script == are_scripts);
        jobs.fold(Waiting::default(), |sum, job| Waiting { count: sum.count + 1, bytes: sum.bytes + job.bytes })
    }

    /// Whether nothing runs and nothing waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// Whether a script runs or waits.
    #[must_use]
    pub fn has_scripts(&self) -> bool {
        self.waiting(true).count > 0 || self.running.iter().any(|active| active.ticket.is_script)
    }

    /// How many run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Has a command wait for its turn.
    pub fn enqueue(&mut self, job: Job) {
        self.waiting.push_back(job);
    }

    /// Starts who is next, as long as there are places and `reserve` has room for another answer; `starting` hears of each before.
    /// Gives whether somebody waits for nothing but room.
    pub fn start(
        &mut self,
        mut reserve: impl FnMut() -> Option<Reservation>,
        mut starting: impl FnMut(&Ticket),
    ) -> bool {
        while self.running.len() < self.most_running {
            let Some(index) = self.waiting.iter().position(|job| self.may_start(job)) else { return false };
            let Some(room) = reserve() else { return true };
            let Some(job) = self.waiting.remove(index) else { return false };
            starting(&job.ticket);
            self.run(job, room);
        }
        false
    }

    fn may_start(&self, job: &Job) -> bool {
        job.exclusive.is_none() || self.running.iter().all(|active| active.exclusive != job.exclusive)
    }

    fn run(&mut self, job: Job, room: Reservation) {
        let (order, stop) = Stop::at(job.deadline);
        self.started += 1;
        let (number, reporter) = (self.started, self.reporter.clone());
        let running = (job.start)(stop.clone(), room.receipt());
        tokio::spawn(async move {
            let outcome = attend(running, &stop).await;
            // Whoever listened has ended, and with it the need for an answer.
            reporter.send((number, outcome)).ok();
        });
        self.running.push(Active { number, ticket: job.ticket, exclusive: job.exclusive, order, room });
    }

    /// Waits for the next command that is over, or whose time is over before it began. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Ended {
        loop {
            let first = self.waiting.iter().map(|job| job.deadline).min();
            let report = tokio::select! {
                report = self.reports.recv() => report,
                () = until(first) => None,
            };
            let ended = match report {
                Some((number, outcome)) => self.finish(number, outcome),
                None => self.expire(Instant::now()),
            };
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    fn finish(&mut self, number: u64, outcome: Outcome) -> Option<Ended> {
        let index = self.running.iter().position(|active| active.number == number)?;
        let Active { ticket, room, .. } = self.running.swap_remove(index);
        Some(Ended { ticket, outcome, room: Some(room) })
    }

    fn expire(&mut self, now: Instant) -> Option<Ended> {
        let index = self.waiting.iter().position(|job| job.deadline <= now)?;
        self.remove(
            index,
            "the time was over before the command's turn came; it never started",
            ErrorCode::CommandTimeout,
        )
    }

    fn remove(&mut self, index: usize, sentence: &str, code: ErrorCode) -> Option<Ended> {
        let job = self.waiting.remove(index)?;
        Some(Ended { ticket: job.ticket, outcome: CommandError::new(code, sentence).into(), room: None })
    }

    /// Takes a command back, or where no command has this id, a script. One that runs is told and answers by itself, one that waits has
    /// ended with this.
    pub fn cancel(&mut self, id: &str) -> Option<Ended> {
        for is_script in [false, true] {
            let is_meant = |ticket: &Ticket| ticket.is_script == is_script && ticket.name.id == id;
            if let Some(active) = self.running.iter().find(|active| is_meant(&active.ticket)) {
                active.order.give(StopReason::Cancelled);
                return None;
            }
            if let Some(index) = self.waiting.iter().position(|job| is_meant(&job.ticket)) {
                let sentence = "the host took the command back before its turn came; it never started";
                return self.remove(index, sentence, ErrorCode::CommandCancelled);
            }
        }
        None
    }

    /// Tells all who run that they must end, and gives those who wait back.
    pub fn shut_down(&mut self) -> Vec<Ended> {
        for active in &self.running {
            active.order.give(StopReason::ShuttingDown);
        }
        self.turn_away("the agent stops; the command never started")
    }

    /// Gives those who wait back.
    pub fn turn_away(&mut self, sentence: &str) -> Vec<Ended> {
        std::iter::from_fn(|| self.remove(0, sentence, ErrorCode::ShuttingDown)).collect()
    }
}

/// Sees a command to its end: what its deadline leaves of it is dropped, which ends what it started.
async fn attend(mut running: Running, stop: &Stop) -> Outcome {
    let reason = tokio::select! {
        outcome = &mut running => return outcome,
        reason = stop.reached() => reason,
    };
    match timeout(LAST_WORDS, running).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::stopped(reason),
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
