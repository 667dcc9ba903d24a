//! Between two ticks, with the host away, the agent sleeps.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::sleep;

use crate::report::Figures;
use crate::workbench::Workbench;

/// How long the guest watches; two ticks are 120 s apart.
const WATCHED: Duration = Duration::from_secs(60);

/// After its first sample the agent needs a moment to finish: answers of the system bus, the end of the connection.
const SETTLE: Duration = Duration::from_secs(5);

/// Counts voluntary context switches of every thread over a minute.
pub async fn wakes_for_nothing(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    // A tick is the smaller of the metrics interval and half the watchdog's time, so both are raised.
    bench.change_unit(&["WatchdogSec=0", "Environment=INFINISERVICE_INTERVAL=120s"]).await?;
    let counted = count(bench).await;
    bench.reset_unit().await?;
    let (before, after) = counted?;
    let sum: u64 =
        after.iter().map(|(thread, count)| count.saturating_sub(before.get(thread).copied().unwrap_or(0))).sum();
    figures.note("wake-ups in 60 s, host away", format!("{sum} over {} threads", after.len()));
    ensure!(sum == 0, "the agent woke up; voluntary switches by thread before {before:?}, after {after:?}");
    ensure!(before.keys().eq(after.keys()), "threads came or went: before {before:?}, after {after:?}");
    Ok(())
}

/// The counts of every thread at the minute's start and at its end.
async fn count(bench: &Workbench) -> anyhow::Result<(Switches, Switches)> {
    let mut host = bench.connect().await?;
    // What systemd was asked for must have come, or its answer would be counted.
    host.services_known().await?;
    drop(host);
    sleep(SETTLE).await;
    let pid = bench.agent_pid().await?;
    let count = format!("grep -H ^voluntary_ctxt_switches /proc/{pid}/task/*/status");
    // One line for all of it, so that nothing crosses the control channel meanwhile.
    let line = format!("{count}; echo then; sleep {}; {count}", WATCHED.as_secs());
    let output = bench.vm.run_for(WATCHED + Duration::from_secs(20), &line).await?;
    let (before, after) = output.split_once("then\n").context("the counts are incomplete")?;
    Ok((switches(before), switches(after)))
}

/// Voluntary context switches by thread.
type Switches = BTreeMap<String, u64>;

/// From lines like `/proc/7/task/8/status:voluntary_ctxt_switches: 12`.
fn switches(lines: &str) -> Switches {
    lines
        .lines()
        .filter_map(|line| {
            let (path, count) = line.split_once(":voluntary_ctxt_switches:")?;
            Some((path.split('/').nth(4)?.to_owned(), count.trim().parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_by_thread() {
        let lines =
            "/proc/7/task/7/status:voluntary_ctxt_switches:\t120\n/proc/7/task/19/status:voluntary_ctxt_switches:\t3\n";
        assert_eq!(switches(lines), [("19".to_owned(), 3), ("7".to_owned(), 120)].into());
    }
}
