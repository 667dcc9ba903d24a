use std::fmt;

use serde::{Deserialize, Serialize};

/// Why something did not happen, as a stable word that programs can act on. Each goes with a sentence for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum ErrorCode {
    /// There is no such device or port.
    DeviceNotFound,
    /// The device is there but cannot be used.
    ConnectionFailed,
    /// A line that is not a message.
    InvalidMessage,
    /// A line over the limit.
    MessageTooLarge,
    /// The command's time was over.
    CommandTimeout,
    /// The command ran and did not do its work.
    CommandFailed,
    /// The host ended the command.
    CommandCancelled,
    /// Wrong fields of a message that was understood otherwise.
    InvalidParameters,
    /// The guest's policy does not allow it.
    PermissionDenied,
    /// No action has this name.
    UnknownCommand,
    /// A queue, a lane or a budget is full; the same command may pass later.
    ResourceLimit,
    /// No service has this name.
    ServiceNotFound,
    /// No package has this name.
    PackageNotFound,
    /// No process has this id.
    ProcessNotFound,
    /// No user has this name.
    UserNotFound,
    /// The action exists, but not on this platform.
    UnsupportedPlatform,
    /// The signature, the time or the nonce of a line was not acceptable.
    AuthFailed,
    /// It ran; how it ended is not known.
    Interrupted,
    /// The agent is stopping and takes no more work.
    ShuttingDown,
    /// A defect of the agent.
    Internal,
    /// A code that a newer peer knows and this one does not.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}
