use infini_protocol::ErrorCode;
use infini_protocol::agent::{Ended, Response, ScriptCompletion};

use super::answers::KEPT_BYTES;
use super::*;

fn answer(id: &str, stdout: &str) -> AgentBody {
    AgentBody::Response(Box::new(Response { id: id.to_owned(), stdout: stdout.to_owned(), ..Response::default() }))
}

fn take(ids: &mut Ids, id: &str) {
    ids.accepted(id, digest(id.as_bytes()));
    ids.started(id);
}

#[test]
fn an_id_is_new_then_underway_then_answered() {
    let mut ids = Ids::in_memory();
    let payload = digest(b"payload");
    assert_eq!(ids.look_up("a", &payload), Known::New);
    ids.accepted("a", payload);
    assert_eq!(ids.look_up("a", &payload), Known::Underway);
    assert_eq!(ids.look_up("a", &digest(b"other")), Known::Other);
    let body = answer("a", "out");
    ids.answered("a", &body);
    assert_eq!(ids.look_up("a", &payload), Known::Answered(Box::new(body)));
}

#[test]
fn a_command_that_is_taken_over_stays_one() {
    let mut ids = Ids::in_memory();
    take(&mut ids, "a");
    ids.accepted("a", digest(b"a"));
    assert_eq!((ids.records.len(), ids.underway.len()), (1, 1));
    ids.answered("a", &answer("a", "out"));
    take(&mut ids, "b");
    assert_eq!(ids.records.len(), 2);
}

#[test]
fn what_never_began_may_come_again() {
    let mut ids = Ids::in_memory();
    ids.accepted("a", digest(b"1"));
    ids.withdrawn("a");
    assert_eq!(ids.look_up("a", &digest(b"2")), Known::New);
    assert_eq!((ids.records.len(), ids.underway.len()), (0, 0));
}

#[test]
fn answers_leave_before_ids_do() {
    let mut ids = Ids::in_memory();
    let quarter = "x".repeat(KEPT_BYTES / 4 - 1000);
    for number in 0..5 {
        let id = number.to_string();
        take(&mut ids, &id);
        ids.answered(&id, &answer(&id, &quarter));
    }
    assert_eq!(ids.look_up("0", &digest(b"0")), Known::Forgotten);
    let kept = |ids: &Ids| {
        (1..5).all(|number: u8| {
            let id = number.to_string();
            ids.look_up(&id, &digest(id.as_bytes())) == Known::Answered(Box::new(answer(&id, &quarter)))
        })
    };
    assert!(kept(&ids));
    // As text, and only as JSON.
    for (id, stdout) in [("large", "x".repeat(KEPT_BYTES + 1)), ("escaped", "\n".repeat(KEPT_BYTES / 2))] {
        take(&mut ids, id);
        ids.answered(id, &answer(id, &stdout));
        assert_eq!(ids.look_up(id, &digest(id.as_bytes())), Known::Forgotten);
        assert!(kept(&ids), "what cannot be kept pushes nothing out");
    }
}

#[test]
fn an_answer_is_kept_as_it_was_given() {
    let mut ids = Ids::in_memory();
    let completion = AgentBody::ScriptCompletion(ScriptCompletion {
        execution_id: "script".to_owned(),
        exit_code: -1,
        stdout: "a\u{0}b\u{fffd}\"".to_owned(),
        stderr: String::new(),
        log_file: None,
    });
    let data = serde_json::json!({ "total_gb": 0.1, "list": [null, u64::MAX, -1.5e-7] });
    let response = AgentBody::Response(Box::new(Response {
        id: "read".to_owned(),
        data: Some(data),
        ended: Some(Ended::Signal),
        error_code: Some(ErrorCode::CommandFailed),
        ..Response::default()
    }));
    for (id, body) in [("script", completion), ("read", response)] {
        take(&mut ids, id);
        ids.answered(id, &body);
        assert_eq!(ids.look_up(id, &digest(id.as_bytes())), Known::Answered(Box::new(body)));
    }
}

#[test]
fn the_oldest_of_more_than_the_capacity_is_forgotten_whole() {
    let mut ids = Ids::in_memory();
    for number in 0..=CAPACITY {
        let id = number.to_string();
        take(&mut ids, &id);
        ids.answered(&id, &answer(&id, ""));
    }
    assert_eq!(ids.look_up("0", &digest(b"0")), Known::New);
    assert_eq!(ids.look_up("1", &digest(b"1")), Known::Forgotten);
    let last = CAPACITY.to_string();
    assert!(matches!(ids.look_up(&last, &digest(last.as_bytes())), Known::Answered(_)));
    assert_eq!((ids.records.len(), ids.underway.len()), (CAPACITY, 0));
}

#[test]
fn what_was_withdrawn_and_comes_again_is_as_young_as_it_came_last() {
    let mut ids = Ids::in_memory();
    ids.accepted("again", digest(b"again"));
    ids.withdrawn("again");
    take(&mut ids, "again");
    ids.answered("again", &answer("again", ""));
    for number in 0..CAPACITY - 1 {
        take(&mut ids, &number.to_string());
        ids.answered(&number.to_string(), &answer("", ""));
    }
    assert_eq!(ids.look_up("again", &digest(b"again")), Known::Forgotten);
    assert_eq!(ids.records.iter().count(), CAPACITY);
    take(&mut ids, "one more");
    assert_eq!(ids.look_up("again", &digest(b"again")), Known::New);
}

#[test]
fn a_long_command_outlives_any_number_of_short_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ids");
    let mut ids = Ids::open(&path, "boot").unwrap();
    take(&mut ids, "long");
    ids.accepted("waits", digest(b"waits"));
    for number in 0..CAPACITY * 2 {
        let id = number.to_string();
        take(&mut ids, &id);
        ids.answered(&id, &answer(&id, ""));
    }
    for id in ["long", "waits"] {
        assert_eq!(ids.look_up(id, &digest(id.as_bytes())), Known::Underway, "{id}");
    }
    assert_eq!(ids.records.len(), CAPACITY);
    drop(ids);

    let ids = Ids::open(&path, "boot").unwrap();
    assert_eq!(
        ids.look_up("long", &digest(b"long")),
        Known::Forgotten,
        "a restart interrupts it, and it is not run again"
    );
    assert_eq!(ids.records.len(), CAPACITY);
}

#[test]
fn another_process_of_the_boot_knows_what_was_started_and_another_boot_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ids");
    let mut ids = Ids::open(&path, "boot-1").unwrap();
    take(&mut ids, "ran");
    ids.accepted("waited", digest(b"waited"));
    ids.answered("ran", &answer("ran", ""));
    ids.accepted("cancelled", digest(b"cancelled"));
    ids.answered("cancelled", &answer("cancelled", ""));
    drop(ids);

    let ids = Ids::open(&path, "boot-1").unwrap();
    assert_eq!(ids.look_up("ran", &digest(b"ran")), Known::Forgotten);
    assert_eq!(ids.look_up("cancelled", &digest(b"cancelled")), Known::Forgotten);
    assert_eq!(ids.look_up("ran", &digest(b"another")), Known::Other);
    assert_eq!(ids.look_up("waited", &digest(b"waited")), Known::New);
    drop(ids);

    let ids = Ids::open(&path, "boot-2").unwrap();
    assert_eq!(ids.look_up("ran", &digest(b"ran")), Known::New);
}

#[test]
fn half_a_record_at_the_end_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ids");
    let mut ids = Ids::open(&path, "boot").unwrap();
    take(&mut ids, "a");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&whole[..], b"half"].concat()).unwrap();
    let mut ids = Ids::open(&path, "boot").unwrap();
    take(&mut ids, "b");
    let ids = Ids::open(&path, "boot").unwrap();
    for id in ["a", "b"] {
        assert_eq!(ids.look_up(id, &digest(id.as_bytes())), Known::Forgotten, "{id}");
    }
}

#[test]
fn the_file_is_bounded_and_keeps_the_latest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ids");
    let mut ids = Ids::open(&path, "boot").unwrap();
    let count = CAPACITY * 2 + 10;
    for number in 0..count {
        let id = number.to_string();
        take(&mut ids, &id);
        ids.answered(&id, &answer(&id, ""));
    }
    let length = std::fs::metadata(&path).unwrap().len();
    assert!(length < 48 * (CAPACITY as u64 + 100), "{length} bytes");
    let ids = Ids::open(&path, "boot").unwrap();
    let last = (count - 1).to_string();
    let oldest = (count - CAPACITY).to_string();
    for id in [last, oldest] {
        assert_eq!(ids.look_up(&id, &digest(id.as_bytes())), Known::Forgotten, "{id}");
    }
}

#[test]
fn what_waits_while_the_file_is_written_anew_is_not_taken_for_begun() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ids");
    let mut ids = Ids::open(&path, "boot").unwrap();
    for number in 0..CAPACITY * 2 {
        let id = number.to_string();
        take(&mut ids, &id);
        ids.answered(&id, &answer(&id, ""));
    }
    ids.accepted("waits", digest(b"waits"));
    let before = std::fs::metadata(&path).unwrap().len();
    take(&mut ids, "one too many");
    let after = std::fs::metadata(&path).unwrap().len();
    assert!(after < before, "it was not written anew: {before} and then {after} bytes");
    drop(ids);

    let ids = Ids::open(&path, "boot").unwrap();
    assert_eq!(ids.look_up("waits", &digest(b"waits")), Known::New);
    assert_eq!(ids.look_up("one too many", &digest(b"one too many")), Known::Forgotten);
}
