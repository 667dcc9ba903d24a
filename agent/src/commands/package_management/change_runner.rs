//! Where the program of a change runs.

mod plain;
#[cfg(target_os = "linux")]
mod transient;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::manager::Step;
use super::task::Task;
use crate::commands::action::Origin;
use crate::commands::outcome::CommandError;
use crate::commands::process_runner::{Finished, Program, ProgramRunner};
use crate::commands::stop::Stop;
pub use plain::PlainRunner;
#[cfg(target_os = "linux")]
pub use transient::{TransientRunner, keep};

/// A change that is to run.
pub struct Order {
    /// The host's command that asked for it.
    pub origin: Arc<Origin>,
    /// What is to change, and what was there before.
    pub task: Task,
    /// The program that changes it.
    pub step: Step,
    /// What comes after it.
    pub after: After,
}

/// What comes after a change that had to end.
pub struct After {
    /// What puts the database right after a kill.
    pub repair: Option<Program>,
    /// Held until all of it is over, the repair too.
    pub turn: OwnedMutexGuard<()>,
}

/// What became of a change.
#[derive(Debug)]
pub enum ChangeEnd {
    /// Its program has ended, or had to; what still runs of it ends behind this.
    Finished(Finished),
    /// The agent stops, and the change goes on without it. The next process of the agent answers.
    HandedOver,
}

/// A change at work. Dropping it leaves the change to itself, which ends in its time.
pub type RunningChange = Pin<Box<dyn Future<Output = Result<ChangeEnd, CommandError>> + Send>>;

/// Runs changes.
pub trait ChangeRunner: Send + Sync {
    /// Runs a change until it ends or must end.
    fn run(&self, programs: Arc<dyn ProgramRunner>, order: Order, stop: Stop) -> RunningChange;

    /// What a process of the agent before this one has begun. Asked once, before anything else is.
    fn left(&self) -> Option<Left> {
        None
    }
}

/// A change that a process of the agent before this one has begun.
pub struct Left {
    /// The command that asked for it, where that still waits for its answer.
    pub unanswered: Option<Unanswered>,
    /// Waits for its end.
    pub wait: Wait,
}

/// Waits for a change that was begun elsewhere, as long as a stop lets it.
pub type Wait = Box<dyn FnOnce(Arc<dyn ProgramRunner>, After, Stop) -> RunningChange + Send>;

/// A command without an answer.
#[derive(Clone, Debug)]
pub struct Unanswered {
    /// Which.
    pub origin: Arc<Origin>,
    /// What it is to change, and what was there before.
    pub task: Task,
    /// When it must have its answer.
    pub deadline: Instant,
}
