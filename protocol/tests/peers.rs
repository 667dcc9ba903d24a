//! What older, newer and hostile peers may say: read where it can be, refused with the right reason where not, never a panic.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use infini_protocol::agent::{AgentBody, AgentMessage, Ended, ErrorSeverity, EventSeverity};
use infini_protocol::host::{HostMessage, Timeout};
use infini_protocol::metrics::{PortProtocol, ProcessStatus};
use infini_protocol::{ErrorCode, ParseError};
use serde_json::{Value, json};

fn host(payload: &Value) -> Result<HostMessage, ParseError> {
    HostMessage::parse(payload.to_string().as_bytes())
}

fn agent(line: &Value) -> AgentBody {
    AgentMessage::parse(line.to_string().as_bytes()).unwrap().body
}

const NOW: &str = "2026-01-31T12:00:00.123Z";

#[test]
fn unknown_fields_are_ignored_and_null_is_absent() {
    let message = host(&json!({
        "type": "UnsafeCommand", "id": "c", "raw_command": "id", "shell": null, "timeout": null, "working_dir": null,
        "env_vars": null, "run_as": null, "priority": [1, { "x": null }],
    }));
    let HostMessage::UnsafeCommand(command) = message.unwrap() else { panic!() };
    assert_eq!((command.shell, command.timeout, command.env_vars, command.run_as), (None, None, None, None));

    let message = host(&json!({ "type": "pending_scripts_response", "scripts": null }));
    let HostMessage::PendingScriptsResponse(none) = message.unwrap() else { panic!() };
    assert_eq!(none.scripts, []);
    assert_eq!(host(&json!({ "type": "Metrics", "data": 1 })).unwrap(), HostMessage::Metrics {});

    let AgentBody::Metrics(metrics) = agent(&json!({
        "type": "metrics", "timestamp": NOW, "later": true,
        "data": { "system": null, "processes": null, "errors": null, "truncated": null, "gpu": [] },
    })) else {
        panic!()
    };
    assert_eq!(metrics.data, Default::default());
}

#[test]
fn words_of_a_newer_agent_are_tolerated() {
    let AgentBody::Response(response) = agent(&json!({
        "type": "response", "timestamp": NOW, "id": "c", "success": false, "exit_code": 1, "stdout": "", "stderr": "",
        "execution_time_ms": 1, "command_type": "unsafe", "error_code": "QUOTA_EXCEEDED", "ended": "frozen",
        "truncated": null,
    })) else {
        panic!()
    };
    assert_eq!((response.error_code, response.ended), (Some(ErrorCode::Unknown), Some(Ended::Unknown)));
    assert!(!response.truncated);

    let AgentBody::ErrorReport(report) = agent(&json!({
        "type": "error_report", "timestamp": NOW, "error_type": "EIO", "severity": "Catastrophic", "retry_attempt": 1,
        "max_retries": 0, "vm_id": "vm",
    })) else {
        panic!()
    };
    assert_eq!(report.severity, ErrorSeverity::Unknown);

    let AgentBody::Metrics(metrics) = agent(&json!({
        "type": "metrics", "timestamp": NOW, "data": { "processes": [
            { "pid": 1, "name": "init", "cpu_percent": 0, "memory_kb": 1, "status": "parked" },
        ], "ports": [
            { "port": 80, "protocol": "quic", "state": "LISTEN", "is_listening": true, "connection_count": 0 },
        ] },
    })) else {
        panic!()
    };
    assert_eq!(metrics.data.processes.unwrap()[0].status, ProcessStatus::Unknown);
    assert_eq!(metrics.data.ports.unwrap()[0].protocol, PortProtocol::Unknown);

    let AgentBody::AgentEvent(event) = agent(&json!({
        "type": "agent_event", "timestamp": NOW, "severity": "catastrophe", "source": "s", "message": "m",
    })) else {
        panic!()
    };
    assert_eq!(event.severity, EventSeverity::Unknown);
}

#[test]
fn an_agent_line_without_its_time_is_refused() {
    let error = AgentMessage::parse(br#"{"type":"keep_alive","sequence_number":1}"#).unwrap_err();
    assert!(matches!(&error, ParseError::Fields { kind, .. } if kind == "keep_alive"), "{error}");
    assert!(error.to_string().contains("timestamp"), "{error}");
}

#[test]
fn what_is_no_object_with_a_type() {
    let deep = "[".repeat(100_000);
    let deep_type = format!(r#"{{"type":{}"#, "[".repeat(100_000));
    let lines: [&[u8]; 16] = [
        b"",
        b" ",
        b"\0",
        b"{",
        b"}",
        b"null",
        b"7",
        br#""Metrics""#,
        br#"["Metrics"]"#,
        br#"[{"type":"Metrics"}]"#,
        br#"{"kind":"Metrics"}"#,
        br#"{"type":null}"#,
        br#"{"type":"Metrics","type":"Metrics"}"#,
        b"{\"type\":\"Metrics\",\"x\":\"\xff\"}",
        deep.as_bytes(),
        deep_type.as_bytes(),
    ];
    for line in lines {
        let told = String::from_utf8_lossy(&line[..line.len().min(60)]);
        let error = HostMessage::parse(line).expect_err(&told);
        assert!(matches!(error, ParseError::NotAnObject(_)), "{told}: {error}");
        let error = AgentMessage::parse(line).expect_err(&told);
        assert!(matches!(error, ParseError::NotAnObject(_)), "{told}: {error}");
        assert_eq!(HostMessage::command(line), None, "{told}");
    }
    let error = HostMessage::parse(br#"{"type":"Metrics"} {"type":"Metrics"}"#).unwrap_err();
    assert!(matches!(error, ParseError::NotAnObject(_)), "{error}");
}

#[test]
fn types_that_nobody_knows() {
    for kind in ["metrics", "METRICS", "", "signed", "subscribe"] {
        let error = host(&json!({ "type": kind })).unwrap_err();
        assert!(matches!(&error, ParseError::UnknownType(told) if told == kind), "{error}");
    }
}

#[test]
fn a_long_type_does_not_fill_the_log() {
    let error = host(&json!({ "type": "é".repeat(100_000) })).unwrap_err();
    assert!(error.to_string().len() < 200, "{error}");
}

#[test]
fn fields_of_the_wrong_shape_name_the_message_and_keep_the_id() {
    let deep = format!(
        r#"{{"type":"SafeCommand","id":"c-1","command_type":{{"action":"A","x":{}1{}}}}}"#,
        "[".repeat(1000),
        "]".repeat(1000)
    );
    let commands = [
        json!({ "type": "SafeCommand", "id": "c-1" }).to_string(),
        json!({ "type": "SafeCommand", "id": "c-1", "command_type": "ServiceList" }).to_string(),
        json!({ "type": "SafeCommand", "id": "c-1", "command_type": { "name": "ServiceList" } }).to_string(),
        json!({ "type": "SafeCommand", "id": "c-1", "command_type": ["ServiceList"] }).to_string(),
        json!({ "type": "UnsafeCommand", "id": "c-1" }).to_string(),
        json!({ "type": "UnsafeCommand", "id": "c-1", "raw_command": ["ls"] }).to_string(),
        json!({ "type": "UnsafeCommand", "id": "c-1", "raw_command": "ls", "env_vars": { "A": 1 } }).to_string(),
        r#"{"type":"UnsafeCommand","id":"c-1","raw_command":"a","raw_command":"b"}"#.to_owned(),
        deep,
    ];
    for payload in commands {
        let error = HostMessage::parse(payload.as_bytes()).expect_err(&payload);
        let kind = if payload.contains("UnsafeCommand") { "UnsafeCommand" } else { "SafeCommand" };
        assert!(matches!(&error, ParseError::Fields { kind: told, .. } if told == kind), "{payload}: {error}");
        let name = HostMessage::command(payload.as_bytes()).expect(&payload);
        assert_eq!((name.id.as_str(), name.command_type == "unsafe"), ("c-1", kind == "UnsafeCommand"), "{name:?}");
    }
}

#[test]
fn what_has_no_id_to_answer_with() {
    for payload in [
        r#"{"type":"SafeCommand"}"#,
        r#"{"type":"SafeCommand","id":7}"#,
        r#"{"type":"SafeCommand","id":"a","id":"b"}"#,
        r#"{"type":"Metrics","id":"a"}"#,
        r#"{"type":"cancel","id":"a"}"#,
        r#"["SafeCommand","a"]"#,
    ] {
        assert_eq!(HostMessage::command(payload.as_bytes()), None, "{payload}");
    }
}

#[test]
fn timeouts_are_whole_seconds_above_zero() {
    let timeout = |value: Value| -> Timeout { serde_json::from_value(value).unwrap() };
    assert_eq!(timeout(json!(30)).get().unwrap().as_secs(), 30);
    for wrong in [json!(0), json!(-1), json!(1.5), json!(30.0), json!("30"), json!([30]), json!(true), json!(1e30)] {
        let error = timeout(wrong.clone()).get().expect_err(&wrong.to_string());
        assert!(error.to_string().contains(&wrong.to_string()), "{error}");
    }
    // A wrong one is the command's affair, not the line's.
    assert!(host(&json!({ "type": "UnsafeCommand", "id": "c", "raw_command": "ls", "timeout": "soon" })).is_ok());
}

#[test]
fn error_codes_are_those_of_the_protocol() {
    let words = "DEVICE_NOT_FOUND CONNECTION_FAILED INVALID_MESSAGE MESSAGE_TOO_LARGE COMMAND_TIMEOUT COMMAND_FAILED \
                 COMMAND_CANCELLED INVALID_PARAMETERS PERMISSION_DENIED UNKNOWN_COMMAND RESOURCE_LIMIT SERVICE_NOT_FOUND \
                 PACKAGE_NOT_FOUND PROCESS_NOT_FOUND USER_NOT_FOUND UNSUPPORTED_PLATFORM AUTH_FAILED INTERRUPTED \
                 SHUTTING_DOWN INTERNAL";
    for word in words.split_whitespace() {
        let code: ErrorCode = serde_json::from_value(json!(word)).unwrap();
        assert_ne!(code, ErrorCode::Unknown, "{word}");
        assert_eq!(code.to_string(), word);
    }
}
