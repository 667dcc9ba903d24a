//! The wire between the InfiniService guest agent and its host: every message both sides speak, the line framing and
//! the signed envelope. No I/O, no clock, no operating system: both sides and every test can use it as it is.
//!
//! Where to look, by sentence of the protocol:
//!
//! | about | module |
//! | --- | --- |
//! | lines, their limit, skipping what is too long | [`framing`] |
//! | fitting a message into a line, what is cut first | [`encode`] |
//! | what the agent says | [`agent`], and its largest message in [`metrics`] |
//! | what the host says | [`host`] |
//! | the signed envelope, keys | [`envelope`] |
//! | error codes | [`ErrorCode`] |
//! | times | [`Timestamp`] |

pub mod agent;
pub mod encode;
pub mod envelope;
mod error_code;
pub mod framing;
pub mod host;
pub mod limits;
pub mod metrics;
mod number;
mod parse;
mod timestamp;

use std::sync::Arc;

pub use error_code::ErrorCode;
pub use number::{Finite, Percent};
pub use parse::ParseError;
pub use timestamp::Timestamp;

/// Text that is measured once and sent many times (a process's name, a mount point): cloning it allocates nothing.
pub type Text = Arc<str>;

/// The highest protocol version that this crate speaks.
pub const PROTOCOL_VERSION: u32 = 2;
