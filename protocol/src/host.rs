//! What the host says: one type a message, all in [`HostMessage`]. Each travels as the payload of a signed envelope.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Timestamp;
use crate::parse::{self, ParseError, null_as_default};

/// Every kind of message that a host sends.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type")]
pub enum HostMessage {
    /// Collect and send `metrics` now.
    Metrics {},
    /// Run an action with structured parameters.
    SafeCommand(SafeCommand),
    /// Run a raw command.
    UnsafeCommand(UnsafeCommand),
    /// Ask for a `keep_alive`.
    #[serde(rename = "keep_alive_request")]
    KeepAliveRequest(KeepAliveRequest),
    /// Noted only.
    #[serde(rename = "keep_alive_response")]
    KeepAliveResponse(KeepAliveResponse),
    /// The scripts that wait for this machine.
    #[serde(rename = "pending_scripts_response")]
    PendingScriptsResponse(PendingScriptsResponse),
    /// A version 2 host begins.
    #[serde(rename = "hello")]
    Hello(Hello),
    /// A version 2 host ends the negotiation.
    #[serde(rename = "handshake_ack")]
    HandshakeAck(HandshakeAck),
    /// End a running or queued command.
    #[serde(rename = "cancel")]
    Cancel(Cancel),
}

impl HostMessage {
    /// Reads one payload.
    ///
    /// # Errors
    /// Where it is not an object with a known `type` and the fields that this type demands.
    pub fn parse(payload: &[u8]) -> Result<Self, ParseError> {
        let (kind, payload) = parse::head(payload)?;
        Ok(match kind.as_str() {
            "Metrics" => Self::Metrics {},
            "SafeCommand" => Self::SafeCommand(parse::fields(&kind, payload)?),
            "UnsafeCommand" => Self::UnsafeCommand(parse::fields(&kind, payload)?),
            "keep_alive_request" => Self::KeepAliveRequest(parse::fields(&kind, payload)?),
            "keep_alive_response" => Self::KeepAliveResponse(parse::fields(&kind, payload)?),
            "pending_scripts_response" => Self::PendingScriptsResponse(parse::fields(&kind, payload)?),
            "hello" => Self::Hello(parse::fields(&kind, payload)?),
            "handshake_ack" => Self::HandshakeAck(parse::fields(&kind, payload)?),
            "cancel" => Self::Cancel(parse::fields(&kind, payload)?),
            _ => return Err(parse::unknown(kind)),
        })
    }

    /// The `id` of a payload that may be no message at all: what an answer to it must carry. A host that sent a command
    /// with wrong fields still waits for its one `response`.
    #[must_use]
    pub fn command_id(payload: &[u8]) -> Option<String> {
        #[derive(Deserialize)]
        struct Command {
            #[serde(rename = "type")]
            kind: String,
            id: String,
        }
        let command: Command = serde_json::from_str(parse::object(payload).ok()?).ok()?;
        matches!(command.kind.as_str(), "SafeCommand" | "UnsafeCommand").then_some(command.id)
    }
}

/// `SafeCommand`: an action with structured parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SafeCommand {
    /// The host's id for it; the one `response` carries it.
    pub id: String,
    /// What to do.
    pub command_type: Action,
    /// Older hosts put some fields here; only `ServiceControl` looks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub params: Option<Value>,
    /// The deadline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
}

/// An action's name and its fields, not yet checked against what the action takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// The name, such as `ServiceControl`.
    pub action: String,
    /// The other fields.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// `UnsafeCommand`: a raw command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnsafeCommand {
    /// The host's id for it; the one `response` carries it.
    pub id: String,
    /// The line to run.
    pub raw_command: String,
    /// `bash`, `sh`, `zsh`, `powershell`, `pwsh` or `cmd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// The deadline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// Where to run it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// What to add to its environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_vars: Option<BTreeMap<String, String>>,
    /// The user to run it as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as: Option<String>,
}

/// A command's `timeout` as it stands on the wire. What it holds is checked when it is asked for, so that a wrong one can be
/// answered with the command's id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeout(Value);

/// A `timeout` that is not a whole number of seconds above zero.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the timeout must be a whole number of seconds above 0, not {0}")]
pub struct InvalidTimeout(String);

impl Timeout {
    /// A timeout of that many seconds.
    #[must_use]
    pub fn from_secs(seconds: u64) -> Self {
        Self(seconds.into())
    }

    /// The time, counted from the command's receipt.
    ///
    /// # Errors
    /// Where it is zero, negative, fractional or no number.
    pub fn get(&self) -> Result<Duration, InvalidTimeout> {
        match self.0.as_u64() {
            Some(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
            _ => Err(InvalidTimeout(self.0.to_string())),
        }
    }
}

/// `keep_alive_request`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepAliveRequest {
    /// Comes back in the `keep_alive`.
    pub sequence_number: u64,
}

/// `keep_alive_response`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepAliveResponse {
    /// The number of the `keep_alive` that it answers.
    pub sequence_number: u64,
}

/// `pending_scripts_response`: scripts to run one after another in this order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PendingScriptsResponse {
    /// The scripts; none is an answer too.
    #[serde(default, deserialize_with = "null_as_default")]
    pub scripts: Vec<Script>,
}

/// A script that a host wants run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Script {
    /// Names this execution; never run twice in one boot.
    pub execution_id: String,
    /// Names the script.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script_id: Option<String>,
    /// The script's name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script_name: Option<String>,
    /// Its text.
    pub script_content: String,
    /// The shell in any case (`BASH`, `POWERSHELL`, `CMD`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// Why it runs now, in the host's words (such as `FIRST_BOOT`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_type: Option<String>,
    /// Values that the script asks for, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_values: Option<Value>,
    /// The deadline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<Timeout>,
    /// The user to run it as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as: Option<String>,
}

/// `hello`: a version 2 host begins a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// New at every start of the host side.
    pub host_session_id: String,
    /// The highest protocol version that the host speaks.
    pub protocol_version: u32,
    /// What the host can do beyond version 1.
    #[serde(default, deserialize_with = "null_as_default")]
    pub capabilities: Vec<String>,
}

/// `handshake_ack`: what is on from the next line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandshakeAck {
    /// The session of the `hello` before.
    pub host_session_id: String,
    /// The version that both speak.
    pub protocol_version: u32,
    /// The capabilities that are on: never one that only one side named.
    #[serde(default, deserialize_with = "null_as_default")]
    pub enabled: Vec<String>,
    /// The host side's version.
    pub host_version: String,
    /// The host's clock.
    pub time: Timestamp,
}

/// `cancel`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// The command to end.
    pub id: String,
}
