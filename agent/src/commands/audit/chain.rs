//! How a line is made and read: its number, the hash of the line before it and a check over itself.

use std::fmt;
use std::io;
use std::str::FromStr;

use infini_protocol::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::entry::{Body, TEXT_BYTES};

/// No line is longer: an entry's text and parameters are bounded as they stand in the line, and beside them are short names.
pub const MAX_LINE_BYTES: usize = TEXT_BYTES + (64 << 10);

/// So many hex digits of SHA-256 are a line's check over itself. It finds a damaged last line, which no later line vouches for.
const CHECK_DIGITS: usize = 16;
const CHECK_KEY: &[u8] = b",\"check\":\"";
const END: &[u8] = b"\"}\n";

/// The end of the chain: the number and the hash of its last line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The line's number; the first line has 1.
    pub line: u64,
    /// SHA-256 of the line with its `\n`, in hex.
    pub hash: String,
}

/// The text is no head.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not N:HASH, a line's number and 64 hex digits, as the host got them from the agent")]
pub struct InvalidHead(String);

impl Head {
    /// Before the first line.
    #[must_use]
    pub fn start() -> Self {
        Self { line: 0, hash: "0".repeat(64) }
    }

    /// The next line with this in it, and the head that it makes.
    pub(super) fn next(&self, time: Timestamp, body: &Body) -> io::Result<(Vec<u8>, Self)> {
        #[derive(Serialize)]
        struct Line<'a> {
            line: u64,
            time: Timestamp,
            #[serde(flatten)]
            body: &'a Body,
            previous: &'a str,
        }
        let number = self.line + 1;
        let mut line = serde_json::to_vec(&Line { line: number, time, body, previous: &self.hash })?;
        line.pop();
        let check = check(&line);
        line.extend_from_slice(CHECK_KEY);
        line.extend_from_slice(check.as_bytes());
        line.extend_from_slice(END);
        if line.len() > MAX_LINE_BYTES {
            return Err(io::Error::other("an entry is longer than a line of the audit may be"));
        }
        let hash = sha256(&line);
        Ok((line, Self { line: number, hash }))
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.hash)
    }
}

impl FromStr for Head {
    type Err = InvalidHead;

    fn from_str(text: &str) -> Result<Self, InvalidHead> {
        let invalid = || InvalidHead(text.to_owned());
        let (line, hash) = text.split_once(':').ok_or_else(invalid)?;
        let line = line.parse().ok().filter(|&line| line > 0).ok_or_else(invalid)?;
        if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(invalid());
        }
        Ok(Self { line, hash: hash.to_ascii_lowercase() })
    }
}

/// What a line says of the chain, and what it says of gaps in it.
#[derive(Debug, Deserialize)]
pub struct Link {
    /// Its number.
    pub line: u64,
    /// When it was written, by the machine's clock.
    pub time: Timestamp,
    /// The hash of the line before it.
    pub previous: String,
    /// What it is about.
    pub event: Event,
    /// In a file's first line: the file's number.
    pub file: Option<u64>,
    /// In a file's first line: the number of the oldest file that was kept then.
    pub oldest: Option<u64>,
    /// Where entries are missing: how many.
    pub count: Option<u64>,
    /// Where entries are missing: since when.
    pub since: Option<Timestamp>,
    /// Where a line was cut: how many bytes of it were dropped.
    pub dropped_bytes: Option<u64>,
}

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A file begins.
    File,
    /// A command that will run.
    Received,
    /// A command that will not.
    Refused,
    /// A command that came before.
    Repeated,
    /// A command is over.
    Ended,
    /// The file ended within a line.
    Repaired,
    /// Entries could not be written.
    Missing,
    /// What a newer agent writes.
    #[serde(other)]
    Other,
}

impl Link {
    /// Reads a line with its `\n`; nothing where it is not as it was written.
    #[must_use]
    pub fn read(line: &[u8]) -> Option<Self> {
        Self::examine(line).1
    }

    /// The line's hash, and what it says where it is as it was written. The bytes go through SHA-256 once.
    #[must_use]
    pub fn examine(line: &[u8]) -> (String, Option<Self>) {
        let (signed, tail) = line.split_at(line.len().saturating_sub(CHECK_KEY.len() + CHECK_DIGITS + END.len()));
        let so_far = Sha256::new_with_prefix(signed);
        let check = hex(&so_far.clone().finalize());
        let is_whole = tail.strip_prefix(CHECK_KEY).and_then(|rest| rest.strip_suffix(END))
            == Some(&check.as_bytes()[..CHECK_DIGITS]);
        let hash = hex(&so_far.chain_update(tail).finalize());
        (hash, is_whole.then(|| serde_json::from_slice(line).ok()).flatten())
    }
}

fn check(bytes: &[u8]) -> String {
    let mut check = sha256(bytes);
    check.truncate(CHECK_DIGITS);
    check
}

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}
