use infini_protocol::agent::{AgentEvent, ErrorMessage, ErrorReport, Handshake};
use serde_json::Value;

/// How much is kept of a text by which an agent introduces itself or names a thing, in bytes: ids and names are far shorter.
pub(super) const MOST_NAME: usize = 256;

/// How much is kept of a sentence, in bytes.
pub(super) const MOST_SENTENCE: usize = 4 << 10;

/// How many capabilities are kept: the protocol has some twenty.
const MOST_CAPABILITIES: usize = 100;

/// How large the figures beside an event may be, in bytes: the agent's own are a line number and a hash.
const MOST_CONTEXT: usize = 4 << 10;

/// Cuts what an agent says of itself: the host keeps it for as long as it follows the machine.
pub fn handshake(handshake: &mut Handshake) {
    let Handshake { vm_id, version, platform, arch, hostname, boot_id, session_id, protocol_version: _, capabilities } =
        handshake;
    capabilities.truncate(MOST_CAPABILITIES);
    let texts = [vm_id, version, platform, arch, hostname, boot_id, session_id];
    for text in texts.into_iter().chain(capabilities) {
        name(text);
    }
}

/// Cuts a complaint's sentences.
pub fn error(message: &mut ErrorMessage) {
    sentence(&mut message.error);
    name(&mut message.details.component);
    sentence(&mut message.details.message);
}

/// Cuts a report's words.
pub fn error_report(report: &mut ErrorReport) {
    name(&mut report.error_type);
    name(&mut report.vm_id);
    report.recovery_suggestion.iter_mut().for_each(sentence);
}

/// Cuts an event's words, and leaves out figures that are too many to be figures.
pub fn agent_event(event: &mut AgentEvent) {
    name(&mut event.source);
    sentence(&mut event.message);
    event.execution_id.iter_mut().for_each(name);
    event.context = event.context.take().filter(|context| size(context) <= MOST_CONTEXT);
}

/// Cuts a name.
pub fn name(text: &mut String) {
    cut(text, MOST_NAME);
}

/// Cuts a sentence.
pub fn sentence(text: &mut String) {
    cut(text, MOST_SENTENCE);
}

fn cut(text: &mut String, most: usize) {
    text.truncate(text.floor_char_boundary(most));
    text.shrink_to_fit();
}

/// About the bytes that a value takes in memory. The parser has bounded how deep it goes.
fn size(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::Array(values) => values.iter().map(size).sum(),
            Value::Object(fields) => fields.iter().map(|(key, value)| key.len() + size(value)).sum(),
            Value::String(text) => text.len(),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
}

#[cfg(test)]
mod tests {
    use infini_protocol::ErrorCode;
    use infini_protocol::agent::{ErrorDetails, ErrorSeverity, EventSeverity};
    use serde_json::json;

    use super::*;

    fn long() -> String {
        "é".repeat(100_000)
    }

    #[test]
    fn an_introduction_is_short() {
        let mut hands = Handshake {
            vm_id: long(),
            version: long(),
            platform: long(),
            arch: long(),
            hostname: long(),
            boot_id: long(),
            session_id: "s".to_owned(),
            protocol_version: 2,
            capabilities: vec![long(); 1000],
        };
        handshake(&mut hands);
        let bytes = format!("{hands:?}").len();
        assert!(bytes < 40_000, "{bytes} bytes");
        assert_eq!((hands.session_id.as_str(), hands.vm_id.len()), ("s", MOST_NAME));
    }

    #[test]
    fn complaints_and_reports_are_sentences() {
        let details =
            ErrorDetails { component: long(), error_code: ErrorCode::Internal, message: long(), dropped: Some(7) };
        let mut message = ErrorMessage { error: long(), details };
        error(&mut message);
        let mut report = ErrorReport {
            error_type: long(),
            severity: ErrorSeverity::Recoverable,
            retry_attempt: 1,
            max_retries: 0,
            recovery_suggestion: Some(long()),
            vm_id: long(),
            windows_error_code: None,
        };
        error_report(&mut report);
        let bytes = format!("{message:?}{report:?}").len();
        assert!(bytes < 3 * MOST_SENTENCE + 5 * MOST_NAME, "{bytes} bytes");
        assert_eq!(message.error, "é".repeat(MOST_SENTENCE / 2));
    }

    #[test]
    fn an_event_keeps_its_figures_where_they_are_few() {
        let event = |context| {
            let mut event = AgentEvent {
                severity: EventSeverity::Info,
                source: long(),
                message: long(),
                execution_id: Some(long()),
                context: Some(context),
            };
            agent_event(&mut event);
            event
        };
        let figures = json!({ "line": 10, "head": "0".repeat(64) });
        let short = event(figures.clone());
        assert_eq!(short.context, Some(figures));
        let bytes = format!("{short:?}").len();
        assert!(bytes < MOST_SENTENCE + 4 * MOST_NAME, "{bytes} bytes");
        // Two bytes of JSON each, and many times that in memory.
        for flood in
            [json!(vec![1; 10_000]), json!({ "x": long() }), json!({ long(): 1 }), json!([[[vec![[0; 0]; 9000]]]])]
        {
            assert_eq!(event(flood).context, None);
        }
    }
}
