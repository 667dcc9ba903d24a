//! What the agent says: one type a message, all in [`AgentBody`].

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::metrics::MetricsData;
use crate::parse::{self, ParseError, is_false, null_as_default};
use crate::{ErrorCode, Timestamp};

/// One line of the agent.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentMessage {
    /// The guest's own clock when the message was made: hosts learn from it how far the guest's clock is off.
    pub timestamp: Timestamp,
    /// What is said.
    pub body: AgentBody,
}

/// Every kind of message that the agent sends.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AgentBody {
    /// Who speaks, first on every connection.
    Handshake(Handshake),
    /// One sample of the machine.
    Metrics(Box<Metrics>),
    /// The answer to one command.
    Response(Box<Response>),
    /// The answer to `keep_alive_request`.
    KeepAlive(KeepAlive),
    /// A line that was not understood.
    Error(ErrorMessage),
    /// A communication error, told after a reconnect.
    ErrorReport(ErrorReport),
    /// Something that happened in the agent.
    AgentEvent(AgentEvent),
    /// Asks for the scripts that wait for this machine.
    RequestPendingScripts(RequestPendingScripts),
    /// The end of one script.
    ScriptCompletion(ScriptCompletion),
}

impl AgentMessage {
    /// Reads one line, without its `\n`.
    ///
    /// # Errors
    /// Where the line is not an object with a known `type` and the fields that this type demands.
    pub fn parse(line: &[u8]) -> Result<Self, ParseError> {
        #[derive(Deserialize)]
        struct Stamp {
            timestamp: Timestamp,
        }
        let (kind, line) = parse::head(line)?;
        let body = AgentBody::of(&kind, line)?;
        let Stamp { timestamp } = parse::fields(&kind, line)?;
        Ok(Self { timestamp, body })
    }
}

impl AgentBody {
    /// Reads what is said, whether a time stands beside it or not.
    ///
    /// # Errors
    /// As with [`AgentMessage::parse`].
    pub fn parse(line: &[u8]) -> Result<Self, ParseError> {
        let (kind, line) = parse::head(line)?;
        Self::of(&kind, line)
    }

    fn of(kind: &str, line: &str) -> Result<Self, ParseError> {
        Ok(match kind {
            "handshake" => Self::Handshake(parse::fields(kind, line)?),
            "metrics" => Self::Metrics(parse::fields(kind, line)?),
            "response" => Self::Response(parse::fields(kind, line)?),
            "keep_alive" => Self::KeepAlive(parse::fields(kind, line)?),
            "error" => Self::Error(parse::fields(kind, line)?),
            "error_report" => Self::ErrorReport(parse::fields(kind, line)?),
            "agent_event" => Self::AgentEvent(parse::fields(kind, line)?),
            "request_pending_scripts" => Self::RequestPendingScripts(parse::fields(kind, line)?),
            "script_completion" => Self::ScriptCompletion(parse::fields(kind, line)?),
            _ => return Err(parse::unknown(kind.to_owned())),
        })
    }
}

impl Serialize for AgentMessage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            #[serde(flatten)]
            body: &'a AgentBody,
            timestamp: Timestamp,
        }
        Line { body: &self.body, timestamp: self.timestamp }.serialize(serializer)
    }
}

/// `handshake`: who the agent is and what it can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshake {
    /// The machine, as the agent knows it. The host only compares it with what belongs to the socket.
    pub vm_id: String,
    /// The agent's version.
    pub version: String,
    /// `linux` or `windows`.
    pub platform: String,
    /// The processor architecture, as Rust names it (`x86_64`, `aarch64`).
    pub arch: String,
    /// The machine's host name.
    pub hostname: String,
    /// New at every boot of the machine.
    pub boot_id: String,
    /// New at every start of the agent.
    pub session_id: String,
    /// The highest protocol version that the agent speaks.
    pub protocol_version: u32,
    /// Names of what the agent can do beyond version 1.
    #[serde(default, deserialize_with = "null_as_default")]
    pub capabilities: Vec<String>,
}

/// `metrics`: one sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// The sample.
    pub data: MetricsData,
}

/// `response`: how a command went. A host that sent a command gets exactly one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// The command's id.
    pub id: String,
    /// Whether the command did what it was to do.
    pub success: bool,
    /// The program's exit code; 0 or 1 where no program ran, -1 where it has none.
    pub exit_code: i32,
    /// What the program printed.
    pub stdout: String,
    /// What the program printed to standard error.
    pub stderr: String,
    /// From receipt to answer, in milliseconds.
    pub execution_time_ms: u64,
    /// The action's name for a safe command, `unsafe` for a raw one.
    pub command_type: String,
    /// The action's structured result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// One sentence for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The word that goes with the sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<ErrorCode>,
    /// The middle of the output was left out to fit the line.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "is_false")]
    pub truncated: bool,
    /// The deadline ended it.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "is_false")]
    pub timed_out: bool,
    /// How the program ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// This is the kept answer to an id that was sent before.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "is_false")]
    pub duplicate: bool,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// By itself.
    Exit,
    /// By a signal that the agent did not send.
    Signal,
    /// By its deadline.
    Timeout,
    /// By the host's `cancel`.
    Cancelled,
    /// By its memory limit.
    OutOfMemory,
    /// In a way that a newer agent knows.
    #[serde(other)]
    Unknown,
}

/// `keep_alive`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepAlive {
    /// The number of the request.
    pub sequence_number: u64,
}

/// `error`: a received line that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorMessage {
    /// One sentence for people.
    pub error: String,
    /// The same for programs.
    pub details: ErrorDetails,
}

/// What exactly could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetails {
    /// The part of the agent that says so.
    pub component: String,
    /// The word for programs.
    pub error_code: ErrorCode,
    /// The cause.
    pub message: String,
    /// How many such errors were not sent one by one since the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
}

/// How bad a communication error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorSeverity {
    /// Passes by itself.
    Temporary,
    /// Passed after the agent did something.
    Recoverable,
    /// The agent gives up for good; a version 1 host closes the channel.
    Fatal,
    /// Not classified.
    #[serde(other)]
    Unknown,
}

/// `error_report`: a communication error that is over, told once the host can be reached again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReport {
    /// Such as `BROKEN_PIPE`.
    pub error_type: String,
    /// How bad it was.
    pub severity: ErrorSeverity,
    /// How many attempts the return took.
    pub retry_attempt: u32,
    /// How many there could have been; 0 where the agent never gives up.
    pub max_retries: u32,
    /// What a person can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery_suggestion: Option<String>,
    /// The machine.
    pub vm_id: String,
    /// On Windows the system's error number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows_error_code: Option<u32>,
}

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventSeverity {
    /// For developers.
    Debug,
    /// Worth a line in a history.
    Info,
    /// Worth a look.
    Warn,
    /// Something did not work.
    Error,
    /// As much as a newer agent says.
    #[serde(other)]
    Unknown,
}

/// `agent_event`: something that happened in the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentEvent {
    /// How much it matters.
    pub severity: EventSeverity,
    /// The part of the agent that it comes from.
    pub source: String,
    /// One sentence.
    pub message: String,
    /// The script that it belongs to.
    #[serde(rename = "executionId", skip_serializing_if = "Option::is_none")]
    pub execution_id: Option<String>,
    /// Figures that go with the sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Value>,
}

/// `request_pending_scripts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestPendingScripts {
    /// The machine that asks.
    pub vm_id: String,
    /// When it asks, by its own clock.
    pub request_timestamp: Timestamp,
}

/// `script_completion`: how a script went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptCompletion {
    /// The execution that the host asked for.
    pub execution_id: String,
    /// The script's exit code; 126 where it was not permitted.
    pub exit_code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it printed to standard error.
    pub stderr: String,
    /// Where in the guest its output was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_file: Option<String>,
}
