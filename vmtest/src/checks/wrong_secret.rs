//! A host with another secret.

use std::time::Duration;

use anyhow::ensure;
use infini_protocol::ErrorCode;
use infini_protocol::agent::AgentBody;
use infini_protocol::envelope::Key;
use infini_protocol::host::{HostMessage, KeepAliveRequest};
use tokio::time::{Instant, timeout_at};

use crate::host_side::HostSide;
use crate::report::Figures;
use crate::tolerance::same;
use crate::workbench::Workbench;

/// The agent's own metrics interval here.
const INTERVAL: &str = "Environment=INFINISERVICE_INTERVAL=3s";

/// Several of its intervals, and shorter than the minute in which it may complain once.
const LISTEN: Duration = Duration::from_secs(12);

/// The first sample comes with the greeting, whatever the host says.
const SAMPLES: usize = 3;

const REQUESTS: u64 = 5;

/// Its requests are refused, with one complaint; what the agent sends by itself goes on.
pub async fn is_refused(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    bench.change_unit(&[INTERVAL]).await?;
    let outcome = listen(bench, figures).await;
    bench.reset_unit().await?;
    outcome
}

async fn listen(bench: &Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let until = Instant::now() + LISTEN;
    let mut host = HostSide::connect(&bench.vm.agent_socket(), &Key::new("not the secret")?, until).await?;
    for sequence_number in 1..=REQUESTS {
        host.send(&HostMessage::KeepAliveRequest(KeepAliveRequest { sequence_number }))?;
    }
    let (mut complaints, mut samples, mut answers) = (0, 0, 0);
    while let Ok(message) = timeout_at(until, host.next()).await {
        match message?.body {
            AgentBody::Error(error) if error.details.error_code == ErrorCode::AuthFailed => complaints += 1,
            AgentBody::Metrics(_) => samples += 1,
            AgentBody::KeepAlive(_) => answers += 1,
            _ => {}
        }
    }
    figures.note("5 requests with a wrong secret", format!("{complaints} complaint, {samples} samples sent unasked"));
    same("requests that were answered", answers, 0)?;
    same("complaints (AUTH_FAILED) within a minute", complaints, 1)?;
    ensure!(samples >= SAMPLES, "only {samples} samples came within {} s", LISTEN.as_secs());
    Ok(())
}
