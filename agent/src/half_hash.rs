//! Half of a SHA-256, for what has to be known again: 128 bits are more than chance and malice can match here, and half the memory.

use sha2::{Digest as _, Sha256};

/// The first half of a text's SHA-256.
pub type HalfHash = [u8; 16];

/// The half hash of a text.
#[must_use]
pub fn of(text: &str) -> HalfHash {
    let mut half = HalfHash::default();
    half.copy_from_slice(&Sha256::digest(text)[..16]);
    half
}

/// What a table goes by: a SHA-256 is as evenly spread as can be.
#[must_use]
pub fn spread(hash: &HalfHash) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}
