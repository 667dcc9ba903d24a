//! Where the programs of a change run.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::manager::Step;
use crate::commands::outcome::CommandError;
use crate::commands::process_runner::{Captured, Ending, Finished, Program, ProgramRunner, Usage};
use crate::commands::stop::Stop;

/// How long the runner takes to end what it was told to end, with room to spare.
const KILLED_AFTER: Duration = Duration::from_secs(5);

/// How long a repair may take.
const REPAIR_TIME: Duration = Duration::from_secs(15 * 60);

/// A change that is to run.
pub struct Order {
    /// Its programs, one after another until one fails.
    pub steps: Vec<Step>,
    /// What puts the database right after a kill.
    pub repair: Option<Program>,
    /// Held until all of it is over, the repair too.
    pub turn: OwnedMutexGuard<()>,
}

/// How a change ended. Where it had to end its programs end behind this answer.
pub type RunningChange = Pin<Box<dyn Future<Output = Result<Finished, CommandError>> + Send>>;

/// Runs changes.
pub trait ChangeRunner: Send + Sync {
    /// Runs a change until it ends or must end.
    fn run(&self, programs: Arc<dyn ProgramRunner>, order: Order, stop: Stop) -> RunningChange;
}

/// Runs the programs as all others run: below the agent.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainRunner;

impl ChangeRunner for PlainRunner {
    fn run(&self, programs: Arc<dyn ProgramRunner>, order: Order, stop: Stop) -> RunningChange {
        Box::pin(async move {
            let mut all = Finished {
                ending: Ending::Exit(0),
                stdout: Captured::default(),
                stderr: Captured::default(),
                usage: Usage::default(),
            };
            for step in order.steps {
                let finished = programs.run(step.program, stop.clone()).await;
                let finished = finished.map_err(|error| CommandError::failed(error.to_string()))?;
                append(&mut all.stdout, finished.stdout);
                append(&mut all.stderr, finished.stderr);
                all.ending = match finished.ending {
                    Ending::Exit(code) if step.fine.contains(&code) => Ending::Exit(0),
                    Ending::Exit(_) if step.may_fail => Ending::Exit(0),
                    ending => ending,
                };
                if all.ending != Ending::Exit(0) {
                    break;
                }
            }
            if matches!(all.ending, Ending::Stopped(_) | Ending::OutOfMemory | Ending::Signal(_)) {
                repair_behind(programs, order.repair, order.turn);
            }
            Ok(all)
        })
    }
}

fn append(all: &mut Captured, more: Captured) {
    all.text.push_str(&more.text);
    all.omitted += more.omitted;
}

/// The answer does not wait for the repair, the next change does.
fn repair_behind(programs: Arc<dyn ProgramRunner>, repair: Option<Program>, turn: OwnedMutexGuard<()>) {
    tokio::spawn(async move {
        tokio::time::sleep(KILLED_AFTER).await;
        let Some(repair) = repair else { return drop(turn) };
        let path = repair.path.display().to_string();
        let (_order, stop) = Stop::at(Instant::now() + REPAIR_TIME);
        match programs.run(repair, stop).await {
            Ok(Finished { ending: Ending::Exit(0), .. }) => tracing::info!(path, "packages were repaired after a kill"),
            Ok(finished) => {
                tracing::warn!(path, ending = ?finished.ending, output = finished.stderr.text, "the repair failed")
            }
            Err(error) => tracing::warn!(%error, "the repair did not start"),
        }
        drop(turn);
    });
}
