use infini_protocol::agent::Response;

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
    ids.answered("a", &body, 100);
    assert_eq!(ids.look_up("a", &payload), Known::Answered(Box::new(body)));
}

#[test]
fn what_never_began_may_come_again() {
    let mut ids = Ids::in_memory();
    ids.accepted("a", digest(b"1"));
    ids.withdrawn("a");
    assert_eq!(ids.look_up("a", &digest(b"2")), Known::New);
    assert!(ids.order.is_empty());
}

#[test]
fn answers_leave_before_ids_do() {
    let mut ids = Ids::in_memory();
    for number in 0..5 {
        let id = number.to_string();
        take(&mut ids, &id);
        ids.answered(&id, &answer(&id, ""), KEPT_BYTES / 4);
    }
    assert_eq!(ids.look_up("0", &digest(b"0")), Known::Forgotten);
    assert!(matches!(ids.look_up("1", &digest(b"1")), Known::Answered(_)));
    take(&mut ids, "large");
    ids.answered("large", &answer("large", ""), KEPT_BYTES + 1);
    assert_eq!(ids.look_up("large", &digest(b"large")), Known::Forgotten);
    assert!(matches!(ids.look_up("1", &digest(b"1")), Known::Answered(_)), "what cannot be kept pushes nothing out");
}

#[test]
fn the_oldest_of_more_than_the_capacity_is_forgotten_whole() {
    let mut ids = Ids::in_memory();
    for number in 0..=CAPACITY {
        let id = number.to_string();
        take(&mut ids, &id);
        ids.answered(&id, &answer(&id, ""), 1);
    }
    assert_eq!(ids.look_up("0", &digest(b"0")), Known::New);
    assert!(matches!(ids.look_up("1", &digest(b"1")), Known::Answered(_)));
    assert_eq!(
        (ids.entries.len(), ids.order.len(), ids.kept.len(), ids.kept_bytes),
        (CAPACITY, CAPACITY, CAPACITY, CAPACITY)
    );
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
        ids.answered(&id, &answer(&id, ""), 1);
    }
    for id in ["long", "waits"] {
        assert_eq!(ids.look_up(id, &digest(id.as_bytes())), Known::Underway, "{id}");
    }
    assert_eq!((ids.entries.len(), ids.order.len()), (CAPACITY, CAPACITY));
    drop(ids);

    let ids = Ids::open(&path, "boot").unwrap();
    assert_eq!(
        ids.look_up("long", &digest(b"long")),
        Known::Forgotten,
        "a restart interrupts it, and it is not run again"
    );
    assert_eq!(ids.entries.len(), CAPACITY);
}

#[test]
fn another_process_of_the_boot_knows_what_was_started_and_another_boot_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ids");
    let mut ids = Ids::open(&path, "boot-1").unwrap();
    take(&mut ids, "ran");
    ids.accepted("waited", digest(b"waited"));
    ids.answered("ran", &answer("ran", ""), 10);
    ids.accepted("cancelled", digest(b"cancelled"));
    ids.answered("cancelled", &answer("cancelled", ""), 10);
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
        ids.answered(&id, &answer(&id, ""), 1000);
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
        ids.answered(&id, &answer(&id, ""), 1000);
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
