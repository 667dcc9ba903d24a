//! The host's connection is dropped, or the agent is killed in the guest and systemd starts another, at random moments.

use tokio::time::{Instant, sleep};

use super::kills::{LONGEST_PAUSE, Tally, Victim};
use crate::host_side::HostSide;
use crate::report::Figures;
use crate::workbench::Workbench;

/// Half of all kills.
pub async fn recover(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let mut tally = Tally::new("in the guest");
    let mut host = Some(bench.connect().await?);
    for _ in 0..bench.args.kills / 2 {
        sleep(bench.random.below(LONGEST_PAUSE)).await;
        let victim = if bench.random.coin() { Victim::Host } else { Victim::Agent };
        let killed = Instant::now();
        let recovery = kill_and_recover(bench, victim, &mut host, killed).await;
        tally.add(victim, killed, recovery);
    }
    tally.finish(figures)
}

async fn kill_and_recover(
    bench: &Workbench,
    victim: Victim,
    host: &mut Option<HostSide>,
    killed: Instant,
) -> anyhow::Result<()> {
    if victim == Victim::Agent {
        // Not through systemctl: its request waits where systemd is busy, and the agent is not dead yet meanwhile.
        bench.vm.run("pkill -KILL -x infiniservice").await?;
    } else {
        *host = None;
    }
    // QEMU serves one client at a time, so the old connection is closed before a new one is made.
    let mut side = match host.take() {
        Some(side) => side,
        None => bench.connect().await?,
    };
    side.samples_until(Tally::deadline(killed)).await?;
    *host = Some(side);
    Ok(())
}
