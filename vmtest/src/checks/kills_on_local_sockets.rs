//! The same with an agent on this very machine, behind a socket instead of a port: here kills come much closer together.

use std::path::Path;
use std::time::SystemTime;

use infini_protocol::Timestamp;

use super::kills::{self, Place};
use crate::local_agent::LocalAgent;
use crate::report::Figures;
use crate::workbench::Workbench;

/// The other half of all kills.
pub async fn recover(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let kills = bench.args.kills - bench.args.kills / 2;
    let mut agent = LocalAgent::start(bench)?;
    kills::recover(bench, &mut agent, kills, figures).await?;
    agent.stop().await
}

impl Place for LocalAgent {
    const NAME: &'static str = "on local sockets";

    fn socket(&self) -> &Path {
        &self.socket
    }

    async fn now(&self, _: &Workbench) -> anyhow::Result<Timestamp> {
        Ok(Timestamp::from_system_time(SystemTime::now()))
    }

    async fn kill_agent(&mut self, _: &Workbench) -> anyhow::Result<()> {
        self.kill_and_start_again().await
    }
}
