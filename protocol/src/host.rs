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

    /// Which command a payload is that may be no message at all: what an answer to it must carry. A host that sent a command
    /// with wrong fields still waits for its one `response`.
    #[must_use]
    pub fn command(payload: &[u8]) -> Option<CommandName> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(rename = "type")]
            kind: String,
            id: String,
        }
        #[derive(Deserialize)]
        struct Named {
            action: String,
        }
        #[derive(Deserialize)]
        struct Typed {
            command_type: Named,
        }
        let text = parse::object(payload).ok()?;
        let Head { kind, id } = serde_json::from_str(text).ok()?;
        let command_type = match kind.as_str() {
            "UnsafeCommand" => RAW_COMMAND_TYPE.to_owned(),
            // Read apart from the id, which must be found whatever stands here.
            "SafeCommand" => match serde_json::from_str::<Typed>(text) {
                Ok(typed) => typed.command_type.action,
                Err(_) => "unknown".to_owned(),
            },
            _ => return None,
        };
        Some(CommandName { id, command_type })
    }
}

/// What the `command_type` of an answer says where the command was a raw one.
pub const RAW_COMMAND_TYPE: &str = "unsafe";

/// What the answer to a command says of it, whatever became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandName {
    /// The host's id for it.
    pub id: String,
    /// The action, `unsafe` for a raw command, `unknown` where not even that can be read.
    pub command_type: String,
}

/// What a payload of protocol version 2 carries beside its message: which two processes speak.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// Of the host's process, as its `hello` announced it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_session_id: Option<String>,
    /// Of the agent's process, as its `handshake` told it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
}

impl Sessions {
    /// Reads them from a payload; one of version 1 has none.
    ///
    /// # Errors
    /// Where one of them is there and is no string: not to be taken for absent, which would be believed more.
    pub fn of(payload: &[u8]) -> Result<Self, ParseError> {
        let payload = parse::object(payload).map_err(ParseError::NotAnObject)?;
        parse::fields("signed", payload)
    }

    /// The payload that carries a message of these sessions.
    ///
    /// # Errors
    /// None that a message of this crate's types can cause.
    pub fn payload(&self, message: &HostMessage) -> serde_json::Result<String> {
        #[derive(Serialize)]
        struct Payload<'a> {
            #[serde(flatten)]
            message: &'a HostMessage,
            #[serde(flatten)]
            sessions: &'a Sessions,
        }
        match message {
            // These name the host's session themselves, and a `hello` begins another.
            HostMessage::Hello(_) => serde_json::to_string(message),
            HostMessage::HandshakeAck(_) => {
                let agent = Self { host_session_id: None, session_id: self.session_id.clone() };
                serde_json::to_string(&Payload { message, sessions: &agent })
            }
            _ => serde_json::to_string(&Payload { message, sessions: self }),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions() -> Sessions {
        Sessions { host_session_id: Some("h".to_owned()), session_id: Some("a".to_owned()) }
    }

    #[test]
    fn sessions_travel_beside_the_message() {
        let cancel = HostMessage::Cancel(Cancel { id: "7".to_owned() });
        let payload = sessions().payload(&cancel).unwrap();
        assert_eq!(payload, r#"{"type":"cancel","id":"7","host_session_id":"h","session_id":"a"}"#);
        assert_eq!(Sessions::of(payload.as_bytes()).unwrap(), sessions());
        assert_eq!(HostMessage::parse(payload.as_bytes()).unwrap(), cancel);
        let first_version = Sessions::default().payload(&HostMessage::Metrics {}).unwrap();
        assert_eq!(first_version, r#"{"type":"Metrics"}"#);
        assert_eq!(Sessions::of(first_version.as_bytes()).unwrap(), Sessions::default());
    }

    #[test]
    fn a_message_that_names_the_host_s_session_names_it_once() {
        let ack = HostMessage::HandshakeAck(HandshakeAck {
            host_session_id: "h".to_owned(),
            protocol_version: 2,
            enabled: Vec::new(),
            host_version: "1".to_owned(),
            time: Timestamp::from_unix_ms(0),
        });
        let payload = sessions().payload(&ack).unwrap();
        assert_eq!(payload.matches("host_session_id").count(), 1, "{payload}");
        assert_eq!(Sessions::of(payload.as_bytes()).unwrap(), sessions());
    }

    #[test]
    fn a_session_that_is_no_text_is_not_taken_for_none() {
        assert!(Sessions::of(br#"{"type":"Metrics","session_id":7}"#).is_err());
        assert!(Sessions::of(br#"{"type":"Metrics","session_id":null}"#).is_ok());
    }
}
