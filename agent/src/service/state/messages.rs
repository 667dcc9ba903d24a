//! What the agent says of its own accord: complaints, refusals, events.

use infini_protocol::ErrorCode;
use infini_protocol::agent::{AgentBody, AgentEvent, ErrorDetails, ErrorMessage, EventSeverity};
use serde_json::json;

use super::negotiation::NotForUs;

/// Of what was held back.
pub const MORE: &str = "lines like those before could not be used either";

/// Of a line whose nonce is known, or so old that it may have been.
pub const REPLAY: &str = "a signed line came once more, or is too old to tell";

/// Of a line that is not for this process of the agent.
pub const fn misaddressed(why: NotForUs) -> &'static str {
    match why {
        NotForUs::OtherSession => "the line names another session of this agent; say hello again",
        NotForUs::NoSession => {
            "the line names no session of this agent, and after handshake_ack every line must; say hello again"
        }
    }
}

/// Of a command that meets the agent's end.
pub const SHUTTING_DOWN: &str = "the agent is stopping and takes no more commands";

/// The host wants what was not agreed on.
pub fn not_negotiated(capability: &str, dropped: u64) -> AgentBody {
    complaint(ErrorCode::InvalidMessage, format!("{capability} was not negotiated: hello, then handshake_ack"), dropped)
}

/// A line of the host came to nothing; so many before it were not told.
pub fn complaint(error_code: ErrorCode, message: String, dropped: u64) -> AgentBody {
    let error = match error_code {
        ErrorCode::MessageTooLarge => "a line was over the limit and was skipped",
        ErrorCode::AuthFailed => "a line was not believed",
        _ => "a line was not understood",
    };
    AgentBody::Error(ErrorMessage {
        error: error.to_owned(),
        details: ErrorDetails {
            component: "communication".to_owned(),
            error_code,
            message,
            dropped: (dropped > 0).then_some(dropped),
        },
    })
}

/// Samples were thrown away unsent.
pub fn gap_event(dropped: u64) -> AgentBody {
    event(
        EventSeverity::Warn,
        "outbox",
        format!("{dropped} samples were thrown away because the host did not read them"),
        Some(json!({ "dropped": dropped })),
    )
}

/// Somebody set the wall clock; the message carries the new time.
pub fn clock_event() -> AgentBody {
    event(EventSeverity::Info, "clock", "this machine's clock was set".to_owned(), None)
}

fn event(severity: EventSeverity, source: &str, message: String, context: Option<serde_json::Value>) -> AgentBody {
    AgentBody::AgentEvent(AgentEvent { severity, source: source.to_owned(), message, execution_id: None, context })
}
