//! The agent as a process: what a host sees of it over a Unix socket.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use infini_protocol::ErrorCode;
use infini_protocol::agent::{AgentBody, AgentMessage};
use rustix::fs::inotify::WatchFlags;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;
use support::{Guest, Host, SECRET, Watch, files};

fn response(host: &mut Host) -> infini_protocol::agent::Response {
    host.wait_for(|body| match body {
        AgentBody::Response(response) => Some(*response),
        _ => None,
    })
}

fn error(host: &mut Host) -> infini_protocol::agent::ErrorDetails {
    host.wait_for(|body| match body {
        AgentBody::Error(error) => Some(error.details),
        _ => None,
    })
}

#[test]
fn a_host_hears_who_speaks_and_then_how_the_machine_does() {
    let guest = Guest::new();
    let _agent = guest.start();
    let mut host = guest.accept();

    let AgentBody::Handshake(handshake) = host.next().body else { panic!("the first line is no handshake") };
    assert_eq!((handshake.vm_id.as_str(), handshake.platform.as_str()), ("vm-test", "linux"));
    let AgentBody::RequestPendingScripts(_) = host.next().body else { panic!("nobody asks for scripts") };
    let AgentBody::Metrics(metrics) = host.next().body else { panic!("no sample follows") };
    let system = metrics.data.system;
    let cores = std::thread::available_parallelism().unwrap().get();
    assert!(system.cpu.as_ref().is_some_and(|cpu| cpu.cores_usage.len() >= cores), "{:?}", system.cpu);
    assert!(system.memory.as_ref().is_some_and(|memory| memory.total_kb > memory.used_kb), "{:?}", system.memory);
    assert!(system.uptime_seconds.is_some_and(|seconds| seconds > 0));
    assert!(metrics.data.processes.is_some_and(|processes| !processes.is_empty()));
}

#[test]
fn requests_are_answered() {
    let guest = Guest::new();
    let _agent = guest.start();
    let mut host = guest.accept();
    host.wait_for(|body| matches!(body, AgentBody::Metrics(_)).then_some(()));

    host.send(&json!({"type": "Metrics"}));
    host.wait_for(|body| matches!(body, AgentBody::Metrics(_)).then_some(()));

    host.send(&json!({"type": "keep_alive_request", "sequence_number": 42}));
    let number = host.wait_for(|body| match body {
        AgentBody::KeepAlive(keep_alive) => Some(keep_alive.sequence_number),
        _ => None,
    });
    assert_eq!(number, 42);

    host.send(&json!({"type": "hello", "host_session_id": "h", "protocol_version": 2, "capabilities": []}));
    host.wait_for(|body| matches!(body, AgentBody::Handshake(_)).then_some(()));
}

#[test]
fn a_host_that_ends_its_half_of_the_connection_is_answered() {
    let guest = Guest::new();
    let _agent = guest.start();
    let mut host = guest.accept();
    host.wait_for(|body| matches!(body, AgentBody::Metrics(_)).then_some(()));
    host.send(&json!({"type": "Metrics"}));
    host.send(&json!({"type": "keep_alive_request", "sequence_number": 7}));
    host.end_requests();
    host.wait_for(|body| matches!(body, AgentBody::KeepAlive(_)).then_some(()));
    host.wait_for(|body| matches!(body, AgentBody::Metrics(_)).then_some(()));
}

#[test]
fn every_command_gets_its_one_answer() {
    let guest = Guest::new();
    let _agent = guest.start();
    let mut host = guest.accept();
    for (command, code) in [
        (
            json!({"type": "SafeCommand", "id": "1", "command_type": {"action": "ProcessKill", "pid": 1}}),
            ErrorCode::PermissionDenied,
        ),
        (json!({"type": "SafeCommand", "id": "2", "command_type": {"action": "Nothing"}}), ErrorCode::UnknownCommand),
        (json!({"type": "UnsafeCommand", "id": "3", "raw_command": "id"}), ErrorCode::PermissionDenied),
        (json!({"type": "SafeCommand", "id": "4"}), ErrorCode::InvalidParameters),
    ] {
        host.send(&command);
        let response = response(&mut host);
        assert_eq!((&json!(response.id), response.error_code), (&command["id"], Some(code)), "{response:?}");
        assert!(!response.success);
    }
    host.send(&json!({"type": "pending_scripts_response",
        "scripts": [{"execution_id": "e-1", "script_content": "id", "shell": "BASH"}]}));
    let code = host.wait_for(|body| match body {
        AgentBody::ScriptCompletion(completion) => Some((completion.execution_id, completion.exit_code)),
        _ => None,
    });
    assert_eq!(code, ("e-1".to_owned(), 126));
}

#[test]
fn what_is_no_message_is_named_and_the_stream_goes_on() {
    let guest = Guest::new();
    let _agent = guest.start();
    let mut host = guest.accept();
    host.round_trip();

    host.send_line("this is no JSON");
    assert_eq!(error(&mut host).error_code, ErrorCode::InvalidMessage);
    host.send(&json!({"type": "Dance"}));
    assert_eq!(error(&mut host).error_code, ErrorCode::InvalidMessage);
    host.send_line(&"x".repeat((1 << 20) + 1));
    assert_eq!(error(&mut host).error_code, ErrorCode::MessageTooLarge);
    host.send_line(r#"{"type":"Metrics"}"#);
    assert_eq!(error(&mut host).error_code, ErrorCode::AuthFailed);
    host.send_line(r#"{"type":"Metrics"}"#);
    host.round_trip();
}

#[test]
fn what_is_not_believed_is_written_down_in_the_log_and_in_a_file_of_its_own() {
    let guest = Guest::new();
    let agent = guest.start();
    let mut host = guest.accept();
    for _ in 0..3 {
        host.send_line(r#"{"type":"Metrics"}"#);
    }
    let line = host.sign(&json!({"type": "Metrics"}));
    host.send_line(&line);
    host.send_line(&line);
    host.round_trip();
    let audit = std::fs::read_to_string(guest.path("auth.log")).unwrap();
    let reasons: Vec<_> = audit.lines().collect();
    assert_eq!(reasons.len(), 2, "one of the forged, one of the replayed: {audit}");
    assert!(reasons[1].contains("once more"), "{audit}");
    assert!(agent.log().contains("was not believed"), "{}", agent.log());
}

#[test]
fn a_restart_refuses_what_was_seen_and_takes_what_was_not() {
    let guest = Guest::new();
    let first = guest.start();
    let mut host = guest.accept();
    let command = host.sign(&json!({"type": "SafeCommand", "id": "once", "command_type": {"action": "OsInfo"}}));
    let waiting = host.sign(&json!({"type": "SafeCommand", "id": "waited", "command_type": {"action": "OsInfo"}}));
    host.send_line(&command);
    assert_eq!(response(&mut host).id, "once");
    drop(first);

    let _second = guest.start();
    let mut host = guest.accept();
    host.send_line(&command);
    host.send_line(&waiting);
    assert_eq!(response(&mut host).id, "waited", "the replay was answered");
}

#[test]
fn without_a_secret_samples_flow_and_nothing_is_taken() {
    let guest = Guest::new();
    let _agent = guest.start_as(guest.command());
    let mut host = guest.accept();
    host.wait_for(|body| matches!(body, AgentBody::Metrics(_)).then_some(()));
    host.send(&json!({"type": "Metrics"}));
    assert_eq!(error(&mut host).error_code, ErrorCode::AuthFailed);
}

#[test]
fn sigterm_and_sigint_end_the_agent_in_good_order() {
    for signal in ["TERM", "INT"] {
        let guest = Guest::new();
        let mut agent = guest.start();
        let mut host = guest.accept();
        host.round_trip();
        let asked = std::time::Instant::now();
        agent.signal(signal);
        let status = agent.child.wait().unwrap();
        assert!(status.success(), "SIG{signal}: {status}; {}", agent.log());
        assert!(asked.elapsed().as_secs() < 3, "SIG{signal} took {:?}", asked.elapsed());
    }
}

#[test]
fn commands_that_meet_the_agents_end_are_answered() {
    let guest = Guest::new();
    let mut agent = guest.start();
    let mut host = guest.accept();
    host.round_trip();
    // Stopped, the agent finds both when it goes on: commands and the order to end.
    agent.signal("STOP");
    agent.signal("TERM");
    let ids: Vec<_> = (0..20).map(|n| format!("late-{n}")).collect();
    for id in &ids {
        host.send(&json!({"type": "SafeCommand", "id": id, "command_type": {"action": "OsInfo"}}));
    }
    agent.signal("CONT");
    // Those that it took before it saw the order have begun, and end after the others were refused.
    let mut answered: Vec<_> = ids.iter().map(|_| response(&mut host).id).collect();
    answered.sort_by_key(|answered| ids.iter().position(|id| id == answered));
    assert_eq!(answered, ids);
    assert!(agent.child.wait().unwrap().success(), "{}", agent.log());
}

#[test]
fn a_secret_that_comes_with_a_reload_is_used_and_what_it_does_not_change_is_said() {
    let guest = Guest::new();
    let agent = guest.start_as(guest.command());
    let mut host = guest.accept();
    host.send_line(r#"{"type":"Metrics"}"#);
    assert_eq!(error(&mut host).error_code, ErrorCode::AuthFailed);
    std::fs::write(guest.path("secret"), SECRET).unwrap();
    std::fs::set_permissions(guest.path("secret"), std::fs::Permissions::from_mode(0o600)).unwrap();
    agent.signal("HUP");
    agent.wait_for_log("configuration read again");
    host.round_trip();
    assert!(agent.log().contains("from the next start"), "{}", agent.log());
}

#[test]
fn sighup_takes_a_new_interval_and_says_what_waits_for_a_restart() {
    let guest = Guest::new();
    let agent = guest.start();
    let mut host = guest.accept();
    host.wait_for(|body| matches!(body, AgentBody::Metrics(_)).then_some(()));
    guest.configure("[collector]\ninterval = \"1s\"\n[communication]\nborrow = false\n");
    agent.signal("HUP");
    // With the interval of the first configuration the second of these would be half a minute away.
    for _ in 0..2 {
        host.wait_for(|body| matches!(body, AgentBody::Metrics(_)).then_some(()));
    }
    let log = agent.log();
    assert!(log.contains("communication.borrow"), "{log}");
}

#[test]
fn sighup_with_a_broken_file_changes_nothing() {
    let guest = Guest::new();
    let agent = guest.start();
    let mut host = guest.accept();
    host.round_trip();
    std::fs::write(guest.path("config.toml"), "vm_id = \n").unwrap();
    agent.signal("HUP");
    host.round_trip();
    host.round_trip();
}

#[test]
fn a_configuration_whose_file_system_hangs_does_not_hang_the_agent() {
    let guest = Guest::new();
    let agent = guest.start();
    let mut host = guest.accept();
    host.round_trip();
    // While somebody has it open to write, whoever reads it waits, as one does for a file server that is away.
    let path = guest.path("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mut file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    let opened = Watch::new(&path, WatchFlags::OPEN);
    agent.signal("HUP");
    opened.wait();
    host.round_trip();
    assert!(!agent.log().contains("configuration read again"), "{}", agent.log());
    file.write_all(text.as_bytes()).unwrap();
    drop(file);
    agent.wait_for_log("configuration read again");
    host.round_trip();
}

#[test]
fn the_link_comes_back_by_itself() {
    let guest = Guest::new();
    let _agent = guest.start();
    let mut host = guest.accept();
    let AgentBody::Handshake(first) = host.next().body else { panic!("no handshake") };
    drop(host);
    let mut host = guest.accept();
    let second = host.wait_for(|body| match body {
        AgentBody::Handshake(handshake) => Some(handshake),
        _ => None,
    });
    assert_eq!(first.session_id, second.session_id);
    let report = host.wait_for(|body| match body {
        AgentBody::ErrorReport(report) => Some(report),
        _ => None,
    });
    assert_eq!(report.error_type, "BROKEN_PIPE");
}

#[test]
fn the_secret_is_nowhere_to_be_seen() {
    let guest = Guest::new();
    let mut command = guest.command();
    command.env("INFINISERVICE_SHARED_SECRET", SECRET).arg("--debug");
    let agent = guest.start_as(command);
    let mut host = guest.accept();
    let mut said = String::new();
    for line in ["no message", r#"{"type":"signed"}"#] {
        host.send_line(line);
    }
    host.send(&json!({"type": "keep_alive_request", "sequence_number": 7}));
    loop {
        let line = host.next_line();
        said.push_str(&line);
        let message = AgentMessage::parse(line.trim_end().as_bytes()).unwrap();
        if matches!(message.body, AgentBody::KeepAlive(_)) {
            break;
        }
    }
    assert!(!said.contains(SECRET), "the agent told its secret");
    let contains = |bytes: Vec<u8>| bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
    let environ = std::fs::read(format!("/proc/{}/environ", agent.child.id())).unwrap();
    assert!(!contains(environ), "the secret is still in the environment");
    for file in files(guest.path("").as_path()) {
        let found = std::fs::read(&file).is_ok_and(contains);
        assert!(!found, "the secret is in {}", file.display());
    }
}

/// Where systemd hears the agent.
fn notify_socket(guest: &Guest, command: &mut std::process::Command, watchdog: Duration) -> UnixDatagram {
    let path = guest.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    command.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", watchdog.as_micros().to_string());
    socket
}

/// What it hears next, or nothing by then.
fn heard(socket: &UnixDatagram, deadline: Instant) -> Option<String> {
    let mut buffer = [0; 4096];
    let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
    socket.set_read_timeout(Some(left)).unwrap();
    let length = socket.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned())
}

#[test]
fn systemd_hears_of_a_loop_that_runs_twice_in_the_time_that_it_waits() {
    let (guest, patience) = (Guest::new(), Duration::from_millis(400));
    let mut command = guest.command();
    let notify = notify_socket(&guest, &mut command, patience);
    let _agent = guest.start_listening(command);
    let deadline = Instant::now() + Duration::from_secs(20);
    let ready = heard(&notify, deadline);
    assert_eq!(ready.as_deref(), Some("READY=1"));

    let (ready_at, mut said) = (Instant::now(), Vec::new());
    while said.iter().filter(|said| *said == "WATCHDOG=1").count() < 4 {
        let more = heard(&notify, deadline);
        said.push(more.unwrap_or_else(|| panic!("systemd would take it for hung: {said:?}")));
    }
    // The first may follow at once: the time to it began before the loop ran.
    assert!(ready_at.elapsed() >= patience / 2 * 3, "four in {:?}: {said:?}", ready_at.elapsed());
}

#[test]
fn hosts_that_come_and_go_faster_than_the_tick_do_not_put_it_off() {
    let guest = Guest::new();
    let mut command = guest.command();
    let notify = notify_socket(&guest, &mut command, Duration::from_secs(1));
    let _agent = guest.start_listening(command);
    // All is read that was said: the agent would wait for room in the socket.
    let alive = std::thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(5);
        std::iter::from_fn(|| heard(&notify, deadline)).any(|said| said == "WATCHDOG=1")
    });
    let mut hosts = 0;
    while !alive.is_finished() {
        guest.connect().next_line();
        hosts += 1;
    }
    assert!(alive.join().unwrap(), "no tick while {hosts} hosts came and went");
}

#[test]
fn a_host_that_comes_and_goes_does_not_fill_the_log() {
    let guest = Guest::new();
    let agent = guest.start_listening(guest.command());
    for _ in 0..20 {
        guest.connect().next_line();
    }
    let log = agent.log();
    let told = log.lines().filter(|line| line.contains("to=Connect")).count();
    // A minute may end meanwhile, and then another line is due.
    assert!((1..=4).contains(&told), "{told} lines about 20 hosts:\n{log}");
}

#[test]
fn a_line_limit_that_waits_for_a_restart_loses_no_message() {
    let guest = Guest::new();
    guest.configure("[permissions]\nraw = \"all\"\n[limits]\nmax_line_bytes = 65536\n");
    let agent = guest.start();
    let mut host = guest.accept();
    host.round_trip();
    guest.configure("[permissions]\nraw = \"all\"\n[limits]\nmax_line_bytes = 1048576\n");
    agent.signal("HUP");
    host.round_trip();
    // Uncut it would be longer than the link still takes.
    host.send(&json!({"type": "UnsafeCommand", "id": "1", "raw_command": "head -c 100000 /dev/zero | tr '\\0' x"}));
    let found = response(&mut host);
    assert!(found.success && found.truncated, "{found:?}\n{}", agent.log());
    assert!((30_000..65_536).contains(&found.stdout.len()), "{} bytes", found.stdout.len());
}
