//! What has a guest do something, as a user types it.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use infini_protocol::ErrorCode;
use infini_protocol::agent::{AgentBody, Ended, Handshake, Response, ScriptCompletion};
use infini_protocol::host::{HostMessage, PendingScriptsResponse, UnsafeCommand};
use infinihost::sanitize::is_dangerous;
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};
use support::{FakeAgent, Peer, SECRET, SOON, greeting};
use tokio::process::{Child, Command};

fn agent_handshake() -> Handshake {
    Handshake { capabilities: vec!["cancel".to_owned()], ..greeting("vm-1") }
}

/// The program, at work for the machine behind this agent.
fn start(agent: &FakeAgent, verb: &str, arguments: &[&str]) -> Child {
    program(agent.dir(), verb)
        .arg("--secret-file")
        .arg(secret(agent))
        .arg(agent.socket())
        .args(arguments)
        .spawn()
        .unwrap()
}

fn secret(agent: &FakeAgent) -> PathBuf {
    let secret = agent.dir().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    secret
}

fn program(home: &Path, verb: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infinihost"));
    command.arg(verb).env_remove("XDG_CONFIG_HOME").env("HOME", home);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn end(child: Child) -> Output {
    tokio::time::timeout(SOON, child.wait_with_output()).await.expect("the program does not end").unwrap()
}

/// What was printed, on standard output and beside it; nothing beside it may act on a terminal.
fn printed(output: &Output, code: i32) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{stdout}{stderr}");
    (stdout, stderr)
}

async fn hear_raw(peer: &mut Peer) -> UnsafeCommand {
    let heard = peer.hear_order(&agent_handshake()).await.message;
    let HostMessage::UnsafeCommand(command) = heard else { panic!("{heard:?}") };
    command
}

/// Runs a typed command and answers it; gives what was asked for, and what the program printed.
async fn typed(verb: &str, arguments: &[&str], answer: Response, code: i32) -> (Value, String, String) {
    let agent = FakeAgent::listen();
    let child = start(&agent, verb, arguments);
    let mut peer = agent.accept().await;
    let heard = peer.hear_order(&agent_handshake()).await;
    let asked: Value = serde_json::from_str(&heard.payload).unwrap();
    let (id, action) = (&asked["id"], &asked["command_type"]["action"]);
    let (id, command_type) = (id.as_str().unwrap().to_owned(), action.as_str().unwrap().to_owned());
    peer.say(AgentBody::Response(Box::new(Response { id, command_type, ..answer }))).await;
    let (stdout, stderr) = printed(&end(child).await, code);
    (asked, stdout, stderr)
}

fn data(data: Value) -> Response {
    Response { success: true, data: Some(data), ..Response::default() }
}

fn refused(code: ErrorCode) -> Response {
    let error = Some("no\u{1b}[2J".to_owned());
    Response { exit_code: 1, error, error_code: Some(code), ..Response::default() }
}

fn ran(id: &str, exit_code: i32, stdout: &str, stderr: &str) -> AgentBody {
    AgentBody::Response(Box::new(Response {
        id: id.to_owned(),
        success: exit_code == 0,
        exit_code,
        stdout: stdout.to_owned(),
        stderr: stderr.to_owned(),
        command_type: "unsafe".to_owned(),
        error: (exit_code != 0).then(|| format!("it ended with {exit_code}")),
        error_code: (exit_code != 0).then_some(ErrorCode::CommandFailed),
        ended: Some(Ended::Exit),
        ..Response::default()
    }))
}

#[tokio::test]
async fn exec_passes_arguments_output_and_exit_code_through() {
    let agent = FakeAgent::listen();
    let options = ["--timeout", "5", "--cwd", "/tmp", "--env", "A=b=c", "--user", "web", "--shell", "bash"];
    let words = ["--", "printf", "%s", "it's"];
    let child = start(&agent, "exec", &[&options[..], &words].concat());
    let mut peer = agent.accept().await;
    let command = hear_raw(&mut peer).await;
    assert_eq!(command.raw_command, r"printf %s 'it'\''s'");
    assert_eq!(command.timeout.as_ref().unwrap().get().unwrap().as_secs(), 5);
    assert_eq!((command.working_dir.as_deref(), command.run_as.as_deref()), (Some("/tmp"), Some("web")));
    assert_eq!((command.shell.as_deref(), &command.env_vars.as_ref().unwrap()["A"][..]), (Some("bash"), "b=c"));
    peer.say(ran(&command.id, 3, "out\u{1b}[2J\0", "err")).await;
    let (stdout, stderr) = printed(&end(child).await, 3);
    assert_eq!((stdout.as_str(), stderr.as_str()), ("out\u{1b}[2J\0", "err"), "a pipe gets what the program wrote");
}

#[tokio::test]
async fn a_terminal_gets_colours_and_nothing_else_that_it_acts_on() {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let screen = OpenOptions::new().write(true).custom_flags(OFlags::NOCTTY.bits() as i32).open(name).unwrap();
    let agent = FakeAgent::listen();
    let secret = secret(&agent);
    let mut command = program(agent.dir(), "sh");
    command.arg(agent.socket()).arg("--secret-file").arg(secret).arg("ls").stdout(screen);
    let child = command.spawn().unwrap();
    // The last handle of the screen is the child's, so that reading ends with it.
    drop(command);
    let mut peer = agent.accept().await;
    let id = hear_raw(&mut peer).await.id;
    peer.say(ran(&id, 0, "\u{1b}[31mred\u{1b}]0;title\u{7}\u{1b}[5n\n", "")).await;
    printed(&end(child).await, 0);
    let mut shown = Vec::new();
    // EIO: nobody has the other end any more.
    File::from(terminal).read_to_end(&mut shown).unwrap_err();
    assert_eq!(String::from_utf8_lossy(&shown), "\u{1b}[31mred␛]0;title␇␛[5n\r\n\u{1b}[0m");
}

#[tokio::test]
async fn a_line_is_sent_as_it_is_and_its_answer_is_one_line_of_json() {
    let agent = FakeAgent::listen();
    let child = start(&agent, "sh", &["echo $HOME | wc -c", "--json"]);
    let mut peer = agent.accept().await;
    let command = hear_raw(&mut peer).await;
    assert_eq!(command.raw_command, "echo $HOME | wc -c");
    assert_eq!((&command.shell, &command.env_vars), (&None, &None), "what nobody asked for may not be permitted");
    peer.say(ran(&command.id, 0, "\u{9b}6\n", "")).await;
    let (stdout, _) = printed(&end(child).await, 0);
    assert!(!stdout.trim_end_matches('\n').contains(is_dangerous), "{stdout:?}");
    let line: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&line["stdout"], &line["vm"]), (&json!("\u{9b}6\n"), &json!(agent.socket())));
}

#[tokio::test]
async fn a_break_of_the_connection_is_not_noticed() {
    let agent = FakeAgent::listen();
    let child = start(&agent, "exec", &["--", "true"]);
    let mut peer = agent.accept().await;
    let first = hear_raw(&mut peer).await;
    drop(peer);
    let mut peer = agent.accept().await;
    let second = hear_raw(&mut peer).await;
    assert_eq!(first, second);
    peer.say(ran(&second.id, 0, "once\n", "")).await;
    assert_eq!(printed(&end(child).await, 0), ("once\n".to_owned(), String::new()));
}

#[tokio::test]
async fn the_first_interrupt_takes_the_command_back_and_the_second_leaves() {
    for patient in [true, false] {
        let agent = FakeAgent::listen();
        let child = start(&agent, "exec", &["--", "sleep", "999"]);
        let mut peer = agent.accept().await;
        let command = hear_raw(&mut peer).await;
        let interrupt = || kill_process(Pid::from_raw(child.id().unwrap() as i32).unwrap(), Signal::INT).unwrap();
        interrupt();
        let heard = peer.hear_order(&agent_handshake()).await;
        assert!(matches!(&heard.message, HostMessage::Cancel(cancel) if cancel.id == command.id), "{heard:?}");
        if patient {
            let cancelled = Response {
                id: command.id,
                ended: Some(Ended::Cancelled),
                exit_code: -1,
                ..refused(ErrorCode::CommandCancelled)
            };
            peer.say(AgentBody::Response(Box::new(cancelled))).await;
        } else {
            interrupt();
        }
        let (_, stderr) = printed(&end(child).await, 130);
        let told = if patient { "COMMAND_CANCELLED" } else { "may still run in the guest" };
        assert!(stderr.contains("Ctrl-C again leaves at once") && stderr.contains(told), "{stderr}");
    }
}

#[tokio::test]
async fn typed_commands_ask_for_their_actions() {
    let answer = || data(json!({}));
    for (verb, arguments, action, seconds) in [
        ("services", &[][..], json!({ "action": "ServiceList" }), 30),
        (
            "service",
            &["restart", "nginx"],
            json!({ "action": "ServiceControl", "operation": "restart", "service": "nginx" }),
            60,
        ),
        (
            "package",
            &["install", "htop", "--timeout", "30m"],
            json!({ "action": "PackageInstall", "package": "htop" }),
            1800,
        ),
        ("package", &["remove", "htop"], json!({ "action": "PackageRemove", "package": "htop" }), 1800),
        ("package", &["update", "htop"], json!({ "action": "PackageUpdate", "package": "htop" }), 1800),
        ("package", &["search", "top"], json!({ "action": "PackageSearch", "query": "top" }), 30),
        ("package", &["list"], json!({ "action": "PackageList" }), 30),
        ("ps", &["--limit", "3"], json!({ "action": "ProcessList", "limit": 3 }), 30),
        ("top", &["--sort", "memory"], json!({ "action": "ProcessTop", "sort_by": "memory" }), 30),
        ("kill", &["7", "--force"], json!({ "action": "ProcessKill", "pid": 7, "force": true }), 60),
        ("kill", &["7", "--timeout", "2m"], json!({ "action": "ProcessKill", "pid": 7 }), 120),
    ] {
        let (asked, ..) = typed(verb, arguments, answer(), 0).await;
        assert_eq!((&asked["command_type"], &asked["timeout"]), (&action, &json!(seconds)), "{verb} {arguments:?}");
    }
    let (asked, ..) = typed("run", &[r#"{"action":"GetUpdateHistory","days":3}"#], answer(), 0).await;
    assert_eq!(asked["command_type"], json!({ "action": "GetUpdateHistory", "days": 3 }));
    assert_eq!(asked.get("timeout"), None, "the agent knows how long an action may take");
}

#[tokio::test]
async fn people_get_a_table_and_programs_the_answer() {
    let services = || {
        data(json!([{ "name": "nginx.service\u{1b}[2J", "display_name": "A web server", "status": "running",
            "startup_type": "auto", "pid": 812, "can_start": false, "can_stop": true, "can_restart": true }]))
    };
    let (_, stdout, _) = typed("services", &[], services(), 0).await;
    let expected = "\
NAME               STATUS   STARTUP  PID  WHAT IT IS
nginx.service␛[2J  running  auto     812  A web server
";
    assert_eq!(stdout, expected);
    let (_, stdout, _) = typed("services", &["--json"], services(), 0).await;
    let line: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&line["data"][0]["pid"], &line["success"]), (&json!(812), &json!(true)));
}

#[tokio::test]
async fn a_refusal_says_why_and_what_to_do_next() {
    for (code, exit, advice) in [
        (ErrorCode::PermissionDenied, 77, r#"infiniservice policy explain '{"action":"ServiceControl""#),
        (ErrorCode::Interrupted, 69, "look at its effects"),
        (ErrorCode::CommandTimeout, 124, "--timeout"),
        (ErrorCode::ResourceLimit, 75, "try again later"),
        (ErrorCode::ServiceNotFound, 1, "SERVICE_NOT_FOUND"),
    ] {
        let (_, stdout, stderr) = typed("service", &["stop", "x"], refused(code), exit).await;
        assert!(stderr.starts_with(&format!("infinihost: no␛[2J ({code})")) && stderr.contains(advice), "{stderr}");
        assert_eq!(stdout, "");
    }
}

#[tokio::test]
async fn scripts_are_handed_over_until_each_has_ended() {
    let agent = FakeAgent::listen();
    let files = ["one.sh", "two.sh"].map(|name| agent.dir().join(name));
    files.iter().for_each(|file| std::fs::write(file, format!("echo {}\n", file.display())).unwrap());
    let paths: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let child = start(&agent, "scripts", &[&paths[..], &["--shell", "sh", "--timeout", "30s", "--json"]].concat());
    let mut peer = agent.accept().await;
    let scripts = hear_scripts(&mut peer).await;
    let [one] = scripts.as_slice() else { panic!("the second one's time must not begin before its turn: {scripts:?}") };
    assert_eq!((one.script_name.as_deref(), one.shell.as_deref()), (Some("one.sh"), Some("sh")));
    let ended = |execution_id: &str, exit_code| {
        let (stdout, stderr) = ("out\n".to_owned(), String::new());
        AgentBody::ScriptCompletion(ScriptCompletion {
            execution_id: execution_id.to_owned(),
            exit_code,
            stdout,
            stderr,
            log_file: None,
        })
    };
    peer.say(ended("another's", 9)).await;
    peer.say(ended(&one.execution_id, 4)).await;
    let two = loop {
        // The first one may have been handed over once more, to an agent that was not there yet.
        match hear_scripts(&mut peer).await.as_slice() {
            [script] if script != one => break script.clone(),
            same => assert_eq!(same, std::slice::from_ref(one)),
        }
    };
    assert_ne!(one.execution_id, two.execution_id);
    drop(peer);
    let mut peer = agent.accept().await;
    peer.say(AgentBody::Handshake(agent_handshake())).await;
    assert_eq!(hear_scripts(&mut peer).await, std::slice::from_ref(&two), "what has ended is not handed over again");
    peer.say(ended(&two.execution_id, 0)).await;
    let (stdout, _) = printed(&end(child).await, 4);
    let lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = lines.iter().map(|line| (&line["script"], &line["exit_code"])).collect();
    assert_eq!(told, [(&json!("one.sh"), &json!(4)), (&json!("two.sh"), &json!(0))]);
}

async fn hear_scripts(peer: &mut Peer) -> Vec<infini_protocol::host::Script> {
    let heard = peer.hear_order(&agent_handshake()).await.message;
    let HostMessage::PendingScriptsResponse(PendingScriptsResponse { scripts }) = heard else { panic!("{heard:?}") };
    scripts
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_said_at_once() {
    let agent = FakeAgent::listen();
    let socket = agent.socket();
    let without = program(agent.dir(), "ps").arg(&socket).spawn().unwrap();
    let (_, stderr) = printed(&end(without).await, 78);
    assert!(stderr.contains("--secret-file"), "{stderr}");
    for (verb, arguments, code, told) in [
        ("run", &["{"][..], 64, "JSON"),
        ("run", &["[]"], 64, "JSON"),
        ("exec", &["--shell", "cmd", "--", "dir"], 64, "infinihost sh --shell cmd"),
        ("exec", &["ls"], 64, "--"),
        ("package", &["install"], 64, "NAME"),
        ("package", &["list", "htop"], 64, "package search"),
        ("exec", &["--timeout", "0", "--", "ls"], 64, "whole seconds"),
        ("sh", &["--env", "=x", "ls"], 64, "NAME=VALUE"),
        ("scripts", &["/nonexistent"], 66, "/nonexistent"),
    ] {
        let (_, stderr) = printed(&end(start(&agent, verb, arguments)).await, code);
        assert!(stderr.contains(told), "{verb} {arguments:?}: {stderr}");
    }
}

#[tokio::test]
async fn a_wrong_secret_runs_nothing() {
    let agent = FakeAgent::listen();
    let child = start(&agent, "exec", &["--", "true"]);
    let mut peer = agent.accept().await;
    peer.hear().await;
    let details = infini_protocol::agent::ErrorDetails {
        component: "auth".to_owned(),
        error_code: ErrorCode::AuthFailed,
        message: "wrong signature".to_owned(),
        dropped: None,
    };
    let error = "not signed with this machine's secret".to_owned();
    peer.say(AgentBody::Error(infini_protocol::agent::ErrorMessage { error, details })).await;
    let (_, stderr) = printed(&end(child).await, 77);
    assert!(stderr.contains("the secret is wrong"), "{stderr}");
}
