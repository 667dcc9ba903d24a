//! Changes that run below the agent, as all other programs do: where no systemd runs the machine.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{After, ChangeEnd, ChangeRunner, Order, RunningChange};
use crate::commands::outcome::CommandError;
use crate::commands::package_management::manager::Step;
use crate::commands::process_runner::{Ending, Finished, Program, ProgramRunner};
use crate::commands::stop::Stop;

/// From the end of a program's grace until nothing is left of it, with room to spare.
const KILLED_AFTER: Duration = Duration::from_secs(3);

/// How long a repair may take.
pub const REPAIR_TIME: Duration = Duration::from_secs(15 * 60);

/// Runs the program as all others run.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainRunner;

impl ChangeRunner for PlainRunner {
    /// In a task of its own: the turn is given back when all is over, whoever still waits for the answer.
    fn run(&self, programs: Arc<dyn ProgramRunner>, order: Order, stop: Stop) -> RunningChange {
        let Order { step, after, .. } = order;
        let running = tokio::spawn(run_and_repair(programs, step, after, stop));
        Box::pin(async move { running.await.unwrap_or_else(|_| Err(CommandError::defect())).map(ChangeEnd::Finished) })
    }
}

/// Runs the program of a change. One that ended as it should not is repaired; where it had to end, behind the answer.
pub async fn run_and_repair(
    programs: Arc<dyn ProgramRunner>,
    step: Step,
    after: After,
    stop: Stop,
) -> Result<Finished, CommandError> {
    let grace = step.program.grace;
    let mut finished = run(&*programs, step, stop).await?;
    match finished.ending {
        Ending::Exit(_) => {}
        Ending::Signal(_) | Ending::OutOfMemory => {
            if let Some(repair) = after.repair {
                tell(&mut finished, &mend(&*programs, repair).await);
            }
        }
        Ending::Stopped(_) => {
            // The answer does not wait for the repair, the next change does.
            tokio::spawn(async move {
                tokio::time::sleep(grace + KILLED_AFTER).await;
                if let Some(repair) = after.repair {
                    let mended = mend(&*programs, repair).await;
                    tracing::info!("{mended}");
                }
                drop(after.turn);
            });
        }
    }
    Ok(finished)
}

/// Runs the program of a change until it ends or must end.
pub async fn run(programs: &dyn ProgramRunner, step: Step, stop: Stop) -> Result<Finished, CommandError> {
    let finished = programs.run(step.program, stop).await;
    let mut finished = finished.map_err(|error| CommandError::failed(error.to_string()))?;
    if matches!(finished.ending, Ending::Exit(code) if step.fine.contains(&code)) {
        finished.ending = Ending::Exit(0);
    }
    Ok(finished)
}

/// Puts the database right. Gives what became of that, in one line.
pub async fn mend(programs: &dyn ProgramRunner, repair: Program) -> String {
    let line = repair.line();
    let (_order, stop) = Stop::at(Instant::now() + REPAIR_TIME);
    match programs.run(repair, stop).await {
        Ok(Finished { ending: Ending::Exit(0), .. }) => format!("infiniservice: \"{line}\" has put the database right"),
        Ok(Finished { ending, stderr, .. }) => {
            let words = stderr.text.trim();
            format!("infiniservice: \"{line}\" has not put the database right ({ending:?}): {words}")
        }
        Err(error) => format!("infiniservice: the database is not put right: {error}"),
    }
}

/// Puts a line at the end of a program's errors.
pub fn tell(finished: &mut Finished, line: &str) {
    let text = &mut finished.stderr.text;
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(line);
    text.push('\n');
}
