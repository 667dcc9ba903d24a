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
                return Verdict::Stale { payload, reason };
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
mod tests {
    use super::*;

    const NOW: Moment = Moment { now_ms: 1_767_225_600_000, boot_ms: 1_767_225_500_000 };
    const ASK: &str = r#"{"type":"Metrics"}"#;

    fn key() -> Key {
        Key::new("0123456789abcdef").unwrap()
    }

    fn gate() -> Authenticator {
        Authenticator::new(Trust::Secret(key()), NonceJournal::in_memory())
    }

    fn signed(ts: u64, nonce: &str) -> Vec<u8> {
        envelope::seal(&key(), ts, nonce, ASK).unwrap().into_bytes()
    }

    #[test]
    fn a_fresh_signed_line_is_accepted_once() {
        let mut gate = gate();
        let line = signed(NOW.now_ms, "n-1");
        assert_eq!(gate.judge(&line, NOW), Verdict::Accepted { payload: ASK.to_owned() });
        assert_eq!(gate.judge(&line, NOW), Verdict::Replayed);
    }

    #[test]
    fn a_known_nonce_is_a_replay_under_another_time_too() {
        let mut gate = gate();
        gate.judge(&signed(NOW.now_ms, "n-1"), NOW);
        assert_eq!(gate.judge(&signed(NOW.now_ms + 1, "n-1"), NOW), Verdict::Replayed);
    }

    #[test]
    fn three_hundred_seconds_are_the_border() {
        for (ts, fresh) in [
            (NOW.now_ms + 299_000, true),
            (NOW.now_ms + 300_000, true),
            (NOW.now_ms + 300_001, false),
            (NOW.now_ms - 300_001, false),
        ] {
            let moment = Moment { boot_ms: 0, ..NOW };
            let verdict = gate().judge(&signed(ts, "n"), moment);
            assert_eq!(matches!(verdict, Verdict::Accepted { .. }), fresh, "{ts}: {verdict:?}");
        }
    }

    #[test]
    fn a_line_from_before_the_boot_is_stale() {
        let verdict = gate().judge(&signed(NOW.boot_ms - 1, "n"), NOW);
        assert!(
            matches!(&verdict, Verdict::Stale { reason, .. } if reason.contains("before this machine started")),
            "{verdict:?}"
        );
    }

    #[test]
    fn a_line_that_was_refused_for_its_time_cannot_come_back_when_its_time_has_come() {
        let mut gate = gate();
        let line = signed(NOW.now_ms + 400_000, "early");
        assert!(matches!(gate.judge(&line, NOW), Verdict::Stale { .. }));
        assert_eq!(gate.judge(&line, Moment { now_ms: NOW.now_ms + 400_000, ..NOW }), Verdict::Replayed);
    }

    #[test]
    fn without_a_secret_even_a_signed_line_is_refused() {
        let mut gate = Authenticator::new(Trust::Locked, NonceJournal::in_memory());
        assert!(matches!(gate.judge(&signed(NOW.now_ms, "n"), NOW), Verdict::Refused { .. }));
    }

    #[test]
    fn with_a_secret_an_unsigned_line_is_refused() {
        let verdict = gate().judge(ASK.as_bytes(), NOW);
        assert!(matches!(verdict, Verdict::Refused { .. }), "{verdict:?}");
    }

    #[test]
    fn where_everyone_is_trusted_signed_and_plain_lines_say_the_same() {
        let mut gate = Authenticator::new(Trust::Everyone, NonceJournal::in_memory());
        let accepted = Verdict::Accepted { payload: ASK.to_owned() };
        assert_eq!(gate.judge(ASK.as_bytes(), NOW), accepted);
        assert_eq!(gate.judge(&signed(NOW.now_ms, "n"), NOW), accepted);
    }
}
