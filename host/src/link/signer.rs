use infini_protocol::Timestamp;
use infini_protocol::envelope::{self, Key};

use super::SendError;

/// Signs the host's messages. Its nonces are unique: 128 random bits that name this signer, and a counter.
#[derive(Debug)]
pub struct Signer {
    key: Key,
    prefix: String,
    count: u64,
}

impl Signer {
    pub fn new(key: Key) -> Result<Self, getrandom::Error> {
        Ok(Self { key, prefix: random_name()?, count: 0 })
    }

    /// How many lines it has signed.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The payload in its signed envelope, as one line with its `\n`.
    pub fn seal(&mut self, payload: &str, ts: Timestamp) -> Result<Vec<u8>, SendError> {
        self.count += 1;
        let mut line =
            envelope::seal(&self.key, ts.unix_ms(), &format!("{}-{}", self.prefix, self.count), payload)?.into_bytes();
        line.push(b'\n');
        Ok(line)
    }
}

/// 128 random bits in hex: a name that nobody else has and nobody guesses.
pub fn random_name() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
