use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use super::chain::sha256;
use super::testing::{SlowDisk, SmallDisk};
use super::*;

const SMALL: AuditSettings = AuditSettings { when_full: WhenFull::Continue, file_bytes: 2000, files: 3 };
const ALLOWED: Decision<'_> = Decision { allowed: true, rule: "allow.actions", error_code: None };

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_ms(1_767_225_600_000 + seconds * 1000)
}

fn command(json: &str) -> Command {
    Command::safe(&serde_json::from_str(json).unwrap(), &["pin"])
}

fn os_info(audit: &mut Audit, second: u64) -> Recorded {
    audit.decided(at(second), command(r#"{"id":"7","command_type":{"action":"OsInfo"}}"#), &ALLOWED)
}

/// Every line that is kept, after each was held against the one before it.
fn chained(folder: &Path) -> Vec<Value> {
    let (mut lines, mut before): (Vec<Value>, Option<String>) = (Vec::new(), None);
    for number in linux::numbers(folder).unwrap() {
        let bytes = fs::read(folder.join(storage::file_name(number))).unwrap();
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            assert!(chain::Link::read(line).is_some(), "{}", String::from_utf8_lossy(line));
            let parsed: Value = serde_json::from_slice(line).unwrap();
            assert!(before.is_none_or(|hash| parsed["previous"] == hash), "does not follow: {parsed}");
            before = Some(sha256(line));
            lines.push(parsed);
        }
    }
    lines
}

#[test]
fn the_chain_goes_on_over_files_and_restarts_and_stays_bounded() {
    let state = tempfile::tempdir().unwrap();
    let path = folder(state.path());
    for start in 0..5 {
        let mut audit = Audit::open(&path, SMALL);
        for second in 0..20 {
            assert!(os_info(&mut audit, start * 20 + second).refusal.is_none());
        }
        audit.stop(at(0)).unwrap();
        audit.sync();
    }
    let lines = chained(&path);
    let numbers: Vec<u64> = lines.iter().map(|line| line["line"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    assert_eq!(lines[0]["event"], "file", "{}", lines[0]);
    let files = linux::numbers(&path).unwrap();
    assert_eq!(files.len(), SMALL.files, "{files:?}");
    for number in files {
        let facts = fs::metadata(path.join(storage::file_name(number))).unwrap();
        assert!(facts.len() <= SMALL.file_bytes as u64, "file {number} has {} bytes", facts.len());
        assert_eq!(facts.permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn no_entry_waits_for_the_disk() {
    let state = tempfile::tempdir().unwrap();
    let disk = SlowDisk::new(state.path());
    let outdated = disk.outdated();
    let mut audit = Audit::with_storage(Box::new(disk), SMALL);
    for second in 0..40 {
        assert!(os_info(&mut audit, second).refusal.is_none());
    }
    audit.stop(at(40)).unwrap();
    assert!(chained(state.path()).len() > 40, "nothing is missing");
    let files = linux::numbers(state.path()).unwrap();
    let (old, kept) = files.split_at(files.len() - SMALL.files);
    assert_eq!((outdated.lock().unwrap().as_slice(), kept.len()), (old, SMALL.files));
    assert!(old.len() > 1, "{files:?}");
}

#[test]
fn the_host_hears_of_every_tenth_line_and_of_the_last() {
    let state = tempfile::tempdir().unwrap();
    let mut audit = Audit::open(state.path(), AuditSettings::default());
    let told: Vec<Value> =
        (0..35).filter_map(|second| os_info(&mut audit, second).event?.context).map(|c| c["line"].clone()).collect();
    assert_eq!(told, [10, 20, 30].map(Value::from));
    let last = audit.stop(at(99)).unwrap().context.unwrap();
    let head = audit.head().unwrap();
    assert_eq!((last["line"].as_u64(), last["hash"].as_str()), (Some(36), Some(head.hash.as_str())), "{last}");
    assert_eq!(head.to_string().parse(), Ok(head));
}

#[test]
fn a_line_cut_by_a_power_loss_is_noted_and_the_chain_goes_on() {
    let state = tempfile::tempdir().unwrap();
    let mut audit = Audit::open(state.path(), AuditSettings::default());
    for second in 0..3 {
        let _ = os_info(&mut audit, second);
    }
    let path = state.path().join(storage::file_name(1));
    let whole = fs::metadata(&path).unwrap().len();
    fs::File::options().write(true).open(&path).unwrap().set_len(whole - 40).unwrap();
    let mut audit = Audit::open(state.path(), AuditSettings::default());
    let _ = os_info(&mut audit, 9);
    let lines = chained(state.path());
    let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["file", "received", "received", "repaired", "received"]);
}

/// As some file systems leave a file after a power loss.
#[test]
fn zeros_in_the_place_of_many_lines_take_no_line_before_them_along() {
    let state = tempfile::tempdir().unwrap();
    let mut audit = Audit::open(state.path(), AuditSettings::default());
    let _ = os_info(&mut audit, 0);
    let path = state.path().join(storage::file_name(1));
    let file = fs::File::options().append(true).open(&path).unwrap();
    let whole = file.metadata().unwrap().len();
    file.set_len(whole + 3 * chain::MAX_LINE_BYTES as u64).unwrap();
    let mut audit = Audit::open(state.path(), AuditSettings::default());
    let _ = os_info(&mut audit, 1);
    let lines = chained(state.path());
    let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["file", "received", "repaired", "received"]);
    assert_eq!(lines[2]["dropped_bytes"], 3 * chain::MAX_LINE_BYTES);
}

#[test]
fn a_secret_is_in_no_file_and_a_long_text_is_cut() {
    let state = tempfile::tempdir().unwrap();
    let mut audit = Audit::open(state.path(), AuditSettings::default());
    let deep = r#"{"id":"1","command_type":{"action":"JoinDomain","password":"canary","PIN":["canary"],
        "list":[{"deep":{"Password":"canary"}}],"user":"seen"},"params":{"password":{"x":"canary"}}}"#;
    let _ = audit.decided(at(0), command(deep), &ALLOWED);
    let text = "\u{1}".repeat(900_000);
    let raw = serde_json::json!({ "id": "2", "raw_command": text, "env_vars": { "PGPASSWORD": "canary" } });
    let denied = Decision { allowed: false, rule: "raw", error_code: Some(ErrorCode::PermissionDenied) };
    let _ = audit.decided(at(1), Command::raw(&serde_json::from_value(raw).unwrap(), &[]), &denied);
    let written = fs::read_to_string(state.path().join(storage::file_name(1))).unwrap();
    assert!(!written.contains("canary") && written.contains("seen"), "{}", &written[..2000.min(written.len())]);
    let lines = chained(state.path());
    let kept = &lines[2]["text"];
    assert_eq!(kept["head"].as_str().map(str::len), Some(entry::TEXT_BYTES / 6));
    assert_eq!(
        (kept["bytes"].as_u64(), kept["sha256"].as_str()),
        (Some(900_000), Some(sha256(text.as_bytes()).as_str()))
    );
    assert_eq!((&lines[2]["event"], &lines[2]["rule"]), (&"refused".into(), &"raw".into()));
}

#[test]
fn on_a_full_disk_entries_are_counted_told_once_and_missed_ones_named_later() {
    for when_full in [WhenFull::Continue, WhenFull::Stop] {
        let state = tempfile::tempdir().unwrap();
        let disk = SmallDisk::with_room(state.path(), 1500);
        let left = disk.room();
        let mut audit = Audit::with_storage(Box::new(disk), AuditSettings { when_full, ..AuditSettings::default() });
        let recorded: Vec<Recorded> = (0..100).map(|second| os_info(&mut audit, second)).collect();
        let refused = recorded.iter().filter(|one| one.refusal.is_some()).count();
        let errors: Vec<&AgentEvent> = recorded
            .iter()
            .filter_map(|one| one.event.as_ref())
            .filter(|e| e.severity == EventSeverity::Error)
            .collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        let written = chained(state.path()).len() - 1;
        assert_eq!(refused, if when_full == WhenFull::Stop { 100 - written } else { 0 });

        left.store(1 << 20, Ordering::Relaxed);
        let back = os_info(&mut audit, 200);
        assert!(back.refusal.is_none(), "{back:?}");
        assert_eq!(back.event.map(|event| event.severity), Some(EventSeverity::Warn));
        let ending = Ending { success: true, exit_code: 0, error_code: None, duration: Duration::from_millis(3) };
        let _ = audit.ended(at(201), "7", CommandKind::Safe, &ending);
        let lines = chained(state.path());
        let missing = lines.iter().find(|line| line["event"] == "missing").unwrap();
        assert_eq!(missing["count"].as_u64(), Some(100 - written as u64), "{missing}");
        assert_eq!(lines.last().unwrap()["duration_ms"], 3);
    }
}

#[test]
fn files_that_somebody_removed_do_not_end_the_chain() {
    let state = tempfile::tempdir().unwrap();
    let mut audit = Audit::open(state.path(), AuditSettings::default());
    let _ = os_info(&mut audit, 0);
    fs::remove_file(state.path().join(storage::file_name(1))).unwrap();
    let _ = os_info(&mut audit, 1);
    let lines = chained(state.path());
    assert_eq!(lines[0]["line"], 3, "{}", lines[0]);
    assert_eq!((&lines[0]["file"], &lines[0]["oldest"]), (&2.into(), &1.into()), "{}", lines[0]);
}
