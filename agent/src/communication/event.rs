//! What the link tells the service.

use std::path::PathBuf;
use std::time::Duration;

use super::endpoint::Endpoint;
use super::error::LinkError;

/// The port that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortDescription {
    /// Where it is.
    pub endpoint: Endpoint,
    /// The name that the hypervisor gave it.
    pub name: Option<String>,
    /// Whether it belongs to somebody else: nothing is written before [`VirtioSerial::verified`](super::VirtioSerial::verified).
    pub borrowed: bool,
}

impl PortDescription {
    /// The path, where it has one.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.endpoint.path()
    }
}

/// What happened on the link.
#[derive(Debug)]
pub enum LinkEvent {
    /// A port is open; whether a host is there follows.
    Opened {
        /// Which one.
        port: PortDescription,
    },
    /// A host is there. With a tty nobody can know; this follows the opening.
    HostAttached,
    /// The host left and may come back; the port stays open.
    HostDetached,
    /// A line without its ending.
    Line {
        /// Its bytes.
        line: Vec<u8>,
        /// It may be the tail of one whose head went to somebody else: dropped in silence where it cannot be parsed.
        first_after_attach: bool,
    },
    /// A line over the limit was skipped.
    TooLong {
        /// Its length.
        bytes: u64,
    },
    /// The host reads again, and these lines were dropped in the meantime.
    Dropped {
        /// How many metrics lines.
        lines: u64,
    },
    /// There is the room for answers that [`VirtioSerial::tell_room`](super::VirtioSerial::tell_room) asked for.
    Room,
    /// The port is closed, and with it the host is away. The link looks for the next one by itself.
    Closed {
        /// Why.
        error: LinkError,
    },
    /// Nothing could be opened.
    Unavailable {
        /// Why.
        error: LinkError,
        /// When the next attempt comes by itself; a device that appears is taken at once.
        retry_in: Duration,
        /// Not the same failure as the one before: worth a line in the log.
        first: bool,
    },
}

/// Why a line was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// The answers lane is full; the line comes back.
    #[error("the host does not read: the answers that wait for it fill their lane")]
    Full(Vec<u8>),
    /// Metrics are not kept for a host that is away, or that has not proved itself on a borrowed port.
    #[error("no host is there to take metrics")]
    HostAway,
    /// The line is over the limit.
    #[error("the line has {0} bytes, more than the limit")]
    TooLong(usize),
}
