//! From a line to what the state machine hears of it.

use infini_protocol::ParseError;
use infini_protocol::host::{HostMessage, Sessions};

use super::state::{Heard, Input, Rejection};
use crate::auth::{Authenticator, Moment, Trust, Verdict};
use crate::commands::executor::Unheard;
use crate::commands::ids::{Digest, digest};

/// What became of a line.
#[derive(Debug)]
pub struct Judged {
    /// Whether the line shows that our host is at the other end, whatever else is wrong with it.
    pub proves_host: bool,
    /// What to hear of it; nothing where it is to be passed over in silence.
    pub input: Option<Input>,
}

/// Judges a line and reads it.
pub fn judge(authenticator: &mut Authenticator, line: &[u8], first_after_attach: bool, moment: Moment) -> Judged {
    if !is_object(line) {
        // After a connection the first line may be the tail of one that was meant for nobody here.
        let reason = "it is not a JSON object".to_owned();
        let rejection = Rejection::NotAMessage { unheard: Unheard::default(), reason };
        let input = (!first_after_attach).then_some(Input::Rejected(rejection));
        return Judged { proves_host: false, input };
    }
    let verdict = authenticator.judge(line, moment);
    let signed = matches!(authenticator.trust(), Trust::Secret(_));
    let proves_host = signed && !matches!(verdict, Verdict::Refused { .. });
    let input = match verdict {
        Verdict::Accepted { payload } => Some(message(payload.as_bytes())),
        Verdict::Stale { payload, reason } => {
            let unheard = Unheard::in_payload(payload.as_bytes());
            Some(Input::Rejected(Rejection::Stale { unheard, reason }))
        }
        Verdict::BelowFloor { payload, reason } => {
            let command = HostMessage::command(payload.as_bytes());
            Some(Input::Rejected(Rejection::BelowFloor { command, reason }))
        }
        Verdict::Replayed => Some(Input::Rejected(Rejection::Replayed)),
        Verdict::Refused { reason } => Some(Input::Rejected(Rejection::NotBelieved { reason: brief(reason) })),
    };
    Judged { proves_host, input }
}

fn message(payload: &[u8]) -> Input {
    let heard = HostMessage::parse(payload).and_then(|message| Ok((message, Sessions::of(payload)?)));
    match heard {
        Ok((message, sessions)) => {
            let payload = digest_of_message(payload, &sessions);
            Input::Message(Box::new(Heard { message, sessions, payload }))
        }
        Err(error) => {
            let unheard = match &error {
                ParseError::Fields { .. } => Unheard::in_payload(payload),
                _ => Unheard::default(),
            };
            Input::Rejected(Rejection::NotAMessage { unheard, reason: brief(error.to_string()) })
        }
    }
}

/// The hash by which a command that comes again is known. Who speaks is no part of it: after the agent's next start a host sends the same
/// command in a session of another name.
fn digest_of_message(payload: &[u8], sessions: &Sessions) -> Digest {
    let mut message = match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(payload) {
        Ok(message) if *sessions != Sessions::default() => message,
        // Of version 1, to the byte. What is no object has no session either.
        _ => return digest(payload),
    };
    for name in ["host_session_id", "session_id"] {
        message.remove(name);
    }
    serde_json::to_vec(&message).map_or_else(|_| digest(payload), |message| digest(&message))
}

/// A reason may quote the line, which may be long; it goes to the host and into files.
fn brief(mut reason: String) -> String {
    const MOST: usize = 256;
    if reason.len() > MOST {
        reason.truncate(reason.floor_char_boundary(MOST));
        reason.push_str("...");
    }
    reason
}

fn is_object(line: &[u8]) -> bool {
    let first = line.iter().find(|byte| !byte.is_ascii_whitespace());
    first == Some(&b'{') && serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok()
}

#[cfg(test)]
mod tests {
    use infini_protocol::envelope::{Key, seal};

    use super::*;
    use crate::auth::replay::NonceJournal;

    const NOW: Moment = Moment { now_ms: 1_767_225_600_000, boot_ms: 0 };

    fn key() -> Key {
        Key::new("secret").unwrap()
    }

    fn judged(line: &[u8], first: bool) -> Judged {
        let mut authenticator = Authenticator::new(Trust::Secret(key()), NonceJournal::in_memory());
        judge(&mut authenticator, line, first, NOW)
    }

    fn signed(payload: &str, ts: u64) -> Vec<u8> {
        seal(&key(), ts, "n", payload).unwrap().into_bytes()
    }

    #[test]
    fn the_tail_of_a_line_is_passed_over_once() {
        let tail = br#"ce":"n-1","sig":"00"}"#;
        assert!(judged(tail, true).input.is_none());
        let later = judged(tail, false).input;
        assert!(matches!(later, Some(Input::Rejected(Rejection::NotAMessage { .. }))), "{later:?}");
    }

    #[test]
    fn a_good_message_is_heard_and_proves_the_host() {
        let judged = judged(&signed(r#"{"type":"Metrics"}"#, NOW.now_ms), true);
        assert!(judged.proves_host);
        let Some(Input::Message(heard)) = judged.input else { panic!("{judged:?}") };
        assert_eq!((heard.message, heard.sessions), (HostMessage::Metrics {}, Sessions::default()));
    }

    #[test]
    fn a_stale_command_proves_the_host_and_keeps_its_id() {
        let payload = r#"{"type":"SafeCommand","id":"c","command_type":{"action":"OsInfo"}}"#;
        let judged = judged(&signed(payload, NOW.now_ms - 400_000), false);
        assert!(judged.proves_host);
        let Some(Input::Rejected(Rejection::Stale { unheard, .. })) = judged.input else { panic!("{judged:?}") };
        assert_eq!(unheard.command.map(|command| command.id).as_deref(), Some("c"));
        assert_eq!(unheard.entries.len(), 1);
    }

    #[test]
    fn a_command_with_wrong_fields_keeps_its_id() {
        let payload = r#"{"type":"SafeCommand","id":"c"}"#;
        let judged = judged(&signed(payload, NOW.now_ms), false);
        let Some(Input::Rejected(Rejection::NotAMessage { unheard, .. })) = judged.input else { panic!("{judged:?}") };
        assert_eq!(unheard.command.map(|command| command.id).as_deref(), Some("c"));
        assert_eq!(unheard.entries.len(), 1);
    }

    #[test]
    fn a_reason_quotes_no_long_line() {
        let long = "é".repeat(100_000);
        for line in [format!(r#"{{"type":"{long}"}}"#), format!(r#"{{"type":"signed","v":"{long}"}}"#)] {
            let judged = judged(line.as_bytes(), false);
            let Some(Input::Rejected(Rejection::NotBelieved { reason })) = judged.input else { panic!("{judged:?}") };
            assert!(reason.len() < 300, "{} bytes", reason.len());
        }
        let judged = judged(&signed(&format!(r#"{{"type":"hello","protocol_version":"{long}"}}"#), NOW.now_ms), false);
        let Some(Input::Rejected(Rejection::NotAMessage { reason, .. })) = judged.input else { panic!("{judged:?}") };
        assert!(reason.len() < 300, "{} bytes", reason.len());
    }

    #[test]
    fn a_replay_is_heard_of_but_is_no_message() {
        let mut authenticator = Authenticator::new(Trust::Secret(key()), NonceJournal::in_memory());
        let line = signed(r#"{"type":"Metrics"}"#, NOW.now_ms);
        judge(&mut authenticator, &line, false, NOW);
        let again = judge(&mut authenticator, &line, false, NOW).input;
        assert!(matches!(again, Some(Input::Rejected(Rejection::Replayed))), "{again:?}");
    }

    #[test]
    fn an_unsigned_line_proves_nothing() {
        let judged = judged(br#"{"type":"Metrics"}"#, false);
        assert!(!judged.proves_host);
        assert!(matches!(judged.input, Some(Input::Rejected(Rejection::NotBelieved { .. }))), "{:?}", judged.input);
    }
}
