//! Every inbound command, allowed or not, is in the audit.

use std::sync::atomic::Ordering;

use serde_json::Value;

use super::*;
use crate::commands::audit::WhenFull;
use crate::commands::audit::testing::SmallDisk;

impl Bench {
    /// What the audit has, from the first command on.
    pub(super) fn audit(&mut self) -> Vec<Value> {
        let files = std::fs::read_dir(self.folder.path()).unwrap();
        let file = files.map(|entry| entry.unwrap().path()).next().expect("nothing was written");
        let text = std::fs::read_to_string(file).unwrap();
        text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The event, the command's id and the word of each line.
    fn audited(&mut self) -> Vec<(String, String, Option<String>)> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let line = |line: &Value| {
            let event = text(&line["event"]).unwrap();
            (event, text(&line["id"]).unwrap_or_default(), text(&line["error_code"]))
        };
        self.audit().iter().map(line).collect()
    }

    fn has(&mut self, expected: &[(&str, &str, Option<&str>)]) {
        let owned = |&(event, id, code): &(&str, &str, Option<&str>)| {
            (event.to_owned(), id.to_owned(), code.map(str::to_owned))
        };
        assert_eq!(self.audited(), expected.iter().map(owned).collect::<Vec<_>>());
    }
}

fn script(id: &str, text: &str) -> Script {
    serde_json::from_value(json!({ "execution_id": id, "script_content": text, "shell": "SH" })).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_was_decided_and_how_it_ended() {
    let mut bench = Bench::raw();
    bench.take(raw("1", "echo hello"));
    bench.next().await;
    bench.take(raw("2", "fail"));
    bench.next().await;
    bench.has(&[
        ("received", "1", None),
        ("ended", "1", None),
        ("received", "2", None),
        ("ended", "2", Some("COMMAND_FAILED")),
    ]);
    let lines = bench.audit();
    let first = &lines[0];
    assert_eq!((&first["kind"], &first["text"]["head"]), (&"raw".into(), &"echo hello".into()), "{first}");
    assert_eq!((&first["rule"], &lines[3]["exit_code"]), (&"permissions.raw".into(), &1.into()), "{lines:?}");
    assert_eq!(bench.executor.close().unwrap().source, "audit");
}

#[tokio::test(start_paused = true)]
async fn what_may_not_run_and_why() {
    let mut bench = Bench::new(None);
    bench.take(raw("raw", "id"));
    bench.take(safe("unknown", "FormatDisk"));
    bench.take(safe("fields", "ProcessKill"));
    bench.take(safe("windows", "GetThreatHistory"));
    let mut timeless = safe("timeless", "OsInfo");
    timeless["timeout"] = 0.into();
    bench.take(timeless);
    bench.executor.take_scripts(vec![script("script", "id")], Instant::now());
    bench.start();
    bench.has(&[
        ("refused", "raw", Some("PERMISSION_DENIED")),
        ("refused", "unknown", Some("UNKNOWN_COMMAND")),
        ("refused", "fields", Some("INVALID_PARAMETERS")),
        ("refused", "windows", Some("UNSUPPORTED_PLATFORM")),
        ("refused", "timeless", Some("INVALID_PARAMETERS")),
        ("refused", "script", Some("PERMISSION_DENIED")),
    ]);
    let kinds: Vec<Value> = bench.audit().iter().map(|line| line["kind"].clone()).collect();
    assert_eq!(kinds, ["raw", "safe", "safe", "safe", "safe", "script"]);
}

#[tokio::test(start_paused = true)]
async fn an_action_that_runs_what_the_host_says_counts_as_raw() {
    let mut bench = Bench::new(None);
    let action = json!({ "action": "ExecutePowerShellScript", "script": "Get-Date", "script_type": "inline",
                         "environment_vars": { "DB_PASSWORD": "canary" } });
    bench.take(json!({ "type": "SafeCommand", "id": "1", "command_type": action }));
    let lines = bench.audit();
    let line = &lines[0];
    assert_eq!((&line["kind"], &line["action"]), (&"raw".into(), &"ExecutePowerShellScript".into()), "{line}");
    assert_eq!(line["text"]["head"], "Get-Date", "{line}");
    assert!(!line.to_string().contains("canary") && line["parameters"]["script"].is_null(), "{line}");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_comes_again() {
    let mut bench = Bench::raw();
    bench.take(raw("1", "echo hello"));
    bench.take(raw("1", "echo hello"));
    bench.next().await;
    bench.take(raw("1", "echo hello"));
    bench.take(raw("1", "echo other"));
    let long = format!("echo {}", "x".repeat(300 << 10));
    bench.take(raw("2", &long));
    bench.next().await;
    bench.take(raw("2", &long));
    bench.has(&[
        ("received", "1", None),
        ("repeated", "1", None),
        ("ended", "1", None),
        ("repeated", "1", None),
        ("refused", "1", Some("INVALID_PARAMETERS")),
        ("received", "2", None),
        ("ended", "2", None),
        ("refused", "2", Some("INTERRUPTED")),
    ]);
    let lines = bench.audit();
    assert_eq!((&lines[1]["answered"], &lines[3]["answered"]), (&false.into(), &true.into()), "{lines:?}");
    assert_eq!(lines[4]["text"]["head"], "echo other", "another command of the same id: {}", lines[4]);
}

#[tokio::test(start_paused = true)]
async fn scripts_that_come_again_or_find_no_place() {
    let mut bench = Bench::raw();
    bench.executor.take_scripts(vec![script("a", "echo 1"), script("a", "echo 1")], Instant::now());
    bench.start();
    bench.next().await;
    bench.executor.take_scripts(vec![script("a", "echo 1"), script("a", "echo 2")], Instant::now());
    bench.has(&[
        ("received", "a", None),
        ("repeated", "a", None),
        ("ended", "a", None),
        ("repeated", "a", None),
        ("refused", "a", Some("INTERRUPTED")),
    ]);

    let mut bench = Bench::raw();
    let scripts = (0..1001).map(|n| script(&n.to_string(), "hang")).collect();
    let answers = bench.executor.take_scripts(scripts, Instant::now());
    assert_eq!(answers.len(), 1, "{answers:?}");
    let refused: Vec<_> = bench.audited().into_iter().filter(|(event, ..)| event == "refused").collect();
    assert_eq!(refused, [("refused".to_owned(), "1000".to_owned(), Some("RESOURCE_LIMIT".to_owned()))]);
}

#[tokio::test(start_paused = true)]
async fn what_the_full_queue_refuses_and_what_is_cancelled_in_it() {
    let mut bench = Bench::raw();
    for number in 0..102 {
        bench.take(raw(&number.to_string(), "hang"));
    }
    bench.take(raw("too many", "echo"));
    bench.executor.cancel("50");
    let audited = bench.audited();
    assert!(audited[..102].iter().all(|(event, ..)| event == "received"), "{audited:?}");
    let rest: Vec<_> = audited[102..].iter().map(|(event, id, code)| (&**event, &**id, code.as_deref())).collect();
    assert_eq!(rest, [("refused", "too many", Some("RESOURCE_LIMIT")), ("ended", "50", Some("COMMAND_CANCELLED"))]);
}

#[tokio::test(start_paused = true)]
async fn what_runs_and_what_waits_at_the_agents_end() {
    let mut bench = Bench::raw();
    for id in ["runs", "too", "waits"] {
        bench.take(raw(id, "hang"));
    }
    bench.executor.take_scripts(vec![script("planned", "hang"), script("waits", "hang")], Instant::now());
    bench.start();
    bench.executor.shut_down();
    bench.next().await;
    bench.next().await;
    let mut audited: Vec<_> = bench.audited().into_iter().filter(|(.., code)| code.is_some()).collect();
    audited.sort();
    let ends: Vec<_> = audited.iter().map(|(event, id, code)| (&**event, &**id, code.as_deref().unwrap())).collect();
    let code = "SHUTTING_DOWN";
    assert_eq!(
        ends,
        [
            ("ended", "planned", code),
            ("ended", "runs", code),
            ("ended", "too", code),
            ("ended", "waits", code),
            ("ended", "waits", code),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_came_out_of_its_time_or_cannot_be_read() {
    let mut bench = Bench::raw();
    for (payload, code, is_answered) in [
        (raw("stale", "id"), ErrorCode::AuthFailed, true),
        (safe("late", "OsInfo"), ErrorCode::ShuttingDown, true),
        (
            json!({ "type": "UnsafeCommand", "id": "no line", "env_vars": { "PGPASSWORD": ["canary"] } }),
            ErrorCode::InvalidParameters,
            true,
        ),
        (
            json!({ "type": "SafeCommand", "id": 7, "command_type": { "action": "JoinDomain", "password": "canary" } }),
            ErrorCode::InvalidMessage,
            false,
        ),
        (json!({ "type": "pending_scripts_response", "scripts": [script("x", "id")] }), ErrorCode::AuthFailed, false),
        (json!({ "type": "pending_scripts_response", "scripts": 3 }), ErrorCode::InvalidMessage, false),
        (json!({ "type": "hello", "host_session_id": 3 }), ErrorCode::InvalidMessage, false),
        (json!({ "type": "Metrics" }), ErrorCode::AuthFailed, false),
    ] {
        let unheard = Unheard::in_payload(payload.to_string().as_bytes());
        let answer = bench.executor.refuse(unheard, code, "so".to_owned()).map(|answer| response(answer.body));
        assert_eq!(answer.as_ref().and_then(|answer| answer.error_code), is_answered.then_some(code), "{answer:?}");
    }
    bench.has(&[
        ("refused", "stale", Some("AUTH_FAILED")),
        ("refused", "late", Some("SHUTTING_DOWN")),
        ("refused", "no line", Some("INVALID_PARAMETERS")),
        ("refused", "", Some("INVALID_MESSAGE")),
        ("refused", "x", Some("AUTH_FAILED")),
        ("refused", "", Some("INVALID_MESSAGE")),
    ]);
    let lines = bench.audit();
    let kinds: Vec<_> = lines.iter().map(|line| line["kind"].clone()).collect();
    assert_eq!(kinds, ["raw", "safe", "raw", "safe", "script", "script"]);
    assert_eq!(lines[3]["action"], "JoinDomain", "{}", lines[3]);
    let all = format!("{lines:?}");
    assert!(!all.contains("canary") && all.contains("(redacted)"), "{all}");
}

#[tokio::test(start_paused = true)]
async fn on_a_full_disk_commands_go_on_or_are_refused_as_the_configuration_says() {
    for when_full in [WhenFull::Continue, WhenFull::Stop] {
        let settings = AuditSettings { when_full, ..AuditSettings::default() };
        let mut room = None;
        let mut bench = Bench::with_audit(Some("[permissions]\nraw = \"all\"\n"), |folder| {
            let disk = SmallDisk::with_room(folder, 0);
            room = Some(disk.room());
            Audit::with_storage(Box::new(disk), settings)
        });
        let answer = bench.take(raw("1", "echo hello"));
        let refused = bench.executor.take_scripts(vec![script("s", "echo script")], Instant::now());
        bench.start();
        let events: Vec<_> = bench.executor.take_events().into_iter().map(|event| event.message).collect();
        assert_eq!(events.len(), 1, "{events:?}");
        let started = bench.started().await;
        match when_full {
            WhenFull::Continue => {
                assert_eq!((answer, refused.len(), started.len()), (None, 0, 2), "{started:?}");
                assert!(events[0].contains("commands go on"), "{events:?}");
            }
            WhenFull::Stop => {
                let code = answer.and_then(|answer| answer.error_code);
                assert_eq!((code, refused.len(), started.len()), (Some(ErrorCode::ResourceLimit), 1, 0), "{started:?}");
                assert!(events[0].contains("commands are refused"), "{events:?}");
            }
        }
        // With room again the same ids may come again where nothing ran.
        room.unwrap().store(1 << 20, Ordering::Relaxed);
        bench.executor.reconfigure(
            bench.executor.limits,
            Policy::clone(&bench.executor.policy),
            AuditSettings::default(),
            OwnFiles::default(),
        );
        bench.take(raw("2", "echo later"));
        if when_full == WhenFull::Stop {
            assert_eq!(bench.take(raw("1", "echo hello")), None);
        }
    }
}
