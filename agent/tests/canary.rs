//! The shared secret and the passwords in commands are told to nobody: an agent is started with a canary as its secret and asked for all
//! that could give it away, and then every place is searched where it could have gone.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
#![cfg(target_os = "linux")]

mod support;

use std::collections::{BTreeSet, HashMap};
use std::fs::{File, Permissions, set_permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use infini_protocol::agent::{AgentBody, AgentMessage};
use infini_protocol::envelope::{Key, seal};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};
use support::{Agent, Guest, Host, SECRET, files};

/// In commands, in fields and variables whose names say that they are passwords.
const PASSWORD: &str = "canary-password-1b8e07c3";

const PERMISSIONS: &str = "[permissions]\nreads = \"all\"\nchanges = \"all\"\nraw = \"all\"\n\
                           [[permissions.deny]]\naction = \"ProcessKill\"\n";

fn contains(bytes: &[u8], canary: &str) -> bool {
    bytes.windows(canary.len()).any(|window| window == canary.as_bytes())
}

/// Everything that the agent says, whatever is waited for.
struct Ear {
    host: Host,
    said: String,
}

impl Ear {
    fn next(&mut self) -> AgentBody {
        let line = self.host.next_line();
        self.said.push_str(&line);
        AgentMessage::parse(line.trim_end().as_bytes()).unwrap().body
    }

    /// Sends all of them, and waits until each has its answer.
    fn ask(&mut self, commands: &[Value]) {
        let mut open: BTreeSet<String> =
            commands.iter().map(|command| command["id"].as_str().unwrap().to_owned()).collect();
        commands.iter().for_each(|command| self.host.send(command));
        while !open.is_empty() {
            if let AgentBody::Response(response) = self.next() {
                assert!(open.remove(&response.id), "nobody asked for {response:?}");
            }
        }
    }
}

fn raw(id: &str, line: &str) -> Value {
    json!({ "type": "UnsafeCommand", "id": id, "raw_command": line })
}

fn safe(id: &str, action: Value) -> Value {
    json!({ "type": "SafeCommand", "id": id, "command_type": action })
}

/// What a curious host, or a careless one, could send.
fn commands(agent: u32) -> Vec<Value> {
    let join = json!({ "action": "JoinDomain", "domain": "example.org", "username": "admin", "password": PASSWORD,
                       "restart_after": false });
    let mut with_params =
        safe("params", json!({ "action": "ServiceControl", "service": "no-such", "operation": "status" }));
    with_params["params"] = json!({ "password": PASSWORD });
    let mut with_variable = raw("variable", "test -n \"$DB_PASSWORD\"");
    with_variable["env_vars"] = json!({ "DB_PASSWORD": PASSWORD });
    let mut with_number = raw("number", "true");
    with_number["env_vars"] = json!({ "DB_PASSWORD": 5 });
    let mut refused = raw("no such shell", "true");
    refused["shell"] = "fish".into();
    vec![
        safe("join", join),
        with_params,
        with_variable,
        with_number,
        refused,
        safe("denied", json!({ "action": "ProcessKill", "pid": 1, "password": PASSWORD })),
        safe("unknown", json!({ "action": "TellSecret", "password": PASSWORD })),
        raw("env", "env"),
        raw("own environment", "cat /proc/self/environ"),
        raw("parent's environment", "cat /proc/$PPID/environ"),
        raw("agent's environment", &format!("cat /proc/{agent}/environ")),
        raw("arguments", &format!("cat /proc/self/cmdline /proc/$PPID/cmdline /proc/{agent}/cmdline")),
        raw("open files", &format!("ls -l /proc/self/fd /proc/$PPID/fd /proc/{agent}/fd")),
        raw("fails", "cat /no/such/file; exit 3"),
        raw("killed", "kill -9 $$"),
    ]
}

/// Lines that are not believed, and one that comes too late.
fn unbelieved() -> Vec<String> {
    let join = safe("forged", json!({ "action": "JoinDomain", "password": PASSWORD })).to_string();
    vec![
        seal(&Key::new("another secret").unwrap(), 1_767_225_600_000, "n-1", &join).unwrap(),
        join,
        r#"{"type":"signed","v":1}"#.to_owned(),
        "no message".to_owned(),
    ]
}

/// A process and all that descend from it.
fn family(ancestor: u32) -> Vec<u32> {
    let parent = |pid: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let pids =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let parents: HashMap<u32, u32> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let descends =
        |pid: &u32| std::iter::successors(Some(*pid), |pid| parents.get(pid).copied()).any(|pid| pid == ancestor);
    parents.keys().copied().filter(descends).collect()
}

/// Where the kernel shows it of a process: `environ` or `cmdline`.
fn shown(pid: u32, canary: &str) -> Vec<&'static str> {
    let shows = |file: &&str| std::fs::read(format!("/proc/{pid}/{file}")).is_ok_and(|bytes| contains(&bytes, canary));
    ["environ", "cmdline"].into_iter().filter(shows).collect()
}

/// While a command runs, neither the agent nor any of its children shows a canary. What the host itself put into a command's environment
/// is there, of course, and nowhere else.
fn search_processes(ear: &mut Ear, agent: &Agent, folder: &Path) {
    let gate = folder.join("gate");
    mknodat(CWD, &gate, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mut command = raw("waits", &format!("cat {}", gate.display()));
    command["env_vars"] = json!({ "DB_PASSWORD": PASSWORD });
    ear.host.send(&command);
    // It opens once the command has it open.
    let opened = File::options().write(true).open(&gate).unwrap();
    let family = family(agent.child.id());
    assert!(family.len() > 1, "the command that waits is not among {family:?}");
    let mut passwords = 0;
    for pid in family {
        assert!(shown(pid, SECRET).is_empty(), "process {pid} shows the secret in {:?}", shown(pid, SECRET));
        match shown(pid, PASSWORD).as_slice() {
            [] => {}
            ["environ"] if pid != agent.child.id() => passwords += 1,
            places => panic!("process {pid} shows the command's password in {places:?}"),
        }
    }
    assert!(passwords > 0, "the search does not find what is there");
    drop(opened);
    while !matches!(ear.next(), AgentBody::Response(response) if response.id == "waits") {}
}

/// Asks for everything, ends the agent and searches what is left of it. In one file the secret may stand.
fn search(guest: &Guest, mut agent: Agent, secret_file: Option<PathBuf>) {
    let mut ear = Ear { host: guest.accept(), said: String::new() };
    ear.ask(&commands(agent.child.id()));
    for line in unbelieved() {
        ear.host.send_line(&line);
    }
    ear.host.send(&json!({ "type": "pending_scripts_response", "scripts": [
        { "execution_id": "script", "script_content": "env | grep -v ^ADMIN_PASSWORD=", "input_values": { "ADMIN_PASSWORD": PASSWORD } },
    ] }));
    while !matches!(ear.next(), AgentBody::ScriptCompletion(_)) {}
    let folder = tempfile::tempdir().unwrap();
    search_processes(&mut ear, &agent, folder.path());
    agent.signal("TERM");
    while !matches!(ear.next(), AgentBody::AgentEvent(event) if event.message.contains("the audit ends")) {}
    assert!(agent.child.wait().unwrap().success());

    for canary in [SECRET, PASSWORD] {
        let line = ear.said.lines().find(|line| line.contains(canary));
        assert!(line.is_none(), "the host was told {canary}: {line:?}");
        for file in files(&guest.path("")).into_iter().filter(|file| Some(file) != secret_file.as_ref()) {
            let found = std::fs::read(&file).is_ok_and(|bytes| contains(&bytes, canary));
            assert!(!found, "{canary} is in {}", file.display());
        }
    }
    // Each of these was reached, so the search has searched something.
    for (place, sign) in
        [("log", "was not believed"), ("audit/commands.00000001.log", "(redacted)"), ("auth.log", "dropped")]
    {
        let text = std::fs::read_to_string(guest.path(place)).unwrap();
        assert!(text.contains(sign), "{sign:?} is not in {place}:\n{text}");
    }
    for sign in ["PATH=", "UNKNOWN_COMMAND", "PERMISSION_DENIED", "AUTH_FAILED", "COMMAND_FAILED"] {
        assert!(ear.said.contains(sign), "no answer has {sign}");
    }
}

#[test]
fn a_secret_from_the_environment_is_nowhere_to_be_found() {
    let guest = Guest::new();
    guest.configure(PERMISSIONS);
    let mut command = guest.command();
    command.env("INFINISERVICE_SHARED_SECRET", SECRET).arg("--debug");
    let agent = guest.start_as(command);
    search(&guest, agent, None);
}

#[test]
fn a_secret_from_a_file_is_in_that_file_alone() {
    let guest = Guest::new();
    guest.configure(PERMISSIONS);
    let file = guest.path("secret");
    std::fs::write(&file, SECRET).unwrap();
    set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let mut command = guest.command();
    command.arg("--debug");
    let agent = guest.start_as(command);
    search(&guest, agent, Some(file));
}

#[test]
fn no_mode_of_the_command_line_prints_it() {
    let guest = Guest::new();
    guest.configure(PERMISSIONS);
    for arguments in [
        &["--print-config"][..],
        &["--check-config"],
        &["--diagnose"],
        &["--diagnose", "--json", "--device", "/dev/no-such-port"],
        &["policy", "explain", r#"{"raw_command":"env"}"#],
        &["audit", "verify"],
        &["--no-such-option"],
    ] {
        let mut command = guest.command();
        let output = command.env("INFINISERVICE_SHARED_SECRET", SECRET).args(arguments).output().unwrap();
        for stream in [&output.stdout, &output.stderr] {
            assert!(!contains(stream, SECRET), "{arguments:?}: {}", String::from_utf8_lossy(stream));
        }
        assert!(!output.stdout.is_empty() || !output.stderr.is_empty(), "{arguments:?} says nothing");
    }
}

#[test]
fn the_search_finds_a_canary_in_a_process_that_shows_one() {
    let mut decoy = Command::new("cat");
    decoy.env("DECOY", SECRET).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut decoy = decoy.spawn().unwrap();
    // Whoever started it goes on before the kernel has put its environment in place; once it answers that is done.
    decoy.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    decoy.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let family = family(std::process::id());
    let found = shown(decoy.id(), SECRET);
    drop(decoy.stdin.take());
    decoy.wait().unwrap();
    assert!(family.contains(&decoy.id()), "{} is not in {family:?}", decoy.id());
    assert_eq!(found, ["environ"]);
}
