//! The signed envelope around every host message.
//!
//! The signature covers version, time, nonce and payload; the payload is the inner message as JSON text. This module proves who
//! wrote a line. Whether the line is fresh (its time, its nonce) is for the receiver, who has a clock and a memory.
//!
//! ```
//! use infini_protocol::envelope::{self, Key};
//!
//! let key = Key::new("0123456789abcdef").unwrap();
//! let line = envelope::seal(&key, 1_767_225_600_000, "n-1", r#"{"type":"Metrics"}"#).unwrap();
//! let opened = envelope::open(&key, line.as_bytes()).unwrap();
//! assert_eq!(opened.payload, r#"{"type":"Metrics"}"#);
//! ```

use std::borrow::Cow;
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::limits::MAX_NONCE_BYTES;
use crate::parse;

/// The envelope's only version.
const VERSION: u64 = 1;

/// A secret that both sides share, or a master secret that such secrets are derived from. Never printed; wiped when dropped.
#[derive(Clone)]
pub struct Key(Zeroizing<Vec<u8>>);

/// A secret without a single byte would let everyone in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret is empty")]
pub struct EmptySecret;

impl Key {
    /// The secret's bytes as provisioned: a secret in hex is used as its ASCII bytes.
    ///
    /// # Errors
    /// Where there is no byte.
    pub fn new(secret: impl AsRef<[u8]>) -> Result<Self, EmptySecret> {
        match secret.as_ref() {
            [] => Err(EmptySecret),
            bytes => Ok(Self(Zeroizing::new(bytes.to_vec()))),
        }
    }

    /// The secret as people keep one, in a file or a variable: one line end after it, which editors and `echo` add and nobody means, is
    /// not part of it. Both sides read it so.
    ///
    /// # Errors
    /// Where nothing is left.
    pub fn from_provisioned(bytes: &[u8]) -> Result<Self, EmptySecret> {
        let line = bytes.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        Self::new(line.unwrap_or(bytes))
    }

    /// The secret of one machine out of this master secret: the hex of HMAC-SHA256(master, vm_id).
    #[must_use]
    pub fn derive(&self, vm_id: &str) -> Self {
        let mut mac = self.mac();
        mac.update(vm_id.as_bytes());
        Self(Zeroizing::new(hex(&mac.finalize().into_bytes()).into_bytes()))
    }

    /// The secret's bytes, for whoever has to hand it to the other side.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    #[allow(
        clippy::expect_used,
        reason = "HMAC takes keys of every length; the error type is shared with ciphers that do not"
    )]
    fn mac(&self) -> Hmac<Sha256> {
        Hmac::new_from_slice(&self.0).expect("HMAC takes a key of any length")
    }

    fn signature(&self, ts: u64, nonce: &str, payload: &str) -> Hmac<Sha256> {
        let mut mac = self.mac();
        mac.update(format!("{VERSION}\n{ts}\n{nonce}\n").as_bytes());
        mac.update(payload.as_bytes());
        mac
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// What a line with a good signature held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// The signer's clock, in milliseconds since 1970.
    pub ts: u64,
    /// Unique among the signer's lines.
    pub nonce: Cow<'a, str>,
    /// The inner message, JSON text.
    pub payload: Cow<'a, str>,
}

/// Why a line is not a well signed envelope. The agent tells none of this to the sender: only that it was refused.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Not an envelope at all, or with fields of the wrong shape.
    #[error("the line is not a signed envelope: {0}")]
    Malformed(String),
    /// An envelope of a version that is not spoken here.
    #[error("the envelope's version {0} is not known")]
    UnknownVersion(u64),
    /// Signed with another key, or changed on its way.
    #[error("the signature does not fit the line")]
    WrongSignature,
    /// A nonce to sign with that no receiver would take.
    #[error("a nonce is 1 to {MAX_NONCE_BYTES} letters, digits or _ . : -")]
    InvalidNonce,
}

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    v: u64,
    ts: u64,
    #[serde(borrow)]
    nonce: Cow<'a, str>,
    #[serde(borrow)]
    payload: Cow<'a, str>,
    #[serde(borrow)]
    sig: Cow<'a, str>,
}

/// Wraps and signs a payload. The line has no `\n`.
///
/// # Errors
/// Where the nonce is not one.
pub fn seal(key: &Key, ts: u64, nonce: &str, payload: &str) -> Result<String, EnvelopeError> {
    if !is_nonce(nonce) {
        return Err(EnvelopeError::InvalidNonce);
    }
    let sig = hex(&key.signature(ts, nonce, payload).finalize().into_bytes());
    let envelope = Envelope {
        kind: "signed".into(),
        v: VERSION,
        ts,
        nonce: nonce.into(),
        payload: payload.into(),
        sig: sig.into(),
    };
    serde_json::to_string(&envelope).map_err(|error| EnvelopeError::Malformed(error.to_string()))
}

/// Checks a line's shape and signature, in constant time for the latter, and gives what it held.
///
/// # Errors
/// Where the line is malformed, of an unknown version or not signed with this key.
pub fn open<'a>(key: &Key, line: &'a [u8]) -> Result<Opened<'a>, EnvelopeError> {
    let envelope: Envelope<'a> = parse::object(line)
        .and_then(serde_json::from_str)
        .map_err(|error| EnvelopeError::Malformed(error.to_string()))?;
    if envelope.kind != "signed" {
        return Err(EnvelopeError::Malformed(format!("its type is {:?}, not \"signed\"", envelope.kind)));
    }
    if envelope.v != VERSION {
        return Err(EnvelopeError::UnknownVersion(envelope.v));
    }
    if !is_nonce(&envelope.nonce) {
        return Err(EnvelopeError::Malformed("its nonce is not one".to_owned()));
    }
    let sig =
        unhex(&envelope.sig).ok_or_else(|| EnvelopeError::Malformed("its sig is not 64 hex digits".to_owned()))?;
    // verify_slice compares in constant time.
    key.signature(envelope.ts, &envelope.nonce, &envelope.payload)
        .verify_slice(&sig)
        .map_err(|_| EnvelopeError::WrongSignature)?;
    Ok(Opened { ts: envelope.ts, nonce: envelope.nonce, payload: envelope.payload })
}

fn is_nonce(nonce: &str) -> bool {
    (1..=MAX_NONCE_BYTES).contains(&nonce.len())
        && nonce.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(bytes)
}
