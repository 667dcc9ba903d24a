//! The modes of the command line that end by themselves, and their exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use infini_protocol::agent::{AgentBody, AgentMessage};
use support::Guest;

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn once_prints_one_sample() {
    let guest = Guest::new();
    let (code, out, err) = run(guest.command().arg("--once"));
    assert_eq!(code, Some(0), "{err}");
    let message = AgentMessage::parse(out.trim_end().as_bytes()).unwrap();
    let AgentBody::Metrics(metrics) = message.body else { panic!("{out}") };
    assert!(metrics.data.system.cpu.is_some(), "{out}");
}

#[test]
fn a_configuration_in_order_is_said_to_be() {
    let guest = Guest::new();
    let (code, out, err) = run(guest.command().arg("--check-config"));
    assert_eq!((code, out.ends_with("is in order\n")), (Some(0), true), "{out}{err}");
}

#[test]
fn a_configuration_that_cannot_be_used_ends_with_78() {
    let guest = Guest::new();
    for (text, said) in [
        ("[collector]\ninterval = \"soon\"\n", "config.toml:5: collector.interval"),
        ("interval = 5\n", "did you mean collector.interval?"),
    ] {
        guest.configure(text);
        let (code, _, err) = run(guest.command().arg("--check-config"));
        assert_eq!((code, err.contains(said)), (Some(78), true), "{err}");
    }
    let (code, _, err) =
        run(Command::new(env!("CARGO_BIN_EXE_infiniservice")).args(["--once", "--config", "/nowhere"]));
    assert_eq!((code, err.contains("/nowhere")), (Some(78), true), "{err}");
}

#[test]
fn a_secret_that_others_can_read_is_refused_with_the_reason() {
    let guest = Guest::new();
    std::fs::write(guest.path("secret"), "s3cret-canary").unwrap();
    std::fs::set_permissions(guest.path("secret"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, _, err) = run(guest.command().arg("--check-config"));
    assert_eq!((code, err.contains("chmod 600")), (Some(78), true), "{err}");
    assert!(!err.contains("canary"), "{err}");
}

#[test]
fn every_value_says_where_it_came_from() {
    let guest = Guest::new();
    let mut command = guest.command();
    command.env("INFINISERVICE_INTERVAL", "7s").args(["--print-config", "--device", "unix:/run/x.sock"]);
    let (code, out, err) = run(&mut command);
    assert_eq!(code, Some(0), "{err}");
    for line in [
        "interval = \"7s\"  # environment variable INFINISERVICE_INTERVAL",
        "device = \"unix:/run/x.sock\"  # command line --device",
        "borrow = true  # default",
        "config.toml:1",
    ] {
        assert!(out.contains(line), "{line:?} is not in:\n{out}");
    }
}

#[test]
fn diagnose_says_what_is_wrong_and_what_to_do() {
    let guest = Guest::new();
    let mut command = guest.command();
    let (code, out, _) = run(command.args(["--diagnose", "--device", "/dev/no-such-port"]));
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("/dev/no-such-port does not exist") && out.contains("->"), "{out}");

    let (code, out, _) = run(command.arg("--json"));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, report["healthy"].as_bool()), (Some(1), Some(false)), "{out}");
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    let (code, _, err) = run(Command::new(env!("CARGO_BIN_EXE_infiniservice")).arg("--no-such-option"));
    assert_eq!((code, err.contains("--help")), (Some(2), true), "{err}");
}

#[test]
fn the_policy_explains_itself() {
    let guest = Guest::new();
    guest.configure("[permissions]\nchanges = \"all\"\n[[permissions.deny]]\nname = \"no-dbus\"\nservice = \"dbus\"\n");
    let service = |name: &str| format!(r#"{{"action":"ServiceControl","service":"{name}","operation":"stop"}}"#);
    let explain = |secret: &str, command: &str| {
        run(guest.command().env("INFINISERVICE_SHARED_SECRET", secret).args(["policy", "explain", command]))
    };
    for (command, code, part) in [
        (service("nginx"), 0, "allowed: ServiceControl\n  rule: permissions.changes\n"),
        (service("dbus"), 1, "  rule: permissions.deny[0] \"no-dbus\"\n"),
        (r#"{"action":"ProcessKill","pid":1}"#.to_owned(), 1, "  rule: protected_processes\n"),
        (r#"{"raw_command":"id"}"#.to_owned(), 1, "  rule: permissions.raw\n"),
    ] {
        let (found, out, err) = explain(support::SECRET, &command);
        assert_eq!((found, out.contains(part)), (Some(code), true), "{command}: {out}{err}");
    }
    for command in ["", "[]", "{}", r#"{"action":"FormatDisk"}"#, r#"{"type":"Metrics"}"#, &service("../dbus")] {
        let (code, out, err) = explain(support::SECRET, command);
        assert_eq!((code, out.as_str(), err.is_empty()), (Some(2), "", false), "{command}: {err}");
    }
    let (code, out, err) = run(guest.command().args(["policy", "explain", &service("nginx")]));
    assert_eq!((code, out.contains("rule: secret_file")), (Some(1), true), "{out}{err}");
    assert!(out.contains("With a shared secret it would be:\nallowed:"), "{out}");
}

#[test]
fn permissions_that_are_misspelt_refuse_the_configuration() {
    let guest = Guest::new();
    guest.configure("[permissions]\nread = \"all\"\n");
    let (code, _, err) = run(guest.command().arg("--check-config"));
    assert_eq!(
        (code, err.contains("config.toml:5: permissions:") && err.contains("`read`")),
        (Some(78), true),
        "{err}"
    );
}
