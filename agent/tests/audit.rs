//! The audit of an agent that runs as a process: what the host hears of it, what `audit verify` says of it, and a disk that fills up.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
#![cfg(target_os = "linux")]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use infini_protocol::ErrorCode;
use infini_protocol::agent::{AgentBody, AgentEvent, EventSeverity, Response};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};
use support::{Agent, Guest, Host};

fn os_info(id: &str) -> Value {
    json!({ "type": "SafeCommand", "id": id, "command_type": { "action": "OsInfo" } })
}

fn ask(host: &mut Host, command: &Value) -> Response {
    host.send(command);
    host.wait_for(|body| match body {
        AgentBody::Response(response) if command["id"] == response.id => Some(*response),
        _ => None,
    })
}

fn audit_event(host: &mut Host) -> AgentEvent {
    host.wait_for(|body| match body {
        AgentBody::AgentEvent(event) if event.source == "audit" => Some(event),
        _ => None,
    })
}

/// The head in an event, as the command line takes it.
fn head(event: &AgentEvent) -> String {
    let context = event.context.as_ref().unwrap_or_else(|| panic!("{event:?}"));
    format!("{}:{}", context["line"], context["hash"].as_str().unwrap())
}

fn verify(guest: &Guest, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = guest.command().args(["audit", "verify"]).args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn file(guest: &Guest) -> PathBuf {
    guest.path("audit").join("commands.00000001.log")
}

#[test]
fn the_host_hears_of_every_tenth_line_and_of_the_last_and_verify_proves_both() {
    let guest = Guest::new();
    let mut agent = guest.start();
    let mut host = guest.accept();
    for id in 1..=6 {
        host.send(&os_info(&id.to_string()));
    }
    let tenth = head(&audit_event(&mut host));
    assert!(tenth.starts_with("10:"), "{tenth}");
    host.round_trip();
    // The agent runs, and has the file open.
    let (code, out, err) = verify(&guest, &["--head", &tenth]);
    assert_eq!((code, out.contains("Sound: line 10 is the one")), (Some(0), true), "{out}{err}");

    agent.signal("TERM");
    let last = head(&audit_event(&mut host));
    assert!(agent.child.wait().unwrap().success());
    assert!(last.starts_with("13:"), "a file's line, and two for each command: {last}");
    let (code, out, err) = verify(&guest, &["--head", &last, "--json"]);
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    assert_eq!((code, &report["sound"], &report["head"]), (Some(0), &true.into(), &last.clone().into()), "{out}");
    assert_eq!((&report["received"], &report["ended"]), (&6.into(), &6.into()), "{out}");

    assert_eq!(std::fs::metadata(file(&guest)).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(guest.path("audit")).unwrap().permissions().mode() & 0o777, 0o700);

    let text = std::fs::read_to_string(file(&guest)).unwrap();
    let cut: String = text.split_inclusive('\n').take(12).collect();
    std::fs::write(file(&guest), cut).unwrap();
    assert_eq!(verify(&guest, &[]).0, Some(0), "a cut end shows beside the head alone");
    let (code, out, _) = verify(&guest, &["--head", &last]);
    assert_eq!((code, out.contains("the audit ends with line 12")), (Some(1), true), "{out}");
    std::fs::write(file(&guest), text.replacen("OsInfo", "UserList", 1)).unwrap();
    let (code, out, _) = verify(&guest, &[]);
    assert_eq!((code, out.contains("commands.00000001.log:2 (line 2 of the audit)")), (Some(1), true), "{out}");
}

#[test]
fn an_audit_that_is_not_where_it_is_looked_for_is_not_called_sound() {
    let guest = Guest::new();
    let (code, out, err) = verify(&guest, &[]);
    assert_eq!((code, out.contains("holds nothing")), (Some(0), true), "nothing was asked for yet: {out}{err}");
    let head = format!("1:{}", "0".repeat(64));
    assert_eq!(verify(&guest, &["--head", &head]).0, Some(1));
    let nowhere = guest.path("nowhere");
    let (code, out, err) = verify(&guest, &["--dir", nowhere.to_str().unwrap()]);
    assert_eq!((code, out.as_str(), err.contains("nowhere")), (Some(74), "", true), "{err}");
    std::fs::create_dir_all(file(&guest)).unwrap();
    let (code, out, err) = verify(&guest, &[]);
    assert_eq!((code, out.as_str(), err.contains("commands.00000001.log")), (Some(74), "", true), "{err}");
    std::fs::remove_dir(file(&guest)).unwrap();

    std::fs::write(guest.path("config.toml"), "state_dir = \n").unwrap();
    assert_eq!(verify(&guest, &[]).0, Some(78));
    let folder = guest.path("audit");
    let (code, _, err) = verify(&guest, &["--dir", folder.to_str().unwrap()]);
    assert_eq!(code, Some(0), "a folder that is named needs no configuration: {err}");
}

/// Starts an agent whose files can be kept from growing. What the kernel sends who writes past such a limit would end it, were it not
/// ignored from the start.
fn start_on_a_small_disk(guest: &Guest) -> Agent {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_infiniservice")]);
    command.env_clear().env("INFINISERVICE_SHARED_SECRET", support::SECRET);
    command.stdin(std::process::Stdio::null()).arg("--config").arg(guest.path("config.toml"));
    guest.start_as(command)
}

fn limit_files(agent: &Agent, bytes: Option<u64>) {
    let pid = Pid::from_child(&agent.child);
    prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes, ..getrlimit(Resource::Fsize) }).unwrap();
}

/// Asks until the answer is what is waited for: a signal and the passing of a second come in between by themselves.
fn ask_until(host: &mut Host, name: &str, wanted: impl Fn(&Response) -> bool) -> Response {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    for number in 0.. {
        let answer = ask(host, &os_info(&format!("{name}-{number}")));
        if wanted(&answer) {
            return answer;
        }
        assert!(std::time::Instant::now() < end, "still {answer:?}");
    }
    unreachable!()
}

#[test]
fn on_a_full_disk_commands_go_on_or_stop_as_the_configuration_says_and_the_gap_is_told() {
    let guest = Guest::new();
    let mut agent = start_on_a_small_disk(&guest);
    let mut host = guest.accept();
    assert!(ask(&mut host, &os_info("before")).success);
    let room = std::fs::metadata(file(&guest)).unwrap().len() + 50;
    limit_files(&agent, Some(room));

    host.send(&os_info("goes on"));
    let event = audit_event(&mut host);
    assert_eq!((event.severity, event.message.contains("commands go on")), (EventSeverity::Error, true), "{event:?}");
    assert!(ask(&mut host, &os_info("goes on, too")).success);

    guest.configure("[audit]\nwhen_full = \"stop\"\n");
    agent.signal("HUP");
    let refused = ask_until(&mut host, "stops", |answer| !answer.success);
    assert_eq!(refused.error_code, Some(ErrorCode::ResourceLimit), "{refused:?}");
    assert!(refused.error.as_ref().is_some_and(|sentence| sentence.contains("audit.when_full")), "{refused:?}");
    // Nothing of a half line is left behind.
    assert_eq!(verify(&guest, &[]).0, Some(0));

    limit_files(&agent, None);
    assert!(ask_until(&mut host, "again", |answer| answer.success).success);
    agent.signal("TERM");
    assert!(agent.child.wait().unwrap().success());
    let (code, out, err) = verify(&guest, &["--json"]);
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    let fact = &report["facts"][0];
    assert_eq!((code, &fact["kind"]), (Some(0), &"entries_missing".into()), "{out}");
    assert!(fact["count"].as_u64().is_some_and(|count| count >= 3), "{fact}");
}
