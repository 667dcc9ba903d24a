//! A command that is to be alone, and an agent that is to write nothing down any more.

use tokio::sync::oneshot;

use super::*;
use crate::commands::intake::{self, Closed, Request, Requests};
use crate::commands::outcome::CommandError;

type Asked = oneshot::Receiver<Result<Closed, CommandError>>;

/// A bench with two places, whose executor hands out what these requests come from.
fn bench() -> (Bench, Requests) {
    let mut bench = Bench::raw();
    let (handle, requests) = intake::channel();
    bench.executor.context.intake = handle;
    (bench, requests)
}

/// Asks to be alone, as a running command does; gives whoever was turned away for it, and the answer.
fn close(bench: &mut Bench) -> (Vec<AgentBody>, Asked) {
    let (asking, asked) = oneshot::channel();
    let answers = bench.executor.intake(Request::Close(asking));
    (answers.into_iter().map(|answer| answer.body).collect(), asked)
}

fn code(answer: Option<Response>) -> Option<ErrorCode> {
    answer.and_then(|answer| answer.error_code)
}

/// What waits for the loop, done.
async fn turn(bench: &mut Bench, requests: &mut Requests) {
    let request = requests.next().await;
    bench.executor.intake(request);
}

#[tokio::test(start_paused = true)]
async fn whoever_wants_to_be_alone_waits_for_those_who_run() {
    let (mut bench, mut requests) = bench();
    for id in ["image", "other", "waits"] {
        bench.take(raw(id, "hang"));
    }
    let (turned_away, mut asked) = close(&mut bench);
    let turned_away: Vec<_> = turned_away.into_iter().map(response).collect();
    let [waiting] = turned_away.as_slice() else { panic!("{turned_away:?}") };
    assert_eq!((waiting.id.as_str(), waiting.error_code), ("waits", Some(ErrorCode::ShuttingDown)));
    let refused = bench.take(raw("new", "echo")).unwrap();
    assert_eq!(refused.error_code, Some(ErrorCode::ShuttingDown));
    assert!(refused.error.unwrap().contains("golden image"));
    assert!(asked.try_recv().is_err(), "another command runs");

    bench.executor.cancel("other");
    bench.next().await;
    let closed = asked.try_recv().unwrap().unwrap();
    assert_eq!(code(bench.take(raw("later", "echo"))), Some(ErrorCode::ShuttingDown));
    drop(closed);
    turn(&mut bench, &mut requests).await;
    assert_eq!(bench.take(raw("later", "echo")), None, "and what was refused may come again");
    assert_eq!(bench.take(raw("waits", "hang")), None);
}

#[tokio::test(start_paused = true)]
async fn two_cannot_be_alone() {
    let (mut bench, _requests) = bench();
    bench.take(raw("one", "hang"));
    bench.take(raw("two", "hang"));
    let (_, mut first) = close(&mut bench);
    let (_, mut second) = close(&mut bench);
    assert_eq!(second.try_recv().unwrap().unwrap_err().code, ErrorCode::ShuttingDown);
    bench.executor.cancel("two");
    bench.next().await;
    assert!(first.try_recv().unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_has_to_end_while_it_waits_leaves_the_intake_open() {
    let (mut bench, mut requests) = bench();
    bench.take(raw("image", "hang"));
    bench.take(raw("other", "hang"));
    let (_, asked) = close(&mut bench);
    drop(asked);
    bench.executor.cancel("image");
    bench.next().await;
    turn(&mut bench, &mut requests).await;
    assert_eq!(bench.take(raw("new", "echo")), None);

    bench.executor.cancel("other");
    bench.next().await;
    bench.next().await;
    assert!(bench.executor.is_idle());
    bench.take(raw("image again", "hang"));
    let (_, asked) = close(&mut bench);
    drop(asked);
    turn(&mut bench, &mut requests).await;
    assert_eq!(bench.take(raw("newer", "echo")), None, "it ended just when it was told that it is alone");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_forgot_answers_and_writes_nothing() {
    let (mut bench, mut requests) = bench();
    let folder = bench.folder.path().to_owned();
    bench.executor.ids = Ids::open(&folder.join(ids::FILE), "boot").unwrap();
    bench.take(raw("image", "echo image"));
    let (done, mut forgotten) = oneshot::channel();
    let (_, mut asked) = close(&mut bench);
    let closed = asked.try_recv().unwrap().unwrap();
    assert!(bench.executor.intake(Request::Forget(done)).is_empty());
    forgotten.try_recv().unwrap();
    let events = bench.executor.take_events();
    assert_eq!(events.len(), 1, "the host hears where the audit ended: {events:?}");
    assert_eq!(events[0].context.as_ref().unwrap()["line"], 2, "{events:?}");
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    files.for_each(|file| std::fs::remove_file(file).unwrap());

    let first = response(bench.next().await);
    drop(closed);
    turn(&mut bench, &mut requests).await;
    assert!(first.success, "{first:?}");
    assert_eq!(bench.take(raw("image", "echo image")), Some(Response { duplicate: true, ..first }));
    let refused = bench.take(raw("new", "echo")).unwrap();
    assert_eq!(refused.error_code, Some(ErrorCode::ShuttingDown));
    assert!(refused.error.unwrap().contains("until the agent is started again"));
    let script = serde_json::from_value(json!({ "execution_id": "s", "script_content": "id" })).unwrap();
    let answers = bench.executor.take_scripts(vec![script], Instant::now());
    let [Answer { body: AgentBody::ScriptCompletion(end), .. }] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!(end.exit_code, 126);
    bench.executor.shut_down();
    assert_eq!(bench.executor.close(), None);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "something was written again");
}

#[tokio::test(start_paused = true)]
async fn scripts_that_wait_are_answered() {
    let (mut bench, _requests) = bench();
    let script = |id: &str| serde_json::from_value(json!({ "execution_id": id, "script_content": "hang" })).unwrap();
    bench.executor.take_scripts(vec![script("runs"), script("waits")], Instant::now());
    bench.start();
    let (turned_away, _asked) = close(&mut bench);
    let [AgentBody::ScriptCompletion(end)] = turned_away.as_slice() else { panic!("{turned_away:?}") };
    assert_eq!((end.execution_id.as_str(), end.exit_code), ("waits", 126));
}
