//! What the state machine hears.

use infini_protocol::host::{CommandName, HostMessage, Sessions};
use infini_protocol::metrics::MetricsData;

use crate::commands::executor::Unheard;
use crate::commands::ids::Digest;

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// A port was opened.
    PortOpened,
    /// A host is at the other end, and may be spoken to.
    HostAttached,
    /// The host went away; the port stays open.
    HostDetached,
    /// The port was open and is lost.
    PortLost(Trouble),
    /// A port could not be opened.
    PortUnavailable,
    /// The host says something, and may.
    Message(Box<Heard>),
    /// The host's line came to nothing.
    Rejected(Rejection),
    /// A sample was taken.
    Sample {
        /// The sample.
        data: Box<MetricsData>,
        /// Whether the host has taken the samples before.
        host_reads: bool,
    },
    /// The host reads again; so many samples were thrown away unsent in the meantime.
    SamplesDropped(u64),
    /// Somebody set the wall clock.
    ClockSet,
    /// This machine was cloned, or has gone back to a snapshot.
    NewGeneration {
        /// What the session that begins is called.
        session_id: String,
    },
    /// The loop's own time came, or that of a sample.
    Tick,
    /// The agent shall end.
    Stop,
}

/// A well signed, well formed message.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// What it says.
    pub message: HostMessage,
    /// Which processes it belongs to.
    pub sessions: Sessions,
    /// The SHA-256 of the payload that it came in.
    pub payload: Digest,
}

/// A communication error that is over once the host can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Such as `BROKEN_PIPE`.
    pub error_type: String,
    /// What a person can do.
    pub advice: Option<String>,
}

/// Why a line came to nothing.
#[derive(Debug)]
pub enum Rejection {
    /// It is longer than a line may be.
    TooLong {
        /// Its length.
        bytes: u64,
    },
    /// It is no message, or none that is known.
    NotAMessage {
        /// Which command it was for all that.
        unheard: Unheard,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody whom the agent knows wrote it.
    NotBelieved {
        /// Why not.
        reason: String,
    },
    /// It came before.
    Replayed,
    /// It is well signed but out of its time.
    Stale {
        /// Which command it was, if any.
        unheard: Unheard,
        /// Why.
        reason: String,
    },
    /// It is well signed, and so old that nobody can tell any more whether it came before.
    BelowFloor {
        /// Which command it was, if any.
        command: Option<CommandName>,
        /// Why.
        reason: String,
    },
}
