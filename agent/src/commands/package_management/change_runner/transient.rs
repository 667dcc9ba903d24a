//! Changes in a transient unit of systemd's own: outside of the agent's control group and sandbox, so that neither its limits nor its end
//! reach a package manager at work.
//!
//! In the unit the agent's binary runs again, as the keeper of the one change ([`keeper`]). The order lies in a file ([`records`]), the
//! result comes as one; so an agent that was started anew meanwhile, perhaps by the very change, finds both and answers.

mod keeper;
mod records;
#[cfg(test)]
mod tests;
mod units;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use infini_protocol::ErrorCode;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::plain::{REPAIR_TIME, mend, run_and_repair};
use super::{After, ChangeEnd, ChangeRunner, Left, Order, RunningChange, Unanswered};
use crate::commands::action::Origin;
use crate::commands::outcome::CommandError;
use crate::commands::package_management::manager::GRACE;
use crate::commands::policy::CHANGES_OF_PACKAGES;
use crate::commands::process_runner::{Captured, Ending, Finished, Program, ProgramRunner, Usage};
use crate::commands::stop::{Stop, StopReason};
use keeper::KEEP;
pub use keeper::keep;
use records::{Record, Records, from_boot_ms, to_boot_ms};
use units::{Over, Systemd, TransientUnit, Units};

/// What a keeper needs at most from its deadline to its end: the grace, the repair, and room to spare.
const LONGEST_END: Duration = Duration::from_secs(GRACE.as_secs() + REPAIR_TIME.as_secs() + 30);

/// Between two attempts to learn from systemd whether a unit is over, after its answers have failed: it may be starting itself anew.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// An adopted command whose time is over gets this much for its answer.
const LATE_ANSWER: Duration = Duration::from_secs(5);

/// Runs each change in a transient unit; where there is no systemd, or it refuses, below the agent.
#[derive(Clone)]
pub struct TransientRunner {
    records: Records,
    boot_id: String,
    /// The agent's binary.
    binary: PathBuf,
    units: Arc<dyn Units>,
}

impl TransientRunner {
    /// Runs changes by the systemd of this machine, with the records in `folder`. `binary` is the agent's.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, boot_id: &str, binary: PathBuf) -> Self {
        Self::with(folder, boot_id, binary, Arc::new(Systemd::default()))
    }

    fn with(folder: impl Into<PathBuf>, boot_id: &str, binary: PathBuf, units: Arc<dyn Units>) -> Self {
        Self { records: Records::new(folder), boot_id: boot_id.to_owned(), binary: replaced(binary), units }
    }

    /// Sees a change from its start to its end, whoever still waits for the answer.
    async fn attend(
        self,
        programs: Arc<dyn ProgramRunner>,
        order: Order,
        stop: Stop,
    ) -> Result<Finished, CommandError> {
        if let Some(reason) = stop.is_reached() {
            return Ok(nothing(Ending::Stopped(reason)));
        }
        let Order { step, after, .. } = &order;
        let unit = format!("{CHANGES_OF_PACKAGES}{}.service", to_boot_ms(Instant::now()));
        tracing::info!(unit, program = step.program.line(), "packages are changed");
        let over = match self.begin(&unit, &order, &stop).await {
            Ok(over) => over,
            Err(reason) => {
                tracing::debug!(reason, "the change runs below the agent");
                self.clear();
                let Order { step, after, .. } = order;
                return run_and_repair(programs, step, after, stop).await;
            }
        };
        let repair = after.repair.clone();
        self.finish(programs, over, &unit, stop.deadline(), repair).await
        // Only now the turn goes, with the order.
    }

    /// Has the unit start. What fails here has changed nothing.
    async fn begin(&self, unit: &str, order: &Order, stop: &Stop) -> Result<Over, String> {
        let record = Record {
            boot_id: self.boot_id.clone(),
            unit: unit.to_owned(),
            origin: (*order.origin).clone(),
            received_ms: to_boot_ms(order.origin.received),
            deadline_ms: to_boot_ms(stop.deadline()),
            is_answered: false,
            task: order.task.clone(),
        };
        self.records.begin(&record).map_err(|error| format!("{}: {error}", self.records.folder().display()))?;
        let unit = TransientUnit {
            name: unit.to_owned(),
            description: format!("InfiniService: {}", order.step.program.line()),
            path: self.binary.clone(),
            arguments: vec![KEEP.to_owned(), self.records.folder().to_string_lossy().into_owned()],
            stop_time: LONGEST_END,
        };
        self.units.start(unit).await.map_err(|error| error.to_string())
    }

    /// Waits for the end of a unit, and takes the result in.
    async fn finish(
        &self,
        programs: Arc<dyn ProgramRunner>,
        over: Over,
        unit: &str,
        deadline: Instant,
        repair: Option<Program>,
    ) -> Result<Finished, CommandError> {
        let mut over = over.await;
        while let Err(error) = over {
            if Instant::now() > deadline + LONGEST_END {
                tracing::warn!(unit, %error, "systemd does not tell whether a change of packages is over; taken for it");
                break;
            }
            sleep(ASK_AGAIN).await;
            over = self.units.over(unit.to_owned()).await;
        }
        let result = self.records.result();
        self.clear();
        match result {
            Ok(Some(finished)) => Ok(finished),
            Ok(None) | Err(_) => Err(interrupted(&*programs, repair).await),
        }
    }

    fn clear(&self) {
        if let Err(error) = self.records.clear() {
            tracing::warn!(%error, folder = %self.records.folder().display(), "cannot remove the records of a change");
        }
    }

    /// Waits for a change that is attended elsewhere, as long as its command may take.
    async fn wait(
        self,
        mut attending: JoinHandle<Result<Finished, CommandError>>,
        stop: Stop,
    ) -> Result<ChangeEnd, CommandError> {
        let reason = tokio::select! {
            biased;
            end = &mut attending => return ended(end),
            reason = stop.reached() => reason,
        };
        match reason {
            // Below the agent it hears of the stop itself.
            _ if !self.records.has_order() => return ended(attending.await),
            StopReason::ShuttingDown => {
                // Whoever is next finds the records as they are now.
                attending.abort();
                return Ok(ChangeEnd::HandedOver);
            }
            StopReason::Deadline | StopReason::Cancelled => {}
        }
        let unit = self.mark_answered();
        let so_far = self.records.result().ok().flatten().unwrap_or_else(|| nothing(Ending::Stopped(reason)));
        if !matches!(so_far.ending, Ending::Stopped(_)) {
            return Ok(ChangeEnd::Finished(so_far));
        }
        // The keeper knows the deadline itself.
        if let (StopReason::Cancelled, Some(unit)) = (reason, unit) {
            self.terminate(unit);
        }
        Ok(ChangeEnd::Finished(Finished { ending: Ending::Stopped(reason), ..so_far }))
    }

    /// Has no other process of the agent answer. Gives the unit.
    fn mark_answered(&self) -> Option<String> {
        let marked = self.records.order().and_then(|record| {
            let record = record.ok_or(io::ErrorKind::NotFound)?;
            let answered = Record { is_answered: true, ..record };
            self.records.update(&answered)?;
            Ok(answered.unit)
        });
        let failed = |error: &io::Error| {
            tracing::warn!(%error, "cannot write down that a change has its answer; a restart of the agent might give another");
        };
        marked.inspect_err(failed).ok()
    }

    fn terminate(&self, unit: String) {
        let terminate = self.units.terminate(unit);
        tokio::spawn(async move {
            if let Err(error) = terminate.await {
                tracing::warn!(%error, "cannot end a change of packages before its time");
            }
        });
    }

    /// The order of a process before this one, where it is one of this boot.
    fn found(&self) -> Option<Record> {
        match self.records.order() {
            Ok(Some(record)) if record.boot_id == self.boot_id => Some(record),
            Ok(None) => None,
            Ok(Some(record)) => {
                tracing::warn!(id = record.origin.id, "a change of packages was cut off by the end of the boot");
                self.clear();
                None
            }
            Err(error) => {
                tracing::warn!(%error, folder = %self.records.folder().display(), "the record of a change cannot be read");
                self.clear();
                None
            }
        }
    }
}

impl ChangeRunner for TransientRunner {
    fn run(&self, programs: Arc<dyn ProgramRunner>, order: Order, stop: Stop) -> RunningChange {
        let this = self.clone();
        Box::pin(async move {
            let attending = tokio::spawn(this.clone().attend(programs, order, stop.clone()));
            this.wait(attending, stop).await
        })
    }

    fn left(&self) -> Option<Left> {
        let record = self.found()?;
        tracing::info!(
            unit = record.unit,
            id = record.origin.id,
            "a change of packages was left by an agent before this one"
        );
        let deadline = from_boot_ms(record.deadline_ms);
        let unanswered = (!record.is_answered).then(|| Unanswered {
            origin: Arc::new(Origin { received: from_boot_ms(record.received_ms), ..record.origin.clone() }),
            task: record.task.clone(),
            deadline: deadline.max(Instant::now() + LATE_ANSWER),
        });
        let this = self.clone();
        let wait = move |programs: Arc<dyn ProgramRunner>, after: After, stop: Stop| -> RunningChange {
            Box::pin(async move {
                let attending = this.clone();
                let attending = tokio::spawn(async move {
                    let over = attending.units.over(record.unit.clone());
                    let finished = attending.finish(programs, over, &record.unit, deadline, after.repair).await;
                    drop(after.turn);
                    finished
                });
                this.wait(attending, stop).await
            })
        };
        Some(Left { unanswered, wait: Box::new(wait) })
    }
}

fn ended(end: Result<Result<Finished, CommandError>, tokio::task::JoinError>) -> Result<ChangeEnd, CommandError> {
    end.unwrap_or_else(|_| Err(CommandError::defect())).map(ChangeEnd::Finished)
}

/// What is said where a keeper has ended without a word: somebody has killed it.
async fn interrupted(programs: &dyn ProgramRunner, repair: Option<Program>) -> CommandError {
    let repaired = match repair {
        Some(repair) => format!(". {}", mend(programs, repair).await),
        None => String::new(),
    };
    let sentence = format!(
        "the change of packages was cut off, and how far it came is not known; PackageList tells what is installed{repaired}"
    );
    CommandError::new(ErrorCode::Interrupted, sentence)
}

fn nothing(ending: Ending) -> Finished {
    Finished { ending, stdout: Captured::default(), stderr: Captured::default(), usage: Usage::default() }
}

/// Where the file has been replaced since the process started, as by an upgrade, the kernel marks its name (proc_pid_exe(5)). The new one
/// understands the order, too.
fn replaced(binary: PathBuf) -> PathBuf {
    match binary.to_str().and_then(|path| path.strip_suffix(" (deleted)")) {
        Some(path) => Path::new(path).to_owned(),
        None => binary,
    }
}
