//! Linux: signals, and systemd's notifications where systemd started the agent (sd_notify(3)).

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Order;

/// The connection to whoever started the agent.
#[derive(Debug)]
pub struct Supervisor {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Supervisor {
    /// Starts listening to signals. Needs a running Tokio runtime.
    ///
    /// # Errors
    /// Where the system gives no signal handler.
    pub fn connect() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next order. Cancel safe.
    pub async fn next_order(&mut self) -> Order {
        tokio::select! {
            _ = self.terminate.recv() => Order::Stop,
            _ = self.interrupt.recv() => Order::Stop,
            _ = self.hangup.recv() => Order::Reload,
        }
    }

    /// How long the agent may be silent before it is taken for hung; `None` where nobody watches.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero())
    }

    /// The loop runs.
    pub fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// The loop has made a full turn.
    pub fn alive(&self) {
        tell(&[NotifyState::Watchdog]);
    }

    /// What the agent does now, in half a sentence.
    pub fn status(&self, text: &str) {
        tell(&[NotifyState::Status(text)]);
    }

    /// The configuration is being read again; [`Supervisor::ready`] ends this.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(since) => tell(&[NotifyState::Reloading, since]),
            Err(error) => tracing::debug!(%error, "cannot tell systemd of the reload"),
        }
    }

    /// The agent ends.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    // Without NOTIFY_SOCKET this does nothing.
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "cannot reach systemd");
    }
}
