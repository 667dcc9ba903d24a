//! Messages into lines. No line over the limit is ever made.
//!
//! A message that fits is serialised once, straight into its line, and that is the common case. One that does not fit stops being
//! written at the limit; then what may be long in it is measured and cut, the longest first, and it is written again.
//!
//! Whatever limit of at least [`MIN_LIMIT`] is given, every [`AgentMessage`] can be cut to it.

pub(crate) mod fill;
mod lists;
mod message;
mod metrics;
mod output;
mod text;
mod writer;

use serde::Serialize;

use crate::agent::{AgentBody, AgentMessage};
pub use text::{escaped_bytes, head};
use writer::LineWriter;

/// The smallest limit that every message can be cut to.
pub const MIN_LIMIT: usize = 4 << 10;

/// A message that cannot be made to fit.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// Even cut as far as the protocol allows, the line is too long.
    #[error("the message takes {bytes} bytes, the line's limit is {limit}")]
    TooLong {
        /// What it would take.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The message holds something that JSON cannot say.
    #[error("the message cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// One line with its `\n`, of at most `limit` bytes before it.
///
/// Beyond cutting, it does what only the encoder does to `metrics`: keys that a version 1 host demands and that could not be
/// measured are filled with zeros, each beside an entry in `errors` ([`crate::metrics::MetricsData::without_filled`] undoes it).
///
/// # Errors
/// Where the message does not fit, which happens only with a limit under [`MIN_LIMIT`].
pub fn agent_line(mut message: AgentMessage, limit: usize) -> Result<Vec<u8>, EncodeError> {
    if let AgentBody::Metrics(metrics) = &mut message.body {
        fill::fill(&mut metrics.data);
        metrics::bound(&mut metrics.data);
    }
    let line = attempt(&message, limit)?;
    if let Some(line) = line.filter(|line| line.len() <= longest_uncut(&message.body, limit)) {
        return Ok(line);
    }
    match &message.body {
        AgentBody::Metrics(_) => metrics::fit(&mut message, limit)?,
        AgentBody::Response(_) | AgentBody::ScriptCompletion(_) => output::fit(&mut message, limit)?,
        _ => message::fit(&mut message, limit)?,
    }
    json_line(&message, limit)
}

/// Any JSON as one line with its `\n`, of at most `limit` bytes before it.
///
/// # Errors
/// Where it does not fit.
pub fn json_line(message: &impl Serialize, limit: usize) -> Result<Vec<u8>, EncodeError> {
    match attempt(message, limit)? {
        Some(line) => Ok(line),
        None => Err(EncodeError::TooLong { bytes: writer::json_bytes(message)?, limit }),
    }
}

/// The line, or nothing where it would be too long.
fn attempt(message: &impl Serialize, limit: usize) -> Result<Option<Vec<u8>>, EncodeError> {
    let mut writer = LineWriter::new(limit);
    match serde_json::to_writer(&mut writer, message) {
        Ok(()) => Ok(Some(writer.into_line())),
        // The writer has no other failure than being full.
        Err(error) if error.is_io() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Up to which length, `\n` included, a line surely needs no cut. Output has a share of its own within the line; a line
/// no longer than this share cannot hold more output than that.
fn longest_uncut(body: &AgentBody, limit: usize) -> usize {
    match body {
        AgentBody::Response(_) | AgentBody::ScriptCompletion(_) => output::share(limit),
        _ => limit + 1,
    }
}
