//! What became of a command, before it is a message.

use infini_protocol::ErrorCode;
use infini_protocol::agent::{Ended, Response};
use infini_protocol::host::CommandName;
use serde_json::{Map, Value, json};

use super::process_runner::{Ending, Finished, StartError, Usage};
use super::stop::StopReason;
use crate::collector::CollectFailure;

/// Why a command did not do what it was to do, for the host: a word and a sentence. What only the log should see is not in here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct CommandError {
    /// The word.
    pub code: ErrorCode,
    /// What happened, and what to do about it.
    pub sentence: String,
}

impl CommandError {
    /// An error.
    #[must_use]
    pub fn new(code: ErrorCode, sentence: impl Into<String>) -> Self {
        Self { code, sentence: sentence.into() }
    }

    /// Something in the agent has panicked.
    #[must_use]
    pub fn defect() -> Self {
        Self::new(ErrorCode::Internal, "a defect of the agent; its log has the place")
    }

    /// Whether the command had to end: because of its time, its host or the agent.
    #[must_use]
    pub const fn is_ordered_end(&self) -> bool {
        matches!(self.code, ErrorCode::CommandTimeout | ErrorCode::CommandCancelled | ErrorCode::ShuttingDown)
    }

    /// The command was run and failed.
    #[must_use]
    pub fn failed(sentence: impl Into<String>) -> Self {
        Self::new(ErrorCode::CommandFailed, sentence)
    }
}

impl From<CollectFailure> for CommandError {
    fn from(failure: CollectFailure) -> Self {
        Self::new(failure.code(), failure.to_string())
    }
}

/// The result of a command.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Of the program that ran; 0 or 1 where none did, -1 where it has none.
    pub exit_code: i32,
    /// What the program printed.
    pub stdout: String,
    /// What the program printed to standard error.
    pub stderr: String,
    /// The middle of the output is left out.
    pub truncated: bool,
    /// The structured result, in the shape that the protocol gives for the action.
    pub data: Option<Value>,
    /// Why it failed; absent where it did not.
    pub error: Option<CommandError>,
    /// How the program ended; absent where none ran.
    pub ended: Option<Ended>,
    /// It goes on without this process of the agent, and the next one answers: nothing else in here counts.
    pub is_handed_over: bool,
}

impl Outcome {
    /// Success with a structured result.
    #[must_use]
    pub fn data(data: Value) -> Self {
        Self { data: Some(data), ..Self::default() }
    }

    /// A command that had to end and had nothing to say about it.
    #[must_use]
    pub fn stopped(reason: StopReason) -> Self {
        let ended = match reason {
            StopReason::Deadline => Some(Ended::Timeout),
            StopReason::Cancelled | StopReason::ShuttingDown => Some(Ended::Cancelled),
        };
        Self { exit_code: -1, error: Some(reason.into()), ended, ..Self::default() }
    }

    /// With what a program printed and used.
    fn printed(self, finished: Finished) -> Self {
        Self {
            truncated: finished.stdout.omitted + finished.stderr.omitted > 0,
            stdout: finished.stdout.text,
            stderr: finished.stderr.text,
            data: finished.usage.to_json().map(|usage| json!({ "usage": usage })),
            ..self
        }
    }

    /// The answer that carries this.
    #[must_use]
    pub fn into_response(self, command: CommandName) -> Response {
        let CommandName { id, command_type } = command;
        let (error, error_code) = self.error.map(|error| (error.sentence, error.code)).unzip();
        Response {
            id,
            success: error.is_none(),
            exit_code: self.exit_code,
            stdout: self.stdout,
            stderr: self.stderr,
            execution_time_ms: 0,
            command_type,
            data: self.data,
            error,
            error_code,
            truncated: self.truncated,
            timed_out: self.ended == Some(Ended::Timeout) || error_code == Some(ErrorCode::CommandTimeout),
            ended: self.ended,
            duplicate: false,
        }
    }
}

impl Usage {
    /// As answers have it; absent where nothing is known.
    #[must_use]
    pub fn to_json(self) -> Option<Value> {
        let mut usage = Map::new();
        if let Some(time) = self.cpu_time {
            usage.insert("cpu_time_ms".to_owned(), u64::try_from(time.as_millis()).unwrap_or(u64::MAX).into());
        }
        if let Some(bytes) = self.memory_peak_bytes {
            usage.insert("memory_peak_bytes".to_owned(), bytes.into());
        }
        (!usage.is_empty()).then_some(Value::Object(usage))
    }
}

/// What a program came to. An exit code other than 0 is no error of the agent's: the host reads it.
impl From<Result<Finished, StartError>> for Outcome {
    fn from(finished: Result<Finished, StartError>) -> Self {
        let finished = match finished {
            Ok(finished) => finished,
            Err(error) => return CommandError::failed(error.to_string()).into(),
        };
        let (exit_code, ended, error) = match finished.ending {
            Ending::Exit(0) => (0, Ended::Exit, None),
            Ending::Exit(code) => {
                (code, Ended::Exit, Some(CommandError::failed(format!("it ended with exit code {code}"))))
            }
            Ending::Signal(signal) => {
                (128 + signal, Ended::Signal, Some(CommandError::failed(format!("signal {signal} ended it"))))
            }
            Ending::OutOfMemory => {
                let error = CommandError::failed("it took more memory than a command may have and was killed");
                (-1, Ended::OutOfMemory, Some(error))
            }
            Ending::Stopped(reason) => return Self::stopped(reason).printed(finished),
        };
        Self { exit_code, error, ended: Some(ended), ..Self::default() }.printed(finished)
    }
}

impl From<StopReason> for CommandError {
    fn from(reason: StopReason) -> Self {
        match reason {
            StopReason::Deadline => {
                Self::new(ErrorCode::CommandTimeout, "the time was over; what still ran is being killed")
            }
            StopReason::Cancelled => {
                Self::new(ErrorCode::CommandCancelled, "the host took the command back; it is being killed")
            }
            StopReason::ShuttingDown => {
                Self::new(ErrorCode::ShuttingDown, "the agent stops; the command is being killed")
            }
        }
    }
}

impl From<CommandError> for Outcome {
    fn from(error: CommandError) -> Self {
        Self { exit_code: 1, error: Some(error), ..Self::default() }
    }
}

impl From<Result<Value, CommandError>> for Outcome {
    fn from(result: Result<Value, CommandError>) -> Self {
        result.map_or_else(Self::from, Self::data)
    }
}
