//! What is found: faults, and facts that the audit itself tells.

use std::fmt;

use infini_protocol::Timestamp;
use serde::Serialize;

use crate::commands::audit::storage::file_name;

/// Where something was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The name of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Which line of the file, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line_in_file: Option<u64>,
    /// The number that the line has, or must have had, in the audit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
}

/// What shows that the audit is not as the agent wrote it, or not all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fault {
    /// A line is not as it was written.
    Damaged,
    /// A line is longer than any may be.
    TooLong,
    /// Lines are missing before this one.
    LinesMissing {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// A line does not follow the one before it, though their numbers do.
    Replaced,
    /// A line's number was there already.
    OutOfOrder,
    /// A file begins with another line than its first.
    BeginningMissing,
    /// A file's first line is that of another file.
    OtherFile {
        /// The number of that file.
        number: u64,
    },
    /// Files are missing that no rotation removed.
    FilesMissing {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// A file ends within a line that nobody is writing.
    Cut {
        /// How many bytes of it are there.
        bytes: u64,
    },
    /// The host's line is another one here.
    HeadDiffers,
    /// The host's line is beyond the end.
    HeadBeyondEnd {
        /// The last line that is kept; 0 where there is none.
        last: u64,
    },
    /// The host's line is from before all that is kept.
    HeadNotKept {
        /// The first line that is kept.
        first: u64,
    },
    /// The host's line lies where lines are missing or damaged.
    HeadUnreadable,
}

/// What the audit tells of itself. Nothing of it is a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fact {
    /// A line was cut when the power went or the agent was killed; the agent dropped it and went on.
    Repaired {
        /// When the agent found it.
        time: Timestamp,
        /// How much of the line there was.
        dropped_bytes: u64,
    },
    /// Entries could not be written.
    EntriesMissing {
        /// When it could be told.
        time: Timestamp,
        /// How many.
        count: u64,
        /// Since when.
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<Timestamp>,
    },
    /// Older files were removed as the configuration bounds them.
    Rotated {
        /// The first line that is kept.
        first: u64,
    },
    /// The agent is writing the last line just now.
    BeingWritten,
}

/// For people: where.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line_in_file, self.line) {
            (Some(file), Some(at), Some(line)) => write!(f, "{file}:{at} (line {line} of the audit)"),
            (Some(file), Some(at), None) => write!(f, "{file}:{at}"),
            (Some(file), None, _) => f.write_str(file),
            (None, _, Some(line)) => write!(f, "line {line} of the audit"),
            (None, ..) => f.write_str("the audit"),
        }
    }
}

/// For people: what was found and what it means.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged => f.write_str("this line is not as it was written: somebody changed it, or the disk lost it"),
            Self::TooLong => f.write_str("this line is longer than any that the agent writes: somebody put it there"),
            Self::LinesMissing { from, to } if from == to => {
                write!(f, "line {from} is missing before this one: somebody took it out")
            }
            Self::LinesMissing { from, to } => {
                write!(f, "lines {from} to {to} are missing before this one: somebody took them out")
            }
            Self::Replaced => f.write_str(
                "this line was written after another one than the line before it: somebody changed that line, or this one",
            ),
            Self::OutOfOrder => {
                f.write_str("the number of this line was there already: lines were put in, doubled or put in another order")
            }
            Self::BeginningMissing => {
                f.write_str("the file begins with this line, which is not its first: somebody took out what was before it")
            }
            Self::OtherFile { number } => {
                write!(f, "this is the first line of {}: files were renamed or put together", file_name(*number))
            }
            Self::FilesMissing { from, to } if from == to => {
                f.write_str("this file is missing, and the agent did not remove it: somebody did")
            }
            Self::FilesMissing { to, .. } => {
                write!(f, "from this file to {} all are missing, and the agent did not remove them", file_name(*to))
            }
            Self::Cut { bytes: 0 } => {
                f.write_str("this file is empty and no agent is writing it: the power went when it began, or somebody emptied it")
            }
            Self::Cut { bytes } => write!(
                f,
                "the file ends within this line, after {bytes} bytes, and no agent is writing it: the power went, or somebody cut it"
            ),
            Self::HeadDiffers => f.write_str(
                "this line is not the one that the host heard of: the audit was written anew, or the host's value is another machine's",
            ),
            Self::HeadBeyondEnd { last: 0 } => {
                f.write_str("the host heard of this line, and there is no audit: somebody removed it")
            }
            Self::HeadBeyondEnd { last } => {
                write!(f, "the host heard of this line, and the audit ends with line {last}: somebody cut its end off")
            }
            Self::HeadNotKept { first } => write!(
                f,
                "the host's line is older than all that is kept, from line {first} on, and proves nothing: use a later value"
            ),
            Self::HeadUnreadable => f.write_str("the host's line is missing or damaged here, and proves nothing"),
        }
    }
}

/// For people: what the audit tells.
impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repaired { time, dropped_bytes } => write!(
                f,
                "at {time} the agent found a line cut after {dropped_bytes} bytes, as a power loss leaves one, and dropped it"
            ),
            Self::EntriesMissing { time, count, since: Some(since) } => {
                write!(
                    f,
                    "from {since} to {time} the audit could not be written, as on a full disk; {count} entries are missing"
                )
            }
            Self::EntriesMissing { time, count, since: None } => {
                write!(f, "until {time} the audit could not be written, as on a full disk; {count} entries are missing")
            }
            Self::Rotated { first } => {
                write!(f, "what was before line {first} is no longer kept, as audit.files and audit.file_bytes say")
            }
            Self::BeingWritten => f.write_str("the agent is writing this line just now"),
        }
    }
}
