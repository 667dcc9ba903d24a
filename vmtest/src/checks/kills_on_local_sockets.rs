//! The same with an agent on this very machine, behind a socket instead of a port: here kills come much closer together.

use tokio::time::{Instant, sleep};

use super::kills::{LONGEST_PAUSE, Tally, Victim};
use crate::host_side::HostSide;
use crate::local_agent::LocalAgent;
use crate::report::Figures;
use crate::workbench::Workbench;

/// The other half of all kills.
pub async fn recover(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let mut tally = Tally::new("on local sockets");
    let mut agent = LocalAgent::start(bench)?;
    let deadline = Tally::deadline(Instant::now());
    let mut host = HostSide::connect(&agent.socket, &bench.key, deadline).await?;
    host.samples_until(deadline).await?;
    for _ in 0..bench.args.kills - bench.args.kills / 2 {
        sleep(bench.random.below(LONGEST_PAUSE)).await;
        let victim = if bench.random.coin() { Victim::Host } else { Victim::Agent };
        let killed = Instant::now();
        if victim == Victim::Agent {
            agent.kill_and_start_again().await?;
        }
        drop(host);
        host = HostSide::connect(&agent.socket, &bench.key, Tally::deadline(killed)).await?;
        let recovery = host.samples_until(Tally::deadline(killed)).await;
        tally.add(victim, killed, recovery.map(drop));
    }
    agent.stop().await?;
    tally.finish(figures)
}
