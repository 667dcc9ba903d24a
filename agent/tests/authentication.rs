//! Who is believed, by an agent as a process: what no signature covers, what comes out of its time, and where the secret may stand.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
#![cfg(target_os = "linux")]

mod support;

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::SystemTime;

use infini_protocol::ErrorCode;
use infini_protocol::agent::{AgentBody, Response};
use infini_protocol::envelope::{Key, seal};
use serde_json::{Value, json};
use support::{Agent, Guest, Host, SECRET};

const RAW: &str = "[permissions]\nreads = \"all\"\nchanges = \"all\"\nraw = \"all\"\n";

fn os_info(id: &str) -> Value {
    json!({ "type": "SafeCommand", "id": id, "command_type": { "action": "OsInfo" } })
}

/// A command whose effect can be seen.
fn touch(id: &str, mark: &Path) -> Value {
    json!({ "type": "UnsafeCommand", "id": id, "raw_command": format!("touch {}", mark.display()) })
}

fn response(host: &mut Host) -> Response {
    host.wait_for(|body| match body {
        AgentBody::Response(response) => Some(*response),
        _ => None,
    })
}

/// A line signed so many milliseconds ahead of now, or before it.
fn signed(secret: &str, nonce: &str, ahead_ms: i64, payload: &Value) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let ts = u64::try_from(now).unwrap().checked_add_signed(ahead_ms).unwrap();
    seal(&Key::new(secret).unwrap(), ts, nonce, &payload.to_string()).unwrap()
}

/// What the audit of commands has.
fn audit(guest: &Guest) -> Vec<Value> {
    let text = std::fs::read_to_string(guest.path("audit").join("commands.00000001.log")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_no_good_signature_covers_is_neither_run_nor_read_nor_answered() {
    let guest = Guest::new();
    guest.configure(RAW);
    let _agent = guest.start();
    let mut host = guest.accept();
    host.round_trip();
    let mark = guest.path("mark");
    let command = touch("forged", &mark);
    let good = signed(SECRET, "n-good", 0, &command);
    let mut other_payload: Value = serde_json::from_str(&good).unwrap();
    other_payload["payload"] = touch("changed", &mark).to_string().into();
    let respelt = |from: &str, to: &str| good.replacen(from, to, 1);
    for line in [
        signed("another secret", "n-1", 0, &command),
        signed("another secret", "n-2", -400_000, &command),
        other_payload.to_string(),
        respelt("\"v\":1", "\"v\":2"),
        respelt("\"v\":1", "\"v\":1.0"),
        respelt("n-good", "n good"),
        respelt("\"sig\":\"", "\"sig\":\"0"),
        respelt("\"type\":\"signed\"", "\"type\":\"Signed\""),
        command.to_string(),
    ] {
        host.send_line(&line);
    }
    host.send(&json!({ "type": "keep_alive_request", "sequence_number": 1 }));
    let (mut refusals, mut answers) = (Vec::new(), 0);
    host.wait_for(|body| match body {
        AgentBody::Error(error) => {
            refusals.push(error.details);
            None
        }
        AgentBody::Response(_) => {
            answers += 1;
            None
        }
        AgentBody::KeepAlive(_) => Some(()),
        _ => None,
    });
    let codes: Vec<_> = refusals.iter().map(|refusal| refusal.error_code).collect();
    assert_eq!((codes.as_slice(), answers), (&[ErrorCode::AuthFailed][..], 0), "once a minute: {refusals:?}");
    assert!(!mark.exists() && audit(&guest).is_empty(), "{:?}", audit(&guest));
    let unbelieved = std::fs::read_to_string(guest.path("auth.log")).unwrap();
    assert_eq!(unbelieved.lines().count(), 1, "{unbelieved}");
    assert!(!unbelieved.contains("touch"), "the payload was read: {unbelieved}");

    // None of them used the good line's nonce up.
    host.send_line(&good);
    assert!(response(&mut host).success);
    assert!(mark.exists());
}

#[test]
fn what_comes_out_of_its_time_is_answered_once_and_written_down() {
    let guest = Guest::new();
    guest.configure(RAW);
    let _agent = guest.start();
    let mut host = guest.accept();
    let mark = guest.path("mark");
    for (id, ahead_ms) in [("late", -400_000), ("early", 400_000)] {
        let line = signed(SECRET, id, ahead_ms, &touch(id, &mark));
        host.send_line(&line);
        let answer = response(&mut host);
        assert_eq!((answer.id.as_str(), answer.error_code), (id, Some(ErrorCode::AuthFailed)), "{answer:?}");
        assert_eq!(answer.command_type, "unsafe");
        host.send_line(&line);
    }
    host.send(&os_info("after"));
    assert_eq!(response(&mut host).id, "after", "a line that came once more was answered");
    assert!(!mark.exists());
    let audit = audit(&guest);
    let refused: Vec<_> = audit.iter().filter(|line| line["event"] == "refused").collect();
    let ids: Vec<_> = refused.iter().map(|line| (line["id"].as_str(), line["error_code"].as_str())).collect();
    let code = Some("AUTH_FAILED");
    assert_eq!(ids, [(Some("late"), code), (Some("early"), code)], "{audit:?}");
    assert!(refused[0]["text"]["head"].as_str().is_some_and(|text| text.starts_with("touch")), "{}", refused[0]);
}

#[test]
fn a_line_of_the_near_future_does_not_come_back_with_a_new_process_of_the_agent() {
    let guest = Guest::new();
    guest.configure(RAW);
    let count = guest.path("count");
    let command =
        json!({ "type": "UnsafeCommand", "id": "1", "raw_command": format!("echo ran >>{}", count.display()) });
    let line = signed(SECRET, "soon", 299_000, &command);
    let agent = guest.start();
    let mut host = guest.accept();
    host.send_line(&line);
    assert!(response(&mut host).success);
    // Killed: nothing is written at its end.
    drop((agent, host));
    // The ids would keep it from running twice as well.
    std::fs::remove_file(guest.path("ids")).unwrap();
    let _agent = guest.start();
    let mut host = guest.accept();
    host.send_line(&line);
    host.send(&os_info("after"));
    assert_eq!(response(&mut host).id, "after");
    assert_eq!(std::fs::read_to_string(count).unwrap(), "ran\n");
}

/// Whether the agent believes who has that secret.
fn believes(guest: &Guest, secret: &str) -> bool {
    let mut host = guest.accept();
    host.send_line(&signed(secret, "n", 0, &json!({ "type": "keep_alive_request", "sequence_number": 5 })));
    host.wait_for(|body| match body {
        AgentBody::KeepAlive(_) => Some(true),
        AgentBody::Error(error) if error.details.error_code == ErrorCode::AuthFailed => Some(false),
        _ => None,
    })
}

fn write_secret(path: &Path, secret: &str, mode: u32) {
    std::fs::write(path, secret).unwrap();
    set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_secret_comes_from_the_environment_else_a_credential_else_a_file() {
    let guest = Guest::new();
    let credentials = guest.path("credentials");
    std::fs::create_dir(&credentials).unwrap();
    let start = |environment: &[(&str, &Path)]| -> Agent {
        // Each agent is to see the nonce for the first time.
        let _ = std::fs::remove_file(guest.path("nonces"));
        let mut command = guest.command();
        command.envs(environment.iter().copied());
        guest.start_as(command)
    };
    let by_credential = ("CREDENTIALS_DIRECTORY", credentials.as_path());
    let by_environment = ("INFINISERVICE_SHARED_SECRET", Path::new("from-environment"));

    let agent = start(&[]);
    assert!(!believes(&guest, "from-file"), "there is no secret");
    drop(agent);
    write_secret(&guest.path("secret"), "from-file\n", 0o600);
    let agent = start(&[by_credential]);
    assert!(believes(&guest, "from-file"), "the folder has no credential: {}", agent.log());
    drop(agent);
    write_secret(&credentials.join("infiniservice.secret"), "from-credential", 0o440);
    let agent = start(&[by_credential]);
    assert!(believes(&guest, "from-credential"), "{}", agent.log());
    drop(agent);
    let agent = start(&[by_credential, by_environment]);
    assert!(believes(&guest, "from-environment"), "{}", agent.log());
    drop(agent);
    let agent = start(&[by_credential, by_environment]);
    assert!(!believes(&guest, "from-file"), "{}", agent.log());
}

#[test]
fn a_secret_file_that_others_can_read_locks_the_agent_and_it_says_why() {
    for mode in [0o640, 0o604] {
        let guest = Guest::new();
        write_secret(&guest.path("secret"), SECRET, mode);
        let agent = guest.start_as(guest.command());
        assert!(!believes(&guest, SECRET), "mode {mode:o}");
        let log = agent.log();
        assert!(log.contains(&format!("mode {mode:o}")) && log.contains("chmod 600"), "{log}");
    }
}

#[test]
fn without_authentication_only_reads_run_whatever_the_permissions_say() {
    let guest = Guest::new();
    guest.configure(&format!("auth = \"none\"\n{RAW}"));
    let _agent = guest.start_as(guest.command());
    let mut host = guest.accept();
    host.send_line(&os_info("read").to_string());
    assert!(response(&mut host).success);
    let mark = guest.path("mark");
    for command in [
        touch("raw", &mark),
        json!({ "type": "SafeCommand", "id": "kill", "command_type": { "action": "ProcessKill", "pid": 999_999 } }),
    ] {
        host.send_line(&command.to_string());
        assert_eq!(response(&mut host).error_code, Some(ErrorCode::PermissionDenied));
    }
    assert!(!mark.exists());
}
