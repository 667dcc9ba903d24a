use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::*;
use crate::communication::{Outbox, OutboxLimits};

fn job(id: &str, seconds: u64, start: impl FnOnce(Stop) -> Running + Send + 'static) -> Job {
    let received = Instant::now();
    let ticket =
        Ticket { name: CommandName { id: id.to_owned(), command_type: "Test".to_owned() }, received, is_script: false };
    let start = Box::new(move |stop, _: Receipt| start(stop));
    Job { ticket, deadline: received + Duration::from_secs(seconds), exclusive: None, bytes: 0, start }
}

fn packages(id: &str, start: impl FnOnce(Stop) -> Running + Send + 'static) -> Job {
    Job { exclusive: Some(Exclusive::Packages), ..job(id, 60, start) }
}

fn done(_: Stop) -> Running {
    Box::pin(async { Outcome::default() })
}

fn never(_: Stop) -> Running {
    Box::pin(std::future::pending())
}

/// Starts all that can, and gives their ids.
fn start(dispatcher: &mut Dispatcher, outbox: &mut Outbox) -> (Vec<String>, bool) {
    let mut started = Vec::new();
    let wants_room = dispatcher.start(|| outbox.reserve(1000), |ticket| started.push(ticket.name.id.clone()));
    (started, wants_room)
}

fn outbox(answers: usize) -> Outbox {
    Outbox::new(OutboxLimits { answer_bytes: answers * 1000, answer_reserve_bytes: 0, ..OutboxLimits::default() })
}

fn code(ended: &Ended) -> Option<ErrorCode> {
    ended.outcome.error.as_ref().map(|error| error.code)
}

#[tokio::test(start_paused = true)]
async fn as_many_run_as_there_are_places_and_the_rest_in_order() {
    let (mut dispatcher, mut outbox) = (Dispatcher::new(2), outbox(9));
    for id in ["a", "b", "c"] {
        dispatcher.enqueue(job(id, 10, done));
    }
    assert_eq!(start(&mut dispatcher, &mut outbox), (vec!["a".to_owned(), "b".to_owned()], false));
    let ended = dispatcher.next().await;
    assert_eq!((ended.ticket.name.id.as_str(), code(&ended)), ("a", None));
    assert_eq!(start(&mut dispatcher, &mut outbox).0, ["c"]);
    let rest = [dispatcher.next().await.ticket.name.id, dispatcher.next().await.ticket.name.id];
    assert_eq!(rest, ["b", "c"]);
    assert!(dispatcher.is_idle());
}

#[tokio::test(start_paused = true)]
async fn a_command_hears_when_its_own_answer_has_left() {
    let (mut dispatcher, mut outbox) = (Dispatcher::new(2), outbox(9));
    let (sender, receipts) = std::sync::mpsc::channel();
    for id in ["left", "lost"] {
        let sender = sender.clone();
        let start = move |stop, receipt| {
            sender.send(receipt).unwrap();
            done(stop)
        };
        dispatcher.enqueue(Job { start: Box::new(start), ..job(id, 10, done) });
    }
    start(&mut dispatcher, &mut outbox);
    let [left, lost]: [Receipt; 2] = [receipts.recv().unwrap(), receipts.recv().unwrap()];
    let room = dispatcher.next().await.room.unwrap();
    outbox.push_reserved(room, b"answer".to_vec()).unwrap();
    outbox.pop().unwrap().delivery.unwrap().written();
    assert!(left.written().await);
    drop(dispatcher.next().await.room);
    assert!(!lost.written().await);
}

#[tokio::test(start_paused = true)]
async fn what_only_one_at_a_time_may_do_waits_in_the_queue_and_is_passed_there() {
    let (mut dispatcher, mut outbox) = (Dispatcher::new(2), outbox(9));
    for job in [packages("p1", done), packages("p2", done), job("read", 10, done), packages("p3", done)] {
        dispatcher.enqueue(job);
    }
    assert_eq!(start(&mut dispatcher, &mut outbox), (vec!["p1".to_owned(), "read".to_owned()], false));
    let mut order = Vec::new();
    while !dispatcher.is_idle() {
        order.push(dispatcher.next().await.ticket.name.id);
        let (started, waits_for_room) = start(&mut dispatcher, &mut outbox);
        assert!(started.len() < 2 && !waits_for_room, "{started:?}");
    }
    assert_eq!(order, ["p1", "read", "p2", "p3"]);
}

#[tokio::test(start_paused = true)]
async fn a_command_starts_only_with_room_for_its_answer() {
    let (mut dispatcher, mut outbox) = (Dispatcher::new(5), outbox(1));
    dispatcher.enqueue(job("a", 10, done));
    dispatcher.enqueue(job("b", 10, done));
    assert_eq!(start(&mut dispatcher, &mut outbox), (vec!["a".to_owned()], true));
    let ended = dispatcher.next().await;
    assert!(start(&mut dispatcher, &mut outbox).0.is_empty(), "the room is still promised");
    drop(ended.room);
    assert_eq!(start(&mut dispatcher, &mut outbox).0, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_past_its_deadline_never_starts() {
    let (mut dispatcher, mut outbox) = (Dispatcher::new(1), outbox(9));
    dispatcher.enqueue(job("long", 60, never));
    start(&mut dispatcher, &mut outbox);
    dispatcher.enqueue(job("late", 5, |_| unreachable!("it waited too long")));
    dispatcher.enqueue(job("later", 30, done));
    let ended = dispatcher.next().await;
    assert_eq!((ended.ticket.name.id.as_str(), code(&ended)), ("late", Some(ErrorCode::CommandTimeout)));
    assert!(ended.room.is_none());
    assert_eq!(ended.ticket.received.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_command_that_ignores_its_deadline_is_dropped() {
    struct Guard(Arc<Notify>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let (mut dispatcher, mut outbox) = (Dispatcher::new(1), outbox(9));
    let dropped = Arc::new(Notify::new());
    let guard = Guard(Arc::clone(&dropped));
    dispatcher.enqueue(job("deaf", 5, move |_| {
        Box::pin(async move {
            let _guard = guard;
            std::future::pending().await
        })
    }));
    start(&mut dispatcher, &mut outbox);
    let ended = dispatcher.next().await;
    assert_eq!(code(&ended), Some(ErrorCode::CommandTimeout));
    assert_eq!(ended.ticket.received.elapsed(), Duration::from_secs(5) + LAST_WORDS);
    dropped.notified().await;
}

#[tokio::test(start_paused = true)]
async fn last_words_are_heard() {
    let (mut dispatcher, mut outbox) = (Dispatcher::new(1), outbox(9));
    dispatcher.enqueue(job("polite", 5, |stop| {
        Box::pin(async move {
            let reason = stop.reached().await;
            Outcome { stdout: "so far".to_owned(), ..Outcome::stopped(reason) }
        })
    }));
    start(&mut dispatcher, &mut outbox);
    assert_eq!(dispatcher.next().await.outcome.stdout, "so far");
}

#[tokio::test(start_paused = true)]
async fn cancel_ends_who_runs_and_who_waits() {
    let (mut dispatcher, mut outbox) = (Dispatcher::new(1), outbox(9));
    dispatcher.enqueue(job("runs", 60, never));
    dispatcher.enqueue(job("waits", 60, never));
    start(&mut dispatcher, &mut outbox);
    let waiting = dispatcher.cancel("waits").expect("it waits");
    assert_eq!(code(&waiting), Some(ErrorCode::CommandCancelled));
    assert!(dispatcher.cancel("unknown").is_none());
    assert!(dispatcher.cancel("runs").is_none(), "it answers by itself");
    assert_eq!(code(&dispatcher.next().await), Some(ErrorCode::CommandCancelled));
}

#[tokio::test(start_paused = true)]
async fn cancel_means_the_command_where_a_script_has_the_same_id() {
    let (mut dispatcher, mut outbox) = (Dispatcher::new(2), outbox(9));
    let script = |id: &str| {
        let ticket = Ticket::script(id, Instant::now());
        Job { ticket, exclusive: Some(Exclusive::Scripts), ..job(id, 60, never) }
    };
    dispatcher.enqueue(script("runs"));
    dispatcher.enqueue(job("runs", 60, never));
    start(&mut dispatcher, &mut outbox);
    dispatcher.enqueue(script("both"));
    dispatcher.enqueue(job("both", 60, never));
    for is_script in [false, true] {
        let ended = dispatcher.cancel("both").unwrap_or_else(|| panic!("is_script: {is_script}"));
        assert_eq!((ended.ticket.is_script, code(&ended)), (is_script, Some(ErrorCode::CommandCancelled)));
    }
    for is_script in [false, true] {
        assert!(dispatcher.cancel("runs").is_none(), "it answers by itself");
        assert_eq!(dispatcher.next().await.ticket.is_script, is_script);
    }
}

#[tokio::test(start_paused = true)]
async fn the_agent_s_end_answers_everybody() {
    let (mut dispatcher, mut outbox) = (Dispatcher::new(1), outbox(9));
    let log = Arc::new(Mutex::new(Vec::new()));
    for id in ["a", "b", "c"] {
        let log = Arc::clone(&log);
        dispatcher.enqueue(job(id, 60, move |stop| {
            Box::pin(async move {
                let reason = stop.reached().await;
                log.lock().unwrap().push(reason);
                Outcome::stopped(StopReason::ShuttingDown)
            })
        }));
    }
    start(&mut dispatcher, &mut outbox);
    let waiting: Vec<_> =
        dispatcher.shut_down().iter().map(|ended| (ended.ticket.name.id.clone(), code(ended))).collect();
    let shutting_down = Some(ErrorCode::ShuttingDown);
    assert_eq!(waiting, [("b".to_owned(), shutting_down), ("c".to_owned(), shutting_down)]);
    assert_eq!(code(&dispatcher.next().await), shutting_down);
    assert_eq!(*log.lock().unwrap(), [StopReason::ShuttingDown]);
    assert!(dispatcher.is_idle());
}
