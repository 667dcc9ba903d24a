//! Somebody sets the guest's clock while a host is there.

use std::time::Duration;

use anyhow::ensure;
use infini_protocol::Timestamp;
use infini_protocol::agent::{AgentBody, AgentMessage};
use tokio::time::Instant;

use crate::host_side::{ANSWER_DEADLINE, HostSide};
use crate::report::Figures;
use crate::workbench::Workbench;

/// Ahead, and back, in seconds: further than a line may be out of its time.
const STEPS: [i64; 2] = [3600, -7200];

/// How far the event's time may be from the guest's, which is asked for a moment later.
const APART: Duration = Duration::from_secs(10);

/// The host is told at once, by the new time, and what it signs from then on is taken.
pub async fn is_told(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let mut host = bench.connect().await?;
    host.sample().await?;
    let mut moved = 0;
    let mut outcome = Ok(());
    for step in STEPS {
        moved += step;
        outcome = set(bench, &mut host, step, figures).await;
        if outcome.is_err() {
            break;
        }
    }
    bench.vm.run(&move_by(-moved)).await?;
    outcome
}

async fn set(bench: &Workbench, host: &mut HostSide, step: i64, figures: &mut Figures) -> anyhow::Result<()> {
    let started = Instant::now();
    bench.vm.run(&move_by(step)).await?;
    let told = host.wait_for("word of the clock", ANSWER_DEADLINE, event).await?;
    figures.note(format!("host told of a clock moved by {step} s"), format!("{} ms", started.elapsed().as_millis()));
    let now = bench.guest_time().await?;
    let apart = Duration::from_millis(now.unix_ms().abs_diff(told.unix_ms()));
    ensure!(apart < APART, "the event is of {told}, the guest has {now}");
    // The host signs by the new time, and is answered.
    host.sample().await.map(drop)
}

fn move_by(seconds: i64) -> String {
    format!("date -s @$(( $(date +%s) + {seconds} ))")
}

fn event(message: &AgentMessage) -> Option<Timestamp> {
    match &message.body {
        AgentBody::AgentEvent(event) if event.source == "clock" => Some(message.timestamp),
        _ => None,
    }
}
