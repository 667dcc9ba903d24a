//! Who may speak to the agent: every inbound line passes here before anything of it is looked at.
//!
//! [`secret`] finds the shared secret, [`replay`] remembers which lines were seen, [`audit`] keeps the evidence of what was not
//! believed. The clocks are the caller's.

pub mod audit;
pub mod replay;
pub mod secret;

use infini_protocol::envelope::{self, EnvelopeError, Key};
use infini_protocol::limits::MAX_CLOCK_SKEW_MS;

use replay::{NonceJournal, Seen};

/// What the agent believes of inbound lines.
#[derive(Clone, Debug)]
pub enum Trust {
    /// There is no secret: nothing is believed.
    Locked,
    /// Lines signed with this key are believed.
    Secret(Key),
    /// The configuration says that everyone is believed; then only reads run.
    Everyone,
}

/// The guest's clocks at the moment a line is judged, in milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Now.
    pub now_ms: u64,
    /// When this boot began, by the same clock.
    pub boot_ms: u64,
}

/// What became of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To be acted on.
    Accepted {
        /// The inner message.
        payload: String,
    },
    /// The signature was good, the time was not: nothing runs, but a command gets its answer.
    Stale {
        /// The inner message.
        payload: String,
        /// One sentence.
        reason: String,
    },
    /// The same of a line that is so old that it may have come before: whoever recorded it can send it again and again.
    BelowFloor {
        /// The inner message.
        payload: String,
        /// One sentence.
        reason: String,
    },
    /// Seen before; nobody is answered.
    Replayed,
    /// Nobody whom the agent knows wrote this.
    Refused {
        /// One sentence, without a hint for who guesses.
        reason: String,
    },
}

/// The gate for inbound lines.
#[derive(Debug)]
pub struct Authenticator {
    trust: Trust,
    journal: NonceJournal,
}

impl Authenticator {
    /// A gate with that trust and the memory of earlier lines.
    #[must_use]
    pub const fn new(trust: Trust, journal: NonceJournal) -> Self {
        Self { trust, journal }
    }

    /// What is believed now.
    #[must_use]
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Believes something else from now on, as after a reload. What was seen stays seen.
    pub fn set_trust(&mut self, trust: Trust) {
        self.trust = trust;
    }

    /// A host gives commands, and more will come: takes the memory for their lines now, so that it does not grow with them.
    pub fn take_memory(&mut self) {
        self.journal.take_memory();
    }

    /// Remembers only in memory from now on.
    pub fn stop_writing(&mut self) {
        self.journal.stop_writing();
    }

    /// Judges one line. A line that is accepted is remembered, on disk too, before this returns.
    pub fn judge(&mut self, line: &[u8], moment: Moment) -> Verdict {
        let key = match &self.trust {
            Trust::Locked => {
                return Verdict::Refused {
                    reason: "this agent has no secret, so it takes nothing from the host".to_owned(),
                };
            }
            Trust::Everyone => return Verdict::Accepted { payload: unsigned_payload(line) },
            Trust::Secret(key) => key,
        };
        let opened = match envelope::open(key, line) {
            Ok(opened) => opened,
            Err(error) => return Verdict::Refused { reason: refusal(&error) },
        };
        let payload = opened.payload.into_owned();
        match self.journal.admit(&opened.nonce, opened.ts) {
            Seen::Before => return Verdict::Replayed,
            Seen::BelowFloor => {
                let reason = "the line is older than what this agent can still tell from a replay".to_owned();
                return Verdict::BelowFloor { payload, reason };
            }
            Seen::New => {}
        }
        match staleness(opened.ts, moment) {
            Some(reason) => Verdict::Stale { payload, reason },
            None => Verdict::Accepted { payload },
        }
    }
}

fn staleness(ts: u64, moment: Moment) -> Option<String> {
    let apart = moment.now_ms.abs_diff(ts);
    if apart > MAX_CLOCK_SKEW_MS {
        let seconds = apart.div_ceil(1000);
        let side = if ts < moment.now_ms { "behind" } else { "ahead of" };
        return Some(format!("the line was signed {seconds} s {side} this machine's clock; 300 s are allowed"));
    }
    (ts < moment.boot_ms).then(|| "the line was signed before this machine started".to_owned())
}

/// What a line holds where nobody signs: the line itself, or the payload of an envelope that a host made all the same.
fn unsigned_payload(line: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Envelope {
        #[serde(rename = "type")]
        kind: String,
        payload: String,
    }
    match serde_json::from_slice::<Envelope>(line) {
        Ok(envelope) if envelope.kind == "signed" => envelope.payload,
        _ => String::from_utf8_lossy(line).into_owned(),
    }
}

fn refusal(error: &EnvelopeError) -> String {
    match error {
        EnvelopeError::WrongSignature => "the line is not signed with this machine's secret".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
