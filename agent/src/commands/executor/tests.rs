mod audit;
mod intake;
mod malicious;
mod raw_actions;

use std::path::Path;
use std::sync::{Arc, Mutex};

use infini_protocol::agent::ScriptCompletion;
use infini_protocol::host::{HostMessage, Timeout};
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
    began: Instant,
}

impl Bench {
    fn new(permissions: Option<&str>) -> Self {
        Self::with_audit(permissions, |folder| Audit::open(folder, AuditSettings::default()))
    }

    fn with_audit(permissions: Option<&str>, audit: impl FnOnce(&Path) -> Audit) -> Self {
        let programs = Arc::new(Programs::default());
        let folder = tempfile::tempdir().unwrap();
        let audit = audit(folder.path());
        let context = Context { programs: Arc::clone(&programs) as Arc<dyn ProgramRunner>, ..idle_context() };
        let permissions = permissions.map(|text| Permissions::from_toml(text).unwrap());
        let policy = Policy::new(Asking::Holder, permissions);
        let limits = CommandLimits { max_concurrent: 2, ..CommandLimits::of(&Config::default()) };
        let executor = CommandExecutor::new(limits, policy, Ids::in_memory(), audit, context);
        Self { executor, outbox: Outbox::new(OutboxLimits::default()), programs, folder, began: Instant::now() }
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

    fn start(&mut self) {
        self.executor.start(|| self.outbox.reserve(1 << 20));
    }

    fn take_scripts(&mut self, scripts: Vec<Script>) -> Vec<ScriptCompletion> {
        let answers = self.executor.take_scripts(scripts, Instant::now());
        self.start();
        answers.into_iter().map(|answer| completion(answer.body)).collect()
    }

    async fn next(&mut self) -> AgentBody {
        let answer = self.executor.next().await.expect("nobody else answers");
        drop(answer.room);
        self.start();
        answer.body
    }

    async fn started(&self) -> Vec<String> {
        // What was handed to the runtime gets its first turn.
        tokio::task::yield_now().await;
        self.programs.started.lock().unwrap().clone()
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

fn completion(body: AgentBody) -> ScriptCompletion {
    match body {
        AgentBody::ScriptCompletion(completion) => completion,
        other => panic!("{other:?} is no script_completion"),
    }
}

fn script(id: &str, text: &str) -> Script {
    let script = json!({ "execution_id": id, "script_content": text, "shell": "SH", "timeout_seconds": 60 });
    serde_json::from_value(script).unwrap()
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
async fn the_log_has_what_was_asked_for_without_its_secrets() {
    let log = crate::logging::logged(|| {
        let mut bench = Bench::raw();
        let mut message = raw("1", "deploy\n--now");
        message["env_vars"] = json!({ "TOKEN": "canary" });
        bench.take(message);
        bench.take(json!({ "type": "SafeCommand", "id": "2", "command_type": { "action": "ProcessKill", "pid": 1 } }));
    });
    let line = |text: &str| log.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{log}")).to_owned();
    assert!(line("permitted").contains(r#""deploy\n--now" {"env_vars":{"TOKEN":"(redacted)"}}"#), "{log}");
    assert!(line("refused").contains(r#"{"pid":1}"#), "{log}");
    assert!(!log.contains("canary"), "{log}");
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
async fn what_waits_takes_a_bounded_memory() {
    let mut bench = Bench::raw();
    let long = |id: &str, kib: usize| raw(id, &format!("hang {}", "x".repeat(kib << 10)));
    for id in ["runs", "runs too"] {
        assert_eq!(bench.take(long(id, 900)), None);
    }
    for id in ["waits", "waits too"] {
        assert_eq!(bench.take(long(id, 900)), None, "{id}");
    }
    let refused = bench.take(long("late", 900)).unwrap();
    assert_eq!(refused.error_code, Some(ErrorCode::ResourceLimit));
    assert!(refused.error.as_deref().is_some_and(|error| error.contains("2048 KiB are the most")), "{refused:?}");
    assert_eq!(bench.take(long("short", 100)), None, "there is room for this one");

    let scripts = ["s1", "s2", "s3", "s4"].map(|id| script(id, &format!("hang {}", "x".repeat(900 << 10))));
    let refused: Vec<_> = bench.take_scripts(scripts.into()).into_iter().map(|end| end.execution_id).collect();
    assert_eq!(refused, ["s3", "s4"], "scripts have their own room");

    bench.executor.cancel("waits");
    assert_eq!(bench.take(long("late", 900)), None, "the refused may come again");
}

#[tokio::test(start_paused = true)]
async fn many_small_texts_weigh_what_is_around_them() {
    let mut bench = Bench::raw();
    let mut command = raw("1", "id");
    command["env_vars"] =
        (0..50_000).map(|number| (format!("V{number}"), json!(""))).collect::<serde_json::Map<_, _>>().into();
    assert_eq!(bench.take(command).unwrap().error_code, Some(ErrorCode::ResourceLimit));
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
async fn what_was_told_off_before_it_began_does_not_run_after_all() {
    let mut bench = Bench::raw();
    bench.take(raw("a", "hang"));
    bench.take(raw("b", "hang"));
    bench.take(raw("cancelled", "echo waits"));
    let answer = response(bench.executor.cancel("cancelled").unwrap().body);
    assert_eq!(answer.error_code, Some(ErrorCode::CommandCancelled));
    let again = bench.take(raw("cancelled", "echo waits")).unwrap();
    assert_eq!(again, Response { duplicate: true, ..answer });

    let mut late = raw("late", "echo waits");
    late["timeout"] = 1.into();
    bench.take(late.clone());
    let answer = response(bench.next().await);
    assert_eq!(answer.error_code, Some(ErrorCode::CommandTimeout));
    assert_eq!(bench.take(late).unwrap(), Response { duplicate: true, ..answer });
    assert_eq!(bench.started().await, ["-c hang", "-c hang"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_agents_end_kept_from_beginning_may_come_again() {
    let mut bench = Bench::raw();
    bench.take(raw("a", "hang"));
    bench.take(raw("b", "hang"));
    bench.take(raw("c", "echo waits"));
    let answers: Vec<_> = bench.executor.shut_down().into_iter().map(|answer| response(answer.body)).collect();
    assert_eq!(answers[0].error_code, Some(ErrorCode::ShuttingDown), "{answers:?}");
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
    let scripts = vec![script("s1", "hang"), script("s2", "fail"), script("s3", "echo 3")];
    assert!(bench.take_scripts(scripts.clone()).is_empty());
    assert_eq!(bench.started().await, ["hang"], "the next one waits for the one before");
    bench.executor.cancel("s1");
    let mut ends = Vec::new();
    for _ in 0..3 {
        let end = completion(bench.next().await);
        ends.push((end.execution_id, end.exit_code, end.stderr));
    }
    assert_eq!((ends[0].0.as_str(), ends[0].1), ("s1", -1));
    assert_eq!(ends[1], ("s2".to_owned(), 1, "it ended with exit code 1\n".to_owned()));
    assert_eq!(ends[2], ("s3".to_owned(), 0, String::new()));
    let again = bench.take_scripts(scripts);
    assert_eq!(again.len(), 3, "the kept answers: {again:?}");
    assert_eq!(bench.started().await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn commands_pass_scripts_that_wait_and_are_not_counted_with_them() {
    let mut bench = Bench::raw();
    let scripts = (0..1002).map(|number| script(&number.to_string(), "hang")).collect();
    let refused = bench.take_scripts(scripts);
    let ids: Vec<_> = refused.iter().map(|end| (end.execution_id.as_str(), end.exit_code)).collect();
    assert_eq!(ids, [("1000", 126), ("1001", 126)], "{refused:?}");
    assert_eq!(bench.take(raw("0", "echo hello")), None);
    assert_eq!(response(bench.next().await).stdout, "-c echo hello");
}

#[tokio::test(start_paused = true)]
async fn a_scripts_time_counts_from_its_receipt() {
    let mut bench = Bench::raw();
    let limited = |id: &str, seconds: u32| Script {
        timeout_seconds: Some(Timeout::from_secs(seconds.into())),
        ..script(id, "hang")
    };
    bench.take_scripts(vec![limited("long", 100), limited("late", 10), limited("later", 101)]);
    let mut ends = Vec::new();
    for _ in 0..3 {
        let (began, end) = (bench.began, completion(bench.next().await));
        ends.push((end.execution_id, end.exit_code, began.elapsed().as_millis(), end.stderr));
    }
    let told: Vec<_> = ends.iter().map(|(id, code, time, _)| (id.as_str(), *code, *time)).collect();
    assert_eq!(told, [("late", 126, 9_500), ("long", -1, 99_500), ("later", -1, 100_500)]);
    assert!(ends[0].3.contains("never started"), "{}", ends[0].3);
}

#[tokio::test(start_paused = true)]
async fn a_script_that_waits_can_be_taken_back() {
    let mut bench = Bench::raw();
    bench.take_scripts(vec![script("s1", "hang"), script("s2", "echo 2")]);
    let end = completion(bench.executor.cancel("s2").expect("it waits").body);
    assert_eq!((end.execution_id.as_str(), end.exit_code), ("s2", 126));
    assert!(end.stderr.contains("took the command back"), "{}", end.stderr);
    assert_eq!(bench.take_scripts(vec![script("s2", "echo 2")]), [end], "that was its one end");
    assert_eq!(bench.started().await, ["hang"]);
}

#[tokio::test(start_paused = true)]
async fn the_agents_end_answers_every_script() {
    let mut bench = Bench::raw();
    bench.take_scripts(vec![script("s1", "hang"), script("s2", "echo 2"), script("s3", "echo 3")]);
    let mut ends: Vec<_> = bench.executor.shut_down().into_iter().map(|answer| completion(answer.body)).collect();
    ends.push(completion(bench.next().await));
    let told: Vec<_> = ends.iter().map(|end| (end.execution_id.as_str(), end.exit_code)).collect();
    assert_eq!(told, [("s2", 126), ("s3", 126), ("s1", -1)]);
    assert!(ends.iter().all(|end| end.stderr.contains("the agent stops")), "{ends:?}");
    assert!(bench.executor.is_idle());
}

#[tokio::test(start_paused = true)]
async fn a_script_that_may_not_run_ends_with_126() {
    let mut bench = Bench::new(None);
    let refused = bench.take_scripts(vec![script("s", "id")]);
    let [end] = refused.as_slice() else { panic!("{refused:?}") };
    assert_eq!((end.execution_id.as_str(), end.exit_code), ("s", 126));
    assert!(end.stderr.contains("policy"), "{}", end.stderr);
}
