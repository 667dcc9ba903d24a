use std::io;
use std::sync::Arc;
use std::time::Duration;

use infini_protocol::agent::{ErrorMessage, Handshake};
use serde::Serialize;
use tokio::time::Instant;

use super::Sample;

/// What a machine seems to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VmState {
    /// The socket is missing or refuses: QEMU does not run.
    #[default]
    Absent,
    /// Connected, and no valid message came in this connection: the guest starts, or has no agent, or another client is served.
    Booting,
    /// A valid message came within the last three intervals (at least 5 s).
    Ready,
    /// There were messages in this connection, but the last is older.
    Stale,
}

impl VmState {
    /// The state in one lower-case word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Booting => "booting",
            Self::Ready => "ready",
            Self::Stale => "stale",
        }
    }
}

/// A busy guest may be late by seconds whatever the interval.
const LEAST_PATIENCE: Duration = Duration::from_secs(5);

/// How soon an agent that takes what this host signs has answered: at once, and a busy guest within seconds.
pub const ANSWER_TIME: Duration = Duration::from_secs(5);

/// What became of what this host signed and sent in this connection. Samples alone show nothing: the agent sends them unasked, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Requests {
    /// Nothing was asked.
    #[default]
    None,
    /// Nothing was answered yet.
    Unanswered {
        /// Since the first of them.
        since: Instant,
    },
    /// The agent answered one, so it knows the secret.
    Taken,
}

/// What came in since the machine is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Connections that were made.
    pub connections: u64,
    /// Valid messages.
    pub messages: u64,
    /// Samples among them.
    pub samples: u64,
    /// Lines that were no message or too long.
    pub bad_lines: u64,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnection {
    /// For programs.
    pub kind: io::ErrorKind,
    /// For people.
    pub why: String,
}

/// Everything that is known of a machine.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// What the machine seems to do.
    pub state: VmState,
    /// Why there is no connection, where there is none.
    pub failure: Option<Disconnection>,
    /// How the agent introduced itself last.
    pub handshake: Option<Arc<Handshake>>,
    /// The latest sample; kept when the machine goes away, with its time.
    pub sample: Option<Arc<Sample>>,
    /// When the latest valid message came.
    pub heard: Option<Instant>,
    /// Bytes that came in this connection, valid or not.
    pub heard_bytes: u64,
    /// The guest's clock less the host's, in milliseconds.
    pub clock_offset_ms: Option<i64>,
    /// The `vm_id` that the guest says, where it is not the one that belongs to the socket.
    pub wrong_vm_id: Option<String>,
    /// The agent's latest complaint in this connection; not one that the guest's clock may explain and that has been answered by
    /// saying everything again.
    pub complaint: Option<Arc<ErrorMessage>>,
    /// Whether the agent takes what this host asks.
    pub requests: Requests,
    /// What came in.
    pub counters: Counters,
}

impl Status {
    /// A connection was made.
    pub(super) fn connected(&mut self) {
        self.state = VmState::Booting;
        self.failure = None;
        self.heard_bytes = 0;
        self.complaint = None;
        self.requests = Requests::None;
        self.counters.connections += 1;
    }

    /// Something was signed and sent that the agent answers.
    pub(super) fn asked(&mut self, now: Instant) {
        if self.requests == Requests::None {
            self.requests = Requests::Unanswered { since: now };
        }
    }

    /// Whether samples come although nothing that was asked was answered in time: the agent does not take what this host signs.
    #[must_use]
    pub fn is_unheard(&self, now: Instant) -> bool {
        self.unheard_at().is_some_and(|at| at <= now)
    }

    /// When that is so, if no answer comes.
    #[must_use]
    pub fn unheard_at(&self) -> Option<Instant> {
        match self.requests {
            Requests::Unanswered { since } if self.has_spoken() && self.sample.is_some() => Some(since + ANSWER_TIME),
            _ => None,
        }
    }

    /// Whether messages came in this connection.
    fn has_spoken(&self) -> bool {
        matches!(self.state, VmState::Ready | VmState::Stale)
    }

    /// The connection ended or could not be made.
    pub(super) fn disconnected(&mut self, failure: Disconnection) {
        self.state = VmState::Absent;
        self.failure = Some(failure);
    }

    /// A valid message came.
    pub(super) fn heard(&mut self, now: Instant) {
        self.state = VmState::Ready;
        self.heard = Some(now);
        self.counters.messages += 1;
    }

    /// When a ready machine becomes stale if nothing comes.
    pub(super) fn stale_at(&self, interval: Duration) -> Option<Instant> {
        let patience = (interval * 3).max(LEAST_PATIENCE);
        self.heard.filter(|_| self.state == VmState::Ready).map(|heard| heard + patience)
    }

    /// Time passed.
    pub(super) fn tick(&mut self, now: Instant, interval: Duration) {
        if self.stale_at(interval).is_some_and(|at| at <= now) {
            self.state = VmState::Stale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    #[test]
    fn a_machine_comes_and_goes() {
        let start = Instant::now();
        let mut status = Status::default();
        assert_eq!(status.state, VmState::Absent);
        status.connected();
        status.tick(start + INTERVAL * 100, INTERVAL);
        assert_eq!(status.state, VmState::Booting, "only a message ends booting");
        status.heard(start);
        status.tick(start + INTERVAL * 3 - Duration::from_millis(1), INTERVAL);
        assert_eq!(status.state, VmState::Ready);
        status.tick(start + INTERVAL * 3, INTERVAL);
        assert_eq!((status.state, status.stale_at(INTERVAL)), (VmState::Stale, None));
        status.heard(start + INTERVAL * 4);
        assert_eq!(status.state, VmState::Ready);
        status.disconnected(Disconnection { kind: io::ErrorKind::NotFound, why: "gone".to_owned() });
        assert_eq!(status.stale_at(INTERVAL), None);
        status.connected();
        assert_eq!(status.state, VmState::Booting, "a message of another connection says nothing about this one");
    }

    #[test]
    fn a_short_interval_has_some_patience() {
        let start = Instant::now();
        let mut status = Status::default();
        status.connected();
        status.heard(start);
        assert_eq!(status.stale_at(Duration::from_millis(100)), Some(start + LEAST_PATIENCE));
    }
}
