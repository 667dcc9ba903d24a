//! The keeper of one change: the agent's binary once more, in a unit of its own. It starts the package manager, ends it when its time is
//! over or when systemd says so, puts the database right after that, and leaves the result for whichever agent is there.

use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::records::{Records, from_boot_ms};
use crate::commands::package_management::change_runner::plain::{self, mend, tell};
use crate::commands::package_management::find;
use crate::commands::package_management::manager::PackageManager;
use crate::commands::process_runner::{Ending, ProgramRunner, Runner};
use crate::commands::stop::{Stop, StopReason};

/// The first argument that makes the agent's binary a keeper. The folder with the order follows.
pub const KEEP: &str = "__keep-change";

/// So much earlier than the agent the keeper ends the change: what it has printed by then is there when the agent answers.
const HEAD_START: Duration = Duration::from_millis(200);

/// Runs as a keeper where the command line says so, and gives the exit code.
#[must_use]
pub fn keep(arguments: &[OsString]) -> Option<u8> {
    let [_, first, folder] = arguments else { return None };
    if first != KEEP {
        return None;
    }
    match run(&Records::new(folder), Path::new("/")) {
        Ok(()) => Some(0),
        Err(error) => {
            eprintln!("infiniservice: the change of packages: {error}");
            Some(1)
        }
    }
}

fn run(records: &Records, root: &Path) -> io::Result<()> {
    let manager = find::manager(root).map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let told_to_end = async move {
            terminate.recv().await;
        };
        // No group of its own: what it starts as a service belongs to systemd, which sees to the rest.
        let programs = Runner::with_supervisors("/proc/self/exe");
        change(records, &*manager, &programs, told_to_end, async || programs.drain().await).await
    })
}

/// Runs the change of an order. `drained` waits until nothing is left of the programs that were started.
async fn change(
    records: &Records,
    manager: &dyn PackageManager,
    programs: &dyn ProgramRunner,
    told_to_end: impl Future<Output = ()> + Send + 'static,
    drained: impl AsyncFn(),
) -> io::Result<()> {
    let record = records.order()?.ok_or(io::ErrorKind::NotFound)?;
    let (order, stop) = Stop::at(deadline(from_boot_ms(record.deadline_ms)));
    tokio::spawn(async move {
        told_to_end.await;
        order.give(StopReason::Cancelled);
    });
    let finished = plain::run(programs, manager.change(&record.task.change), stop).await;
    let mut finished = finished.map_err(io::Error::other)?;
    records.end(&finished)?;
    drained().await;
    let is_torn = !matches!(finished.ending, Ending::Exit(_));
    if is_torn {
        tell(&mut finished, &mend(programs, manager.repair().program).await);
        records.end(&finished)?;
        drained().await;
    }
    Ok(())
}

/// A deadline so near that the head start would leave nothing stays as it is.
fn deadline(of_the_agent: Instant) -> Instant {
    let earlier = of_the_agent.checked_sub(HEAD_START).unwrap_or(of_the_agent);
    if earlier > Instant::now() { earlier } else { of_the_agent }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Programs, record, remove_tree};
    use super::*;
    use crate::commands::package_management::apt::Apt;

    async fn kept(programs: &Programs, told_to_end: impl Future<Output = ()> + Send + 'static) -> String {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(folder.path());
        records.begin(&record("unit", false)).unwrap();
        change(&records, &Apt, programs, told_to_end, async || ()).await.unwrap();
        let finished = records.result().unwrap().unwrap();
        format!("{:?}: {}{}", finished.ending, finished.stdout.text, finished.stderr.text)
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_that_ends_needs_no_repair() {
        let programs = Programs::default();
        assert_eq!(kept(&programs, std::future::pending()).await, "Exit(0): removed\n");
        assert_eq!(programs.lines(), [remove_tree().program.line()]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_systemd_ends_is_repaired_and_that_is_told() {
        let programs = Programs::hanging();
        let told = kept(&programs, async {}).await;
        assert!(told.starts_with("Stopped(Cancelled): removing\n"), "{told}");
        assert!(told.contains("--configure -a\" has put the database right"), "{told}");
    }

    #[tokio::test(start_paused = true)]
    async fn its_time_ends_before_the_agents() {
        let programs = Programs::hanging();
        let (started, now) = (Instant::now(), from_boot_ms(record("unit", false).deadline_ms));
        let told = kept(&programs, std::future::pending()).await;
        assert!(told.starts_with("Stopped(Deadline)"), "{told}");
        let early = now.duration_since(started).saturating_sub(started.elapsed());
        assert!(early >= HEAD_START / 2, "{early:?}");
    }

    #[test]
    fn other_command_lines_are_not_its_own() {
        let words = |line: &[&str]| line.iter().map(OsString::from).collect::<Vec<_>>();
        for line in [&["infiniservice"][..], &["infiniservice", "--once"], &["infiniservice", KEEP]] {
            assert_eq!(keep(&words(line)), None, "{line:?}");
        }
        assert_eq!(keep(&words(&["infiniservice", KEEP, "/nowhere/at/all"])), Some(1));
    }
}
