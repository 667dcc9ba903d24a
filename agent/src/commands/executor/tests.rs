mod intake;
mod raw_actions;

use std::sync::Mutex;

use infini_protocol::host::HostMessage;
use serde_json::json;

use super::*;
use crate::commands::audit::AuditSettings;
use crate::commands::ids;
use crate::commands::policy::{Asking, Permissions};
use crate::commands::process_runner::{Captured, Ending, Finished, Program, ProgramRunner, RunningProgram, Usage};
use crate::commands::testing::idle_context;
use crate::communication::{Outbox, OutboxLimits};
use crate::config::Config;

/// Writes down what was started, and lets it end when told to.
#[derive(Default)]
struct Programs {
    started: Mutex<Vec<String>>,
}

impl ProgramRunner for Programs {
    fn run(&self, program: Program, stop: Stop) -> RunningProgram {
        let line = program.script.map_or_else(
            || program.arguments.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join(" "),
            |script| String::from_utf8_lossy(&script).into_owned(),
        );
        self.started.lock().unwrap().push(line.clone());
        let finished = |ending, text: &str| Finished {
            ending,
            stdout: Captured { text: text.to_owned(), omitted: 0 },
            stderr: Captured::default(),
            usage: Usage { cpu_time: Some(Duration::from_millis(7)), memory_peak_bytes: None },
        };
        Box::pin(async move {
            if line.contains("hang") {
                return Ok(finished(Ending::Stopped(stop.reached().await), "so far"));
            }
            Ok(finished(Ending::Exit(i32::from(line.contains("fail"))), &line))
        })
    }
}

struct Bench {
    executor: CommandExecutor,
    outbox: Outbox,
    programs: Arc<Programs>,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(permissions: Option<&str>) -> Self {
        let programs = Arc::new(Programs::default());
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(&folder.path().join("audit"), AuditSettings::default());
        let context = Context { programs: Arc::clone(&programs) as Arc<dyn ProgramRunner>, ..idle_context() };
        let permissions = permissions.map(|text| Permissions::from_toml(text).unwrap());
        let policy = Policy::new(Asking::Holder, permissions);
        let limits = CommandLimits { max_concurrent: 2, ..CommandLimits::of(&Config::default()) };
        let executor = CommandExecutor::new(limits, policy, Ids::in_memory(), audit, context);
        Self { executor, outbox: Outbox::new(OutboxLimits::default()), programs, folder }
    }

    fn raw() -> Self {
        Self::new(Some("[permissions]\nraw = \"all\"\n"))
    }

    fn take(&mut self, message: serde_json::Value) -> Option<Response> {
        let text = message.to_string();
        let work = match HostMessage::parse(text.as_bytes()).unwrap() {
            HostMessage::SafeCommand(command) => Work::Safe(command),
            HostMessage::UnsafeCommand(command) => Work::Raw(command),
            other => panic!("{other:?} is no command"),
        };
        let command = Command { payload: ids::digest(text.as_bytes()), work };
        let answer = self.executor.take(command, Instant::now()).map(|answer| response(answer.body));
        self.start();
        answer
    }

    fn start(&mut self) -> Vec<Answer> {
        self.executor.start(|| self.outbox.reserve(1 << 20)).1
    }

    async fn next(&mut self) -> AgentBody {
        let answer = self.executor.next().await;
        drop(answer.room);
        let refused = self.start();
        assert!(refused.is_empty(), "{refused:?}");
        answer.body
    }

    async fn started(&self) -> Vec<String> {
        // What was handed to the runtime gets its first turn.
        tokio::task::yield_now().await;
        self.programs.started.lock().unwrap().clone()
    }

    /// The lines of the audit.
    fn audited(&self) -> Vec<serde_json::Value> {
        let folder = std::fs::read_dir(self.folder.path().join("audit")).unwrap();
        let texts = folder.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
        texts.collect::<String>().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn raw(id: &str, line: &str) -> serde_json::Value {
    json!({ "type": "UnsafeCommand", "id": id, "raw_command": line })
}

fn safe(id: &str, action: &str) -> serde_json::Value {
    json!({ "type": "SafeCommand", "id": id, "command_type": { "action": action } })
}

fn response(body: AgentBody) -> Response {
    match body {
        AgentBody::Response(response) => *response,
        other => panic!("{other:?} is no response"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_that_may_run_does_and_is_answered_once() {
    let mut bench = Bench::raw();
    assert_eq!(bench.take(raw("1", "echo hello")), None);
    let answer = response(bench.next().await);
    assert_eq!((answer.success, answer.exit_code, answer.stdout.as_str()), (true, 0, "-c echo hello"));
    assert_eq!((answer.id.as_str(), answer.command_type.as_str()), ("1", "unsafe"));
    assert_eq!(answer.data, Some(json!({ "usage": { "cpu_time_ms": 7 } })));
    assert!(bench.executor.is_idle());
}

#[tokio::test(start_paused = true)]
async fn what_may_not_run_never_starts() {
    for (permissions, message, code) in [
        (None, raw("1", "id"), ErrorCode::PermissionDenied),
        (
            None,
            json!({ "type": "SafeCommand", "id": "1", "command_type": { "action": "ProcessKill", "pid": 4 } }),
            ErrorCode::PermissionDenied,
        ),
        (Some("[permissions]\nraw = \"none\"\n"), raw("1", "id"), ErrorCode::PermissionDenied),
        (None, safe("1", "osinfo"), ErrorCode::UnknownCommand),
        (None, safe("1", "GetThreatHistory"), ErrorCode::UnsupportedPlatform),
        (None, safe("1", "ProcessKill"), ErrorCode::InvalidParameters),
        (None, safe("", "OsInfo"), ErrorCode::InvalidParameters),
    ] {
        let mut bench = Bench::new(permissions);
        let answer = bench.take(message.clone()).unwrap_or_else(|| panic!("{message} was taken"));
        assert_eq!((answer.success, answer.error_code), (false, Some(code)), "{message}: {answer:?}");
        assert!(bench.started().await.is_empty() && bench.executor.is_idle(), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_command_again_does_not_run_again() {
    let mut bench = Bench::raw();
    bench.take(raw("1", "echo hello"));
    assert_eq!(bench.take(raw("1", "echo hello")), None, "its one answer serves both");
    let first = response(bench.next().await);
    let again = bench.take(raw("1", "echo hello")).unwrap();
    assert_eq!(again, Response { duplicate: true, ..first });
    let other = bench.take(raw("1", "echo other")).unwrap();
    assert_eq!(other.error_code, Some(ErrorCode::InvalidParameters));
    assert_eq!(bench.started().await, ["-c echo hello"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_kept_is_said_to_be_lost() {
    let mut bench = Bench::raw();
    let line = format!("echo {}", "x".repeat(300 << 10));
    bench.take(raw("1", &line));
    bench.next().await;
    assert_eq!(bench.take(raw("1", &line)).unwrap().error_code, Some(ErrorCode::Interrupted));
    assert_eq!(bench.started().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_and_the_refused_may_come_again() {
    let mut bench = Bench::raw();
    for number in 0..102 {
        assert_eq!(bench.take(raw(&number.to_string(), "hang")), None, "{number}");
    }
    let refused = bench.take(raw("one too many", "echo late")).unwrap();
    assert_eq!(refused.error_code, Some(ErrorCode::ResourceLimit));
    assert_eq!(bench.started().await.len(), 2);
    bench.executor.cancel("0");
    assert_eq!(response(bench.next().await).error_code, Some(ErrorCode::CommandCancelled));
    assert_eq!(bench.take(raw("one too many", "echo late")), None);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_answers_with_what_there_is_so_far() {
    let mut bench = Bench::raw();
    let mut message = raw("1", "hang");
    message["timeout"] = 2.into();
    bench.take(message);
    let answer = response(bench.next().await);
    assert_eq!((answer.error_code, answer.timed_out), (Some(ErrorCode::CommandTimeout), true));
    assert_eq!((answer.stdout.as_str(), answer.execution_time_ms), ("so far", 1800));
}

#[tokio::test(start_paused = true)]
async fn a_time_over_the_limit_is_cut_and_said() {
    let mut bench = Bench::raw();
    let mut message = raw("1", "echo");
    message["timeout"] = 7200.into();
    bench.take(message);
    assert_eq!(response(bench.next().await).stderr, "infiniservice: 7200 s were asked for, 3600 s are the most\n");
}

#[tokio::test(start_paused = true)]
async fn what_ended_before_it_began_may_come_again() {
    let mut bench = Bench::raw();
    bench.take(raw("a", "hang"));
    bench.take(raw("b", "hang"));
    bench.take(raw("c", "echo waits"));
    let answer = bench.executor.cancel("c").unwrap();
    assert_eq!(response(answer.body).error_code, Some(ErrorCode::CommandCancelled));
    assert_eq!(bench.take(raw("c", "echo waits")), None);
}

#[tokio::test(start_paused = true)]
async fn the_agents_end_answers_everybody() {
    let mut bench = Bench::raw();
    for id in ["a", "b", "c"] {
        bench.take(raw(id, "hang"));
    }
    let waiting: Vec<_> = bench.executor.shut_down().into_iter().map(|answer| response(answer.body)).collect();
    assert_eq!(waiting.len(), 1);
    let mut answers = [waiting[0].clone(), response(bench.next().await), response(bench.next().await)];
    answers.sort_by(|a, b| a.id.cmp(&b.id));
    let ids: Vec<_> = answers.iter().map(|answer| (answer.id.as_str(), answer.error_code)).collect();
    let code = Some(ErrorCode::ShuttingDown);
    assert_eq!(ids, [("a", code), ("b", code), ("c", code)]);
}

#[tokio::test(start_paused = true)]
async fn scripts_run_one_after_another_and_once() {
    let mut bench = Bench::raw();
    let script = |id: &str, text: &str| -> Script {
        serde_json::from_value(json!({ "execution_id": id, "script_content": text, "shell": "SH" })).unwrap()
    };
    let scripts = vec![script("s1", "hang"), script("s2", "fail"), script("s3", "echo 3")];
    assert!(bench.executor.take_scripts(scripts.clone()).is_empty());
    bench.start();
    assert_eq!(bench.started().await, ["hang"], "the next one waits for the one before");
    let mut ends = Vec::new();
    for _ in 0..3 {
        let AgentBody::ScriptCompletion(end) = bench.next().await else { panic!("no script_completion") };
        ends.push((end.execution_id, end.exit_code, end.stderr));
    }
    assert_eq!((ends[0].0.as_str(), ends[0].1), ("s1", -1));
    assert_eq!(ends[1], ("s2".to_owned(), 1, "it ended with exit code 1\n".to_owned()));
    assert_eq!(ends[2], ("s3".to_owned(), 0, String::new()));
    let again = bench.executor.take_scripts(scripts);
    assert_eq!(again.len(), 3, "the kept answers: {again:?}");
    bench.start();
    assert_eq!(bench.started().await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_script_that_may_not_run_ends_with_126() {
    let mut bench = Bench::new(None);
    let script = serde_json::from_value(json!({ "execution_id": "s", "script_content": "id" })).unwrap();
    assert!(bench.executor.take_scripts(vec![script]).is_empty());
    let answers = bench.start();
    let [Answer { body: AgentBody::ScriptCompletion(end), .. }] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!((end.execution_id.as_str(), end.exit_code), ("s", 126));
    assert!(end.stderr.contains("policy"), "{}", end.stderr);
}

#[tokio::test(start_paused = true)]
async fn the_audit_has_what_was_decided_and_how_it_ended() {
    let mut bench = Bench::raw();
    bench.take(raw("1", "echo hello"));
    bench.next().await;
    bench.take(safe("2", "Nothing"));
    let event = bench.executor.close().unwrap();
    assert_eq!(event.source, "audit");
    let events = bench.audited();
    let told: Vec<_> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(told, ["file", "received", "ended", "refused"], "{events:#?}");
    let text = events[1].to_string();
    assert!(text.contains("echo hello") && text.contains("permissions.raw"), "{text}");
}
