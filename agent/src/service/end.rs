//! The agent's own end: everything that it has taken is answered or left in order, and nothing can hold it for long.

use std::time::Duration;

use infini_protocol::agent::AgentBody;
use tokio::time::{Instant, timeout, timeout_at};

use super::InfiniService;
use crate::commands::process_runner::GRACE;
use crate::communication::Lane;

/// How long the agent waits at its end for the host to take what is still unsent.
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);

/// How long commands may take to answer at the agent's end, once they know of it.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// How long the agent waits at its end for its commands' processes: their grace, and what a kill takes. Its own end kills the rest.
const LAST_PROCESSES: Duration = Duration::from_secs(3);

/// How long the agent waits at its end for the disk to have the audit.
const LAST_SYNC: Duration = Duration::from_secs(5);

/// How long the agent listens at its end for what the host sent before it could know of that: while more comes, and at most.
const LATECOMERS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));

impl InfiniService {
    /// Ends what runs, writes what is left, and lets go.
    pub(super) async fn end(mut self) {
        self.supervisor.stopping();
        self.answer_latecomers().await;
        self.end_commands().await;
        let gone = timeout(LAST_PROCESSES, self.command_executor.end_programs(GRACE));
        let ((), gone) = tokio::join!(self.communication.shutdown(FLUSH_DEADLINE), gone);
        if gone.is_err() {
            tracing::warn!("processes of commands are left at the end of the agent");
        }
        let mut audit = self.command_executor.into_audit();
        if timeout(LAST_SYNC, tokio::task::spawn_blocking(move || audit.sync())).await.is_err() {
            tracing::warn!("the disk does not answer; the last lines of the audit may not survive a power loss");
        }
        tracing::info!("stopped");
    }

    /// Commands that have reached this process are answered `SHUTTING_DOWN`: no other process can ever answer them.
    async fn answer_latecomers(&mut self) {
        let (quiet, most) = LATECOMERS;
        let end = Instant::now() + most;
        while Instant::now() < end {
            match timeout(quiet, self.communication.next_event()).await {
                Ok(event) => self.link_event(event),
                Err(_) => return,
            }
        }
    }

    /// Who runs is told to end and answers by itself, who waits is answered here.
    pub(super) async fn end_commands(&mut self) {
        let waiting = self.command_executor.shut_down();
        waiting.into_iter().for_each(|answer| self.answer(answer));
        let end = Instant::now() + LAST_ANSWERS;
        while !self.command_executor.is_idle() {
            match timeout_at(end, self.command_executor.next()).await {
                Ok(answer) => answer.into_iter().for_each(|answer| self.answer(answer)),
                Err(_) => {
                    tracing::warn!("commands are left without an answer");
                    break;
                }
            }
        }
        let events = self.command_executor.take_events();
        for event in events.into_iter().chain(self.command_executor.close()) {
            self.send(Lane::Answer, AgentBody::AgentEvent(event));
        }
    }
}
