//! What goes over the control channel, one JSON object a line.

use serde::{Deserialize, Serialize};

/// The name of the virtio-serial port that carries it.
pub const PORT_NAME: &str = "org.infinibay.vmtest";

/// To the guest: run this.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// Comes back with the outcome.
    pub id: u64,
    /// For `sh -c`.
    pub line: String,
    /// When to kill it.
    pub timeout_seconds: u64,
}

/// From the guest.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    /// The guest's end has started.
    Hello {
        /// The kernel's name for this boot.
        boot_id: String,
    },
    /// A line has ended.
    Done {
        /// Of the request.
        id: u64,
        /// How it ended.
        outcome: Outcome,
    },
}

/// How a line ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The exit code; none where a signal ended it or it could not start.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it printed to standard error.
    pub stderr: String,
}
