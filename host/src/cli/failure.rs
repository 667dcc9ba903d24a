use std::fmt;
use std::io;

use crate::config::ConfigError;
use crate::vm::RequestError;

/// Why the program ends without having done its work: a sentence that says what to do next, and an exit code (sysexits.h).
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// For people; fit for a terminal.
    pub message: String,
}

/// The command line is wrong.
pub const USAGE: u8 = 64;
/// There is no such socket or file.
pub const NO_INPUT: u8 = 66;
/// The agent does not answer, or what became of a command is not known.
pub const UNAVAILABLE: u8 = 69;
/// A defect or a failing system.
pub const SOFTWARE: u8 = 70;
/// The agent has no room now.
pub const TRY_LATER: u8 = 75;
/// The agent or the system refuses.
pub const NO_PERMISSION: u8 = 77;
/// The configuration or a secret cannot be used.
pub const CONFIG: u8 = 78;

/// The command's time was over (as timeout(1) says it).
pub const TIMED_OUT: u8 = 124;
/// Ended by Ctrl-C (as shells say it).
pub const CANCELLED: u8 = 130;

impl Failure {
    /// A failure with this exit code.
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The reader of the output left: the end of the work, not a failure of it.
    pub fn is_broken_pipe(error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::BrokenPipe
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let code = match error {
            ConfigError::UnknownName { .. } => NO_INPUT,
            ConfigError::NoVmId => USAGE,
            _ => CONFIG,
        };
        Self::new(code, error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(SOFTWARE, error.to_string())
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Self::new(SOFTWARE, error.to_string())
    }
}
