//! Every message as it stands on the wire, both ways. The files under `golden/` are what other implementations may rely on: a change
//! that makes this test fail changes the protocol. `UPDATE_GOLDEN=1` writes them anew, for a person to read and commit.
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "support/samples.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod samples;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use infini_protocol::agent::AgentMessage;
use infini_protocol::encode::agent_line;
use infini_protocol::host::HostMessage;
use infini_protocol::limits::MAX_LINE_BYTES;
use serde::Serialize;
use serde_json::Value;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The file's text, after it was compared with what the message is written as.
fn golden(name: &str, message: &impl Serialize) -> String {
    let path = directory().join(name).with_extension("json");
    let written = serde_json::to_value(message).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, serde_json::to_string_pretty(&written).unwrap() + "\n").unwrap();
    }
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(written, serde_json::from_str::<Value>(&text).unwrap(), "{name}");
    text
}

#[test]
fn agent_messages() {
    for body in samples::agent_bodies() {
        let name = samples::agent_name(&body);
        let message = AgentMessage { timestamp: samples::moment(), body };
        let text = golden(name, &message);
        assert_eq!(AgentMessage::parse(text.as_bytes()).unwrap(), message, "{name}");
        let line = agent_line(message, MAX_LINE_BYTES).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&line).unwrap(), serde_json::from_str::<Value>(&text).unwrap());
    }
}

#[test]
fn host_messages() {
    for message in samples::host_messages() {
        let name = samples::host_name(&message);
        let text = golden(name, &message);
        assert_eq!(HostMessage::parse(text.as_bytes()).unwrap(), message, "{name}");
    }
}

#[test]
fn there_is_no_file_without_a_message() {
    let agent = samples::agent_bodies();
    let host = samples::host_messages();
    let names = agent.iter().map(samples::agent_name).chain(host.iter().map(samples::host_name));
    let expected: BTreeSet<String> = names.map(|name| format!("{name}.json")).collect();
    let files = fs::read_dir(directory()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(files.collect::<BTreeSet<_>>(), expected);
}
