//! Commands, by an agent as a process: real programs, real files, and what a host hears of them.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
#![cfg(target_os = "linux")]

mod support;

use infini_protocol::ErrorCode;
use infini_protocol::agent::{AgentBody, Ended, Response, ScriptCompletion};
use serde_json::{Value, json};
use support::{Agent, Guest, Host, wait_in};

const RAW: &str = "[permissions]\nreads = \"all\"\nchanges = [\"ProcessKill\"]\nraw = \"all\"\n";

fn start(permissions: &str) -> (Guest, Agent, Host) {
    let guest = Guest::new();
    guest.configure(permissions);
    let agent = guest.start();
    let host = guest.accept();
    (guest, agent, host)
}

fn response(host: &mut Host) -> Response {
    host.wait_for(|body| match body {
        AgentBody::Response(response) => Some(*response),
        _ => None,
    })
}

fn ask(host: &mut Host, command: &Value) -> Response {
    host.send(command);
    response(host)
}

fn raw(id: &str, line: &str) -> Value {
    json!({ "type": "UnsafeCommand", "id": id, "raw_command": line })
}

fn safe(id: &str, action: Value) -> Value {
    json!({ "type": "SafeCommand", "id": id, "command_type": action })
}

#[test]
fn reads_answer_with_their_data() {
    let (_guest, _agent, mut host) = start("");
    for (action, key) in [
        (json!({ "action": "OsInfo" }), "pretty_name"),
        (json!({ "action": "SystemInfo" }), "cpu_count"),
        (json!({ "action": "UserList" }), "users"),
        (json!({ "action": "CheckDiskSpace", "warning_threshold": 50 }), "drives"),
    ] {
        let answer = ask(&mut host, &safe(&action.to_string(), action));
        let data = answer.data.as_ref().unwrap_or_else(|| panic!("{answer:?}"));
        assert!(answer.success && data.get(key).is_some_and(|value| !value.is_null()), "{answer:?}");
    }
    let answer = ask(&mut host, &safe("top", json!({ "action": "ProcessTop", "limit": 3, "sort_by": "memory" })));
    let processes = answer.data.unwrap();
    assert_eq!(processes.as_array().map(Vec::len), Some(3), "{processes}");
    let memory: Vec<u64> = (0..3).map(|index| processes[index]["memory_kb"].as_u64().unwrap()).collect();
    assert!(memory.is_sorted_by(|a, b| a >= b), "{processes}");
}

#[test]
fn a_raw_command_runs_as_it_was_asked_for() {
    let (_guest, _agent, mut host) = start(RAW);
    let mut command = raw("1", "pwd; echo \"$NAME\"; id -u; echo oops >&2; exit 3");
    command["working_dir"] = "/usr".into();
    command["env_vars"] = json!({ "NAME": "two words" });
    let answer = ask(&mut host, &command);
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(answer.stdout, format!("/usr\ntwo words\n{uid}\n"), "{answer:?}");
    assert_eq!((answer.stderr.as_str(), answer.exit_code, answer.ended), ("oops\n", 3, Some(Ended::Exit)));
    assert_eq!((answer.success, answer.error_code), (false, Some(ErrorCode::CommandFailed)));
}

#[test]
fn the_secret_is_in_no_commands_environment() {
    let (_guest, _agent, mut host) = start(RAW);
    let answer = ask(&mut host, &raw("1", "tr '\\0' '\\n' </proc/self/environ; tr '\\0' '\\n' </proc/$PPID/environ"));
    assert!(!answer.stdout.contains(support::SECRET), "{}", answer.stdout);
    assert!(answer.stdout.contains("PATH="), "{answer:?}");
    assert!(!answer.stdout.contains("INFINISERVICE"), "{}", answer.stdout);
}

#[test]
fn a_commands_time_ends_it_and_all_that_it_started() {
    let (_guest, _agent, mut host) = start(RAW);
    let mut command = raw("1", "echo $$; setsid sleep 98765 & sleep 98765");
    command["timeout"] = 1.into();
    let answer = ask(&mut host, &command);
    assert_eq!((answer.error_code, answer.timed_out), (Some(ErrorCode::CommandTimeout), true), "{answer:?}");
    assert!(answer.execution_time_ms < 1000, "{answer:?}");
    assert!(answer.stdout.trim().parse::<u32>().is_ok(), "what it printed so far: {answer:?}");
}

#[test]
fn the_same_id_never_runs_twice_not_even_after_a_restart() {
    let guest = Guest::new();
    guest.configure(RAW);
    let count = guest.path("count");
    let command = raw("once", &format!("echo ran >>{}", count.display()));
    let agent = guest.start();
    let mut host = guest.accept();
    assert!(ask(&mut host, &command).success);
    assert!(ask(&mut host, &command).duplicate);
    drop((agent, host));

    let _agent = guest.start();
    let mut host = guest.accept();
    assert_eq!(ask(&mut host, &command).error_code, Some(ErrorCode::Interrupted));
    assert_eq!(std::fs::read_to_string(count).unwrap(), "ran\n");
}

#[test]
fn scripts_are_answered_in_their_order() {
    let (_guest, _agent, mut host) = start(RAW);
    let script = |id: &str, text: &str| json!({ "execution_id": id, "script_content": text, "shell": "BASH" });
    let inputs = json!({ "execution_id": "b", "script_content": "echo $GREETING; exit 4", "input_values": { "GREETING": "hello" } });
    host.send(&json!({ "type": "pending_scripts_response", "scripts": [script("a", "echo ${BASH_VERSION:+bash}; cat /proc/$$/cmdline"), inputs] }));
    let ends = [script_end(&mut host), script_end(&mut host)];
    assert_eq!((ends[0].execution_id.as_str(), ends[0].exit_code), ("a", 0), "{ends:?}");
    assert!(ends[0].stdout.starts_with("bash\n") && !ends[0].stdout.contains("BASH_VERSION"), "{ends:?}");
    assert_eq!((ends[1].execution_id.as_str(), ends[1].exit_code, ends[1].stdout.as_str()), ("b", 4, "hello\n"));
}

/// Whether an agent that a host has just reached asks for scripts: it does so before its first sample.
fn wants_scripts(host: &mut Host) -> bool {
    let mut wants = false;
    host.wait_for(|body| {
        wants |= matches!(body, AgentBody::RequestPendingScripts(_));
        matches!(body, AgentBody::Metrics(_)).then_some(())
    });
    wants
}

fn script_end(host: &mut Host) -> ScriptCompletion {
    host.wait_for(|body| match body {
        AgentBody::ScriptCompletion(end) => Some(end),
        _ => None,
    })
}

#[test]
fn scripts_are_asked_for_once_a_boot_and_again_only_where_some_were_left_behind() {
    let guest = Guest::new();
    guest.configure(RAW);
    let scripts = |scripts: &[(&str, &str)]| {
        let scripts: Vec<_> =
            scripts.iter().map(|(id, text)| json!({ "execution_id": id, "script_content": text })).collect();
        json!({ "type": "pending_scripts_response", "scripts": scripts })
    };
    let mark = guest.path("began");
    let hangs = format!("touch {}; sleep 98765", mark.display());
    let given = scripts(&[("ran", "true"), ("hangs", &hangs), ("waits", "echo waited")]);

    let agent = guest.start();
    let mut host = guest.accept();
    assert!(wants_scripts(&mut host));
    host.send(&given);
    assert_eq!(script_end(&mut host).execution_id, "ran");
    appears(&mark);
    agent.signal("KILL");
    drop((agent, host));

    let agent = guest.start();
    let mut host = guest.accept();
    assert!(wants_scripts(&mut host), "two were left behind");
    host.send(&given);
    let ends = [script_end(&mut host), script_end(&mut host), script_end(&mut host)];
    let told: Vec<_> = ends.iter().map(|end| (end.execution_id.as_str(), end.exit_code)).collect();
    assert_eq!(told, [("ran", 126), ("hangs", 126), ("waits", 0)], "{ends:?}");
    host.round_trip();
    drop((agent, host));

    let _agent = guest.start();
    assert!(!wants_scripts(&mut guest.accept()), "all have ended");
}

#[test]
fn cancel_needs_a_negotiation_and_then_ends_a_command() {
    let (_guest, _agent, mut host) = start(RAW);
    let session = host.wait_for(|body| match body {
        AgentBody::Handshake(handshake) => Some(handshake.session_id),
        _ => None,
    });
    host.send(&raw("1", "sleep 98765"));
    host.send(&json!({ "type": "cancel", "id": "1" }));
    let refused = host.wait_for(|body| match body {
        AgentBody::Error(error) => Some(error.details),
        _ => None,
    });
    assert!(refused.message.contains("negotiated"), "{refused:?}");

    host.send(&json!({ "type": "hello", "host_session_id": "h", "protocol_version": 2, "capabilities": ["cancel"] }));
    host.send(&json!({ "type": "handshake_ack", "host_session_id": "h", "protocol_version": 2, "enabled": ["cancel"],
                       "host_version": "1", "time": "2026-01-01T00:00:00.000Z" }));
    host.send(&json!({ "type": "cancel", "id": "1", "host_session_id": "h", "session_id": session }));
    let answer = response(&mut host);
    assert_eq!((answer.id.as_str(), answer.error_code), ("1", Some(ErrorCode::CommandCancelled)), "{answer:?}");
    assert_eq!(answer.ended, Some(Ended::Cancelled));
}

#[test]
fn a_line_for_another_session_does_nothing() {
    let (guest, _agent, mut host) = start(RAW);
    let mark = guest.path("mark");
    let mut command = raw("1", &format!("touch {}", mark.display()));
    command["session_id"] = "an earlier one".into();
    command["host_session_id"] = "h".into();
    let answer = ask(&mut host, &command);
    assert_eq!(
        (answer.error_code, answer.command_type.as_str()),
        (Some(ErrorCode::AuthFailed), "unsafe"),
        "{answer:?}"
    );
    assert!(!mark.exists());
}

#[test]
fn the_agents_end_answers_what_runs() {
    let (_guest, agent, mut host) = start(RAW);
    host.send(&raw("1", "sleep 98765"));
    host.round_trip();
    agent.signal("TERM");
    assert_eq!(response(&mut host).error_code, Some(ErrorCode::ShuttingDown));
}

#[test]
fn the_agents_end_leaves_what_runs_its_grace() {
    let (guest, mut agent, mut host) = start(RAW);
    let (began, tidied) = (guest.path("began"), guest.path("tidied"));
    let line = format!(
        "trap 'sleep 0.5; touch {}; exit' TERM; touch {}; while :; do sleep 1000 & wait; done",
        tidied.display(),
        began.display()
    );
    host.send(&raw("1", &line));
    appears(&began);
    agent.signal("TERM");
    assert_eq!(response(&mut host).error_code, Some(ErrorCode::ShuttingDown));
    assert!(agent.child.wait().unwrap().success());
    assert!(tidied.exists(), "it was killed before it had tidied up");
}

#[test]
fn what_ignores_the_agents_end_is_killed() {
    let (guest, mut agent, mut host) = start(RAW);
    let began = guest.path("began");
    let line =
        format!("trap '' TERM; echo $$ >{0}.part; mv {0}.part {0}; while :; do sleep 1000; done", began.display());
    host.send(&raw("1", &line));
    appears(&began);
    let pid = std::fs::read_to_string(&began).unwrap();
    agent.signal("TERM");
    let answer = response(&mut host);
    assert_eq!(
        (answer.error_code, answer.ended),
        (Some(ErrorCode::ShuttingDown), Some(Ended::Cancelled)),
        "{answer:?}"
    );
    assert!(agent.child.wait().unwrap().success());
    assert!(!std::path::Path::new("/proc").join(pid.trim()).exists(), "{pid} is left");
}

fn appears(path: &std::path::Path) {
    wait_in(path.parent().unwrap(), || path.exists());
}
