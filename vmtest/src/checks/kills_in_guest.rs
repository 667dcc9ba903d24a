//! infinihost is killed here or the agent in the guest, where systemd starts another, at random moments.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use infini_protocol::Timestamp;

use super::kills::{self, Place};
use crate::report::Figures;
use crate::workbench::Workbench;

/// Half of all kills.
pub async fn recover(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let kills = bench.args.kills / 2;
    let mut guest = Guest { socket: bench.vm.agent_socket() };
    kills::recover(bench, &mut guest, kills, figures).await
}

struct Guest {
    socket: PathBuf,
}

impl Place for Guest {
    const NAME: &'static str = "in the guest";

    fn socket(&self) -> &Path {
        &self.socket
    }

    async fn now(&self, bench: &Workbench) -> anyhow::Result<Timestamp> {
        bench.guest_time().await
    }

    async fn kill_agent(&mut self, bench: &Workbench) -> anyhow::Result<()> {
        // Not through systemctl: its request waits where systemd is busy, and the agent is not dead yet meanwhile.
        bench.vm.run("pkill -KILL -x infiniservice").await.context("there was no agent to kill").map(drop)
    }
}
