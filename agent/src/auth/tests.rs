use std::path::Path;

use super::*;

const NOW: Moment = Moment { now_ms: 1_767_225_600_000, boot_ms: 1_767_225_500_000 };
const ASK: &str = r#"{"type":"Metrics"}"#;

fn key() -> Key {
    Key::new("0123456789abcdef").unwrap()
}

fn gate() -> Authenticator {
    Authenticator::new(Trust::Secret(key()), NonceJournal::in_memory())
}

fn signed(ts: u64, nonce: &str) -> Vec<u8> {
    envelope::seal(&key(), ts, nonce, ASK).unwrap().into_bytes()
}

#[test]
fn a_fresh_signed_line_is_accepted_once() {
    let mut gate = gate();
    let line = signed(NOW.now_ms, "n-1");
    assert_eq!(gate.judge(&line, NOW), Verdict::Accepted { payload: ASK.to_owned() });
    assert_eq!(gate.judge(&line, NOW), Verdict::Replayed);
}

#[test]
fn a_forged_line_is_refused_whatever_else_it_is_and_uses_nothing_up() {
    let mut gate = gate();
    let good = signed(NOW.now_ms, "n-1");
    let forged = envelope::seal(&Key::new("another").unwrap(), NOW.now_ms, "n-1", ASK).unwrap().into_bytes();
    let old = envelope::seal(&Key::new("another").unwrap(), 1, "n-1", ASK).unwrap().into_bytes();
    for line in [&forged, &old, &good[..good.len() - 1].to_vec(), &b"{}".to_vec()] {
        let verdict = gate.judge(line, NOW);
        assert!(matches!(verdict, Verdict::Refused { .. }), "{verdict:?}");
    }
    assert!(matches!(gate.judge(&good, NOW), Verdict::Accepted { .. }), "the forged line took its nonce");
    assert!(matches!(gate.judge(&forged, NOW), Verdict::Refused { .. }), "a forged line is no replay");
}

/// Check 1 before 2 is the test before this one.
#[test]
fn a_replay_is_one_before_its_time_is_looked_at() {
    let mut gate = gate();
    let line = signed(NOW.now_ms, "seen");
    gate.judge(&line, NOW);
    let much_later = Moment { now_ms: NOW.now_ms + 3_600_000, boot_ms: NOW.now_ms + 1000 };
    assert_eq!(gate.judge(&line, much_later), Verdict::Replayed, "too old, from before the boot, and seen");
    fill(&mut gate, NOW.now_ms + 1);
    assert_eq!(gate.judge(&signed(NOW.now_ms + 7, "n-7"), NOW), Verdict::Replayed, "seen and remembered");
    let forgotten = gate.judge(&line, much_later);
    assert!(matches!(forgotten, Verdict::BelowFloor { .. }), "at the floor, whatever the clock says: {forgotten:?}");
}

#[test]
fn what_is_at_or_below_the_floor_is_refused_though_it_was_never_seen() {
    let mut gate = gate();
    gate.judge(&signed(NOW.now_ms, "first"), NOW);
    fill(&mut gate, NOW.now_ms + 1);
    for (ts, is_taken) in [(NOW.now_ms - 1, false), (NOW.now_ms, false), (NOW.now_ms + 2, true)] {
        let verdict = gate.judge(&signed(ts, &format!("new-{ts}")), NOW);
        assert_eq!(matches!(verdict, Verdict::Accepted { .. }), is_taken, "{ts}: {verdict:?}");
        assert_eq!(matches!(verdict, Verdict::BelowFloor { .. }), !is_taken, "{ts}: {verdict:?}");
    }
}

/// As many lines as are remembered, a millisecond apart: what was there before them is forgotten.
fn fill(gate: &mut Authenticator, from: u64) {
    for n in 0..replay::CAPACITY as u64 {
        gate.journal.admit(&format!("n-{}", n + 1), from + n);
    }
}

/// A moment of a machine that runs for an hour, by a clock that was set to this.
fn clock(now_ms: u64) -> Moment {
    Moment { now_ms, boot_ms: now_ms - 3_600_000 }
}

#[test]
fn a_line_of_the_near_future_is_taken_once_however_the_clock_moves() {
    const MINUTE: u64 = 60_000;
    let now = NOW.now_ms;
    let line = signed(now + 299_000, "soon");
    let mut gate = gate();
    assert!(matches!(gate.judge(&line, clock(now)), Verdict::Accepted { .. }));
    for moment in [now + 299_000, now + 9 * MINUTE, now + 10 * MINUTE, now + 24 * 60 * MINUTE, now - 60 * MINUTE, now] {
        assert_eq!(gate.judge(&line, clock(moment)), Verdict::Replayed, "at {moment}");
    }
}

#[test]
fn no_step_of_the_clock_and_no_restart_lets_a_line_in_twice() {
    const HOUR: u64 = 3_600_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nonces");
    let mut taken: Vec<(u64, Vec<u8>)> = Vec::new();
    let steps = [0, 5, 5, 2, 9, 0, 2, 8760, 0, 1].map(|hours| NOW.now_ms + hours * HOUR);
    for (number, now) in steps.into_iter().enumerate() {
        let mut gate = restarted(&path);
        // Hosts sign in the guest's time, whatever that is; a line of theirs may be ahead of it or behind.
        for (offset, name) in [(0, "on time"), (299_000, "ahead"), (-299_000, "behind")] {
            let ts = now.checked_add_signed(offset).unwrap();
            let line = signed(ts, &format!("{number}-{}", name.replace(' ', "-")));
            assert!(matches!(gate.judge(&line, clock(now)), Verdict::Accepted { .. }), "step {number}, {name}");
            taken.push((ts, line));
        }
        for (ts, line) in &taken {
            // As if the clock stood right at the line's time.
            for moment in [now, *ts] {
                assert_eq!(gate.judge(line, clock(moment)), Verdict::Replayed, "step {number}, line of {ts}");
            }
        }
    }
}

#[test]
fn what_was_refused_for_its_time_is_remembered_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nonces");
    let line = signed(NOW.now_ms + 400_000, "early");
    assert!(matches!(restarted(&path).judge(&line, NOW), Verdict::Stale { .. }));
    assert_eq!(restarted(&path).judge(&line, clock(NOW.now_ms + 400_000)), Verdict::Replayed);
}

/// The file is written before a line is handed on: whoever reads it then knows the line, and the agent need not end in good order.
#[test]
fn an_agent_that_is_killed_has_forgotten_nothing_and_takes_what_waited() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nonces");
    let (seen, waited) = (signed(NOW.now_ms, "seen"), signed(NOW.now_ms - 1, "waited"));
    let mut killed = restarted(&path);
    assert!(matches!(killed.judge(&seen, NOW), Verdict::Accepted { .. }));
    let mut next = restarted(&path);
    assert_eq!(next.judge(&seen, NOW), Verdict::Replayed);
    assert!(matches!(next.judge(&waited, NOW), Verdict::Accepted { .. }));
    drop(killed);
}

fn restarted(nonces: &Path) -> Authenticator {
    Authenticator::new(Trust::Secret(key()), NonceJournal::open(nonces).unwrap())
}

#[test]
fn a_known_nonce_is_a_replay_under_another_time_too() {
    let mut gate = gate();
    gate.judge(&signed(NOW.now_ms, "n-1"), NOW);
    assert_eq!(gate.judge(&signed(NOW.now_ms + 1, "n-1"), NOW), Verdict::Replayed);
}

#[test]
fn three_hundred_seconds_are_the_border() {
    for (ts, fresh) in [
        (NOW.now_ms + 299_000, true),
        (NOW.now_ms + 300_000, true),
        (NOW.now_ms + 300_001, false),
        (NOW.now_ms - 300_001, false),
    ] {
        let moment = Moment { boot_ms: 0, ..NOW };
        let verdict = gate().judge(&signed(ts, "n"), moment);
        assert_eq!(matches!(verdict, Verdict::Accepted { .. }), fresh, "{ts}: {verdict:?}");
    }
}

#[test]
fn a_line_from_before_the_boot_is_stale() {
    let verdict = gate().judge(&signed(NOW.boot_ms - 1, "n"), NOW);
    assert!(
        matches!(&verdict, Verdict::Stale { reason, .. } if reason.contains("before this machine started")),
        "{verdict:?}"
    );
}

#[test]
fn a_line_that_was_refused_for_its_time_cannot_come_back_when_its_time_has_come() {
    let mut gate = gate();
    let line = signed(NOW.now_ms + 400_000, "early");
    assert!(matches!(gate.judge(&line, NOW), Verdict::Stale { .. }));
    assert_eq!(gate.judge(&line, Moment { now_ms: NOW.now_ms + 400_000, ..NOW }), Verdict::Replayed);
}

#[test]
fn without_a_secret_even_a_signed_line_is_refused() {
    let mut gate = Authenticator::new(Trust::Locked, NonceJournal::in_memory());
    assert!(matches!(gate.judge(&signed(NOW.now_ms, "n"), NOW), Verdict::Refused { .. }));
}

#[test]
fn with_a_secret_an_unsigned_line_is_refused() {
    let verdict = gate().judge(ASK.as_bytes(), NOW);
    assert!(matches!(verdict, Verdict::Refused { .. }), "{verdict:?}");
}

#[test]
fn where_everyone_is_trusted_signed_and_plain_lines_say_the_same() {
    let mut gate = Authenticator::new(Trust::Everyone, NonceJournal::in_memory());
    let accepted = Verdict::Accepted { payload: ASK.to_owned() };
    assert_eq!(gate.judge(ASK.as_bytes(), NOW), accepted);
    assert_eq!(gate.judge(&signed(NOW.now_ms, "n"), NOW), accepted);
}
