use std::fs;
use std::path::PathBuf;

use infini_protocol::Timestamp;

use super::*;
use crate::commands::audit::chain::{Link, sha256};
use crate::commands::audit::testing::SmallDisk;
use crate::commands::audit::{Audit, AuditSettings, Command, Decision};

/// Three or four entries a file.
const SMALL: AuditSettings =
    AuditSettings { when_full: super::super::WhenFull::Continue, file_bytes: 1000, files: 100 };

/// An audit on disk, and the files it consists of.
struct Bench {
    folder: tempfile::TempDir,
    head: Head,
}

impl Bench {
    fn with(settings: AuditSettings, entries: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut audit = Audit::open(folder.path(), settings);
        write(&mut audit, entries);
        audit.sync();
        let head = audit.head().unwrap();
        Self { folder, head }
    }

    /// Four files with 15 lines, 11 of them commands.
    fn new() -> Self {
        let bench = Self::with(SMALL, 11);
        assert_eq!((bench.numbers().len(), bench.head.line), (4, 15));
        bench
    }

    fn numbers(&self) -> Vec<u64> {
        numbers(self.folder.path()).unwrap()
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.path().join(file_name(number))
    }

    fn lines(&self, number: u64) -> Vec<String> {
        fs::read_to_string(self.path(number)).unwrap().split_inclusive('\n').map(str::to_owned).collect()
    }

    fn files(&self) -> Vec<(u64, Vec<u8>)> {
        self.numbers().into_iter().map(|number| (number, fs::read(self.path(number)).unwrap())).collect()
    }

    /// Changes a file's lines.
    fn edit(&self, number: u64, edit: impl FnOnce(&mut Vec<String>)) {
        let mut lines = self.lines(number);
        edit(&mut lines);
        fs::write(self.path(number), lines.concat()).unwrap();
    }

    fn verify(&self) -> Report {
        self.verify_with(None)
    }

    /// On a machine without processes: nobody writes.
    fn verify_with(&self, head: Option<Head>) -> Report {
        verify(self.folder.path(), head, Path::new("/nowhere")).unwrap()
    }

    /// The faults and the file and line of each.
    fn faults(&self) -> Vec<(String, Fault)> {
        faults(&self.verify())
    }
}

fn write(audit: &mut Audit, entries: u64) {
    let decision = Decision { allowed: true, rule: "permissions.reads", error_code: None };
    for second in 0..entries {
        let command = r#"{"id":"7","command_type":{"action":"OsInfo"}}"#;
        let now = Timestamp::from_unix_ms(1_767_225_600_000 + second * 1000);
        let _ = audit.decided(now, Command::safe(&serde_json::from_str(command).unwrap(), &[]), &decision);
    }
}

fn faults(report: &Report) -> Vec<(String, Fault)> {
    let place = |place: &Place| match (&place.file, place.line_in_file) {
        (Some(file), Some(line)) => format!("{}:{line}", file.trim_start_matches("commands.0000000")),
        (Some(file), None) => file.trim_start_matches("commands.0000000").to_owned(),
        (None, _) => String::new(),
    };
    report.faults.iter().map(|found| (place(&found.place), found.what.clone())).collect()
}

fn at(place: &str, fault: Fault) -> Vec<(String, Fault)> {
    vec![(place.to_owned(), fault)]
}

/// Somebody who knows how lines are made changes one and gives it a new check.
fn forge(line: &str, from: &str, to: &str) -> String {
    let changed = line.replacen(from, to, 1);
    assert_ne!(changed, line);
    let signed = &changed[..changed.rfind(",\"check\":").unwrap()];
    format!("{signed},\"check\":\"{}\"}}\n", &sha256(signed.as_bytes())[..16])
}

/// The same person gives every line from that one on a new hash and check.
fn rewrite(bench: &Bench, first: u64, from: &str, to: &str) {
    let mut previous: Option<String> = None;
    for number in bench.numbers() {
        bench.edit(number, |lines| {
            for line in lines {
                let link = Link::read(line.as_bytes()).unwrap();
                if link.line == first {
                    *line = forge(line, from, to);
                } else if let Some(previous) = &previous
                    && link.previous != *previous
                {
                    *line = forge(line, &link.previous, previous);
                }
                previous = Some(sha256(line.as_bytes()));
            }
        });
    }
}

#[test]
fn what_the_agent_wrote_is_sound() {
    let bench = Bench::new();
    let report = bench.verify_with(Some(bench.head.clone()));
    assert!(report.is_sound(), "{report}");
    assert_eq!((report.files, report.lines, report.received, report.refused), (4, 15, 11, 0), "{report}");
    assert_eq!((report.head.as_ref(), report.proven), (Some(&bench.head), Some(15)), "{report}");
    assert_eq!(report.from.unwrap().to_string(), "2026-01-01T00:00:00.000Z");
    assert_eq!(report.to.unwrap().to_string(), "2026-01-01T00:00:10.000Z");
    assert!(report.facts.is_empty(), "{report}");
}

/// The same without a disk, for many readings.
fn verify_bytes(files: &[(u64, Vec<u8>)], head: Option<Head>) -> Report {
    let mut walk = Walk::new(head);
    for (number, bytes) in files {
        walk.begin_file(*number);
        let mut lines = Lines::new(&bytes[..]);
        loop {
            match lines.next().unwrap() {
                Next::Line(line) => walk.line(line),
                Next::TooLong => walk.too_long(),
                Next::Half(bytes) => break walk.end_within_a_line(bytes, false),
                Next::End if walk.has_lines() => break,
                Next::End => break walk.end_within_a_line(0, false),
            }
        }
    }
    walk.finish(Path::new(""))
}

#[test]
fn a_change_of_any_one_byte_is_found() {
    let bench = Bench::with(SMALL, 5);
    let files = bench.files();
    assert!(files.len() > 1 && verify_bytes(&files, None).is_sound());
    for changed in 0..files.len() {
        for index in 0..files[changed].1.len() {
            let mut files = files.clone();
            files[changed].1[index] ^= 1;
            assert!(!verify_bytes(&files, None).is_sound(), "file {changed}, byte {index}");
        }
    }
}

#[test]
fn every_cut_but_one_at_a_lines_end_is_found_and_that_one_beside_the_head() {
    let bench = Bench::with(SMALL, 5);
    let whole = bench.files();
    let last = whole.len() - 1;
    for length in 0..whole[last].1.len() {
        let mut files = whole.clone();
        files[last].1.truncate(length);
        let at_an_end = length > 0 && whole[last].1[length - 1] == b'\n';
        assert_eq!(verify_bytes(&files, None).is_sound(), at_an_end, "cut after {length} bytes");
        assert!(!verify_bytes(&files, Some(bench.head.clone())).is_sound(), "cut after {length} bytes");
    }
}

#[test]
fn whatever_lines_are_taken_out_or_moved_is_found_but_for_a_cut_end() {
    let bench = Bench::with(SMALL, 5);
    let whole = bench.files();
    let lines: Vec<(usize, &[u8])> = whole
        .iter()
        .enumerate()
        .flat_map(|(file, (_, bytes))| bytes.split_inclusive(|&byte| byte == b'\n').map(move |line| (file, line)))
        .collect();
    let last_file = lines.iter().filter(|(file, _)| *file == whole.len() - 1).count();
    let judge = |kept: &[(usize, &[u8])]| {
        let bytes = |file| kept.iter().filter(|(of, _)| *of == file).flat_map(|(_, line)| line.to_vec()).collect();
        let files: Vec<_> = whole.iter().enumerate().map(|(index, (number, _))| (*number, bytes(index))).collect();
        verify_bytes(&files, None).is_sound()
    };
    for mask in 0_u32..1 << lines.len() {
        let kept: Vec<_> = (0..lines.len()).filter(|index| mask & 1 << index != 0).map(|index| lines[index]).collect();
        let is_a_beginning = mask.trailing_ones() == mask.count_ones();
        let is_cut_end = is_a_beginning && kept.len() > lines.len() - last_file;
        assert_eq!(judge(&kept), is_cut_end, "kept: {mask:b}, the last file has {last_file} lines");
    }
    for from in 0..lines.len() {
        for to in (0..lines.len()).filter(|to| *to != from) {
            let mut moved = lines.clone();
            let (_, line) = moved.remove(from);
            moved.insert(to, (lines[to].0, line));
            assert!(!judge(&moved), "line {from} moved to {to}");
        }
    }
}

#[test]
fn edits_of_lines_are_found_where_they_are() {
    /// What somebody does, and the faults that it leaves.
    type Case<'a> = (&'a str, fn(&mut Vec<String>), Vec<(String, Fault)>);
    let missing = |from, to| Fault::LinesMissing { from, to };
    // Each file has four lines but the last: 1 to 4, 5 to 8, 9 to 12, 13 to 15.
    let cases: Vec<Case<'_>> = vec![
        ("changed", |lines| lines[1] = lines[1].replace("OsInfo", "OsInfa"), at("2.log:2", Fault::Damaged)),
        ("changed and sealed", |lines| lines[1] = forge(&lines[1], "OsInfo", "OsInfa"), at("2.log:3", Fault::Replaced)),
        ("the last of a file", |lines| lines[3] = forge(&lines[3], "OsInfo", "OsInfa"), at("3.log:1", Fault::Replaced)),
        ("one taken out", |lines| drop(lines.remove(1)), at("2.log:2", missing(6, 6))),
        ("two taken out", |lines| drop(lines.drain(1..3)), at("2.log:2", missing(6, 7))),
        ("the end taken out", |lines| lines.truncate(2), at("3.log:1", missing(7, 8))),
        ("the beginning taken out", |lines| drop(lines.remove(0)), at("2.log:1", missing(5, 5))),
        ("doubled", |lines| lines.insert(1, lines[1].clone()), at("2.log:3", Fault::OutOfOrder)),
        ("junk put in", |lines| lines.insert(2, "junk\n".to_owned()), at("2.log:3", Fault::Damaged)),
        ("junk put in the place of two", |lines| drop(lines.splice(1..3, ["junk\n".to_owned()])), {
            [at("2.log:2", Fault::Damaged), at("2.log:3", missing(7, 7))].concat()
        }),
        ("an endless line", |lines| lines[1] = "x".repeat(3 << 20) + "\n", at("2.log:2", Fault::TooLong)),
        ("cut within a line", |lines| lines[3].truncate(9), at("2.log:4", Fault::Cut { bytes: 9 })),
        ("emptied", |lines| lines.clear(), {
            [at("2.log:1", Fault::Cut { bytes: 0 }), at("3.log:1", missing(5, 8))].concat()
        }),
        ("two exchanged", |lines| lines.swap(1, 2), {
            [at("2.log:2", missing(6, 6)), at("2.log:3", Fault::OutOfOrder), at("2.log:4", missing(7, 7))].concat()
        }),
    ];
    for (what, edit, expected) in cases {
        let bench = Bench::new();
        bench.edit(2, edit);
        assert_eq!(bench.faults(), expected, "{what}");
    }
}

#[test]
fn files_that_are_gone_renamed_or_put_together_are_found() {
    let bench = Bench::new();
    fs::remove_file(bench.path(2)).unwrap();
    assert_eq!(bench.faults(), at("2.log", Fault::FilesMissing { from: 2, to: 2 }));
    fs::remove_file(bench.path(3)).unwrap();
    assert_eq!(bench.faults(), at("2.log", Fault::FilesMissing { from: 2, to: 3 }));
    fs::remove_file(bench.path(1)).unwrap();
    assert_eq!(bench.faults(), at("1.log", Fault::FilesMissing { from: 1, to: 3 }));

    let bench = Bench::new();
    fs::rename(bench.path(4), bench.path(5)).unwrap();
    let found = bench.faults();
    assert_eq!(found[0], ("5.log:1".to_owned(), Fault::OtherFile { number: 4 }), "{found:?}");

    let bench = Bench::new();
    let second = bench.lines(4);
    bench.edit(3, |lines| lines.extend(second));
    fs::remove_file(bench.path(4)).unwrap();
    assert_eq!(bench.faults(), at("3.log:5", Fault::OtherFile { number: 4 }));

    let bench = Bench::new();
    bench.edit(1, |lines| drop(lines.remove(0)));
    assert_eq!(bench.faults(), at("1.log:1", Fault::LinesMissing { from: 1, to: 1 }));

    let bench = Bench::with(AuditSettings { files: 2, ..SMALL }, 11);
    bench.edit(3, |lines| drop(lines.remove(0)));
    assert_eq!(bench.faults(), at("3.log:1", Fault::BeginningMissing));
}

#[test]
fn what_rotation_removed_is_no_fault() {
    let bench = Bench::with(AuditSettings { files: 2, ..SMALL }, 11);
    assert_eq!(bench.numbers(), [3, 4]);
    let report = bench.verify_with(Some(bench.head.clone()));
    assert!(report.is_sound(), "{report}");
    assert_eq!(report.facts[0].what, Fact::Rotated { first: 9 }, "{report}");
    let early = Head { line: 3, ..bench.head.clone() };
    assert_eq!(faults(&bench.verify_with(Some(early))), at("", Fault::HeadNotKept { first: 9 }));
}

#[test]
fn a_rewritten_chain_only_shows_beside_the_head() {
    let bench = Bench::new();
    rewrite(&bench, 6, "OsInfo", "OsInfa");
    let report = bench.verify();
    assert!(report.is_sound(), "{report}");
    assert!(report.to_string().contains("--head N:HASH"), "{report}");
    let report = bench.verify_with(Some(bench.head.clone()));
    assert_eq!(faults(&report), at("4.log:3", Fault::HeadDiffers), "{report}");

    fs::remove_dir_all(bench.folder.path()).unwrap();
    assert!(bench.verify().is_sound());
    assert_eq!(faults(&bench.verify_with(Some(bench.head.clone()))), at("", Fault::HeadBeyondEnd { last: 0 }));
}

#[test]
fn a_head_in_the_middle_proves_what_is_before_it() {
    let bench = Bench::new();
    let line = &bench.lines(2)[1];
    let head = Head { line: 6, hash: sha256(line.as_bytes()) };
    assert_eq!(bench.verify_with(Some(head.clone())).proven, Some(6));
    bench.edit(2, |lines| drop(lines.remove(1)));
    let found = faults(&bench.verify_with(Some(head)));
    assert_eq!(found[1], (String::new(), Fault::HeadUnreadable), "{found:?}");
    let report = bench.verify_with(Some(Head { line: 16, ..bench.head.clone() }));
    assert!(report.faults.iter().any(|found| found.what == Fault::HeadBeyondEnd { last: 15 }), "{report}");
}

#[test]
fn what_the_audit_tells_of_itself_are_facts() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::with_room(folder.path(), 800);
    let room = disk.room();
    let mut audit = Audit::with_storage(Box::new(disk), AuditSettings::default());
    write(&mut audit, 100);
    room.store(1 << 20, std::sync::atomic::Ordering::Relaxed);
    write(&mut audit, 3);
    drop(audit);
    let path = folder.path().join(file_name(1));
    let length = fs::metadata(&path).unwrap().len();
    fs::File::options().write(true).open(&path).unwrap().set_len(length - 30).unwrap();
    write(&mut Audit::open(folder.path(), AuditSettings::default()), 1);
    let report = verify(folder.path(), None, Path::new("/nowhere")).unwrap();
    assert!(report.is_sound(), "{report}");
    let facts: Vec<_> = report.facts.iter().map(|found| &found.what).collect();
    assert!(matches!(facts[0], Fact::EntriesMissing { count: 97.., .. }), "{report}");
    assert!(matches!(facts[1], Fact::Repaired { dropped_bytes: 100.., .. }), "{report}");
}

#[test]
fn half_a_line_is_no_fault_while_somebody_writes_the_file() {
    let bench = Bench::new();
    bench.edit(4, |lines| lines[2].truncate(20));
    let verify = |bench: &Bench| verify(bench.folder.path(), None, Path::new("/proc")).unwrap();
    let writer = fs::File::options().append(true).open(bench.path(4)).unwrap();
    let report = verify(&bench);
    assert!(report.is_sound(), "{report}");
    assert_eq!(report.facts[0].what, Fact::BeingWritten, "{report}");
    drop(writer);
    let reader = fs::File::open(bench.path(4)).unwrap();
    assert_eq!(faults(&verify(&bench)), at("4.log:3", Fault::Cut { bytes: 20 }), "who only reads writes nothing");
    drop(reader);

    let bench = Bench::new();
    bench.edit(3, |lines| lines[3].truncate(20));
    let _writer = fs::File::options().append(true).open(bench.path(3)).unwrap();
    assert_eq!(faults(&verify(&bench)), at("3.log:4", Fault::Cut { bytes: 20 }), "it has a next one already");
}

#[test]
fn an_audit_that_is_written_and_rotated_meanwhile_is_sound() {
    let folder = tempfile::tempdir().unwrap();
    let settings = AuditSettings { files: 3, ..SMALL };
    let mut audit = Audit::open(folder.path(), settings);
    write(&mut audit, 20);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                write(&mut audit, 1);
            }
        });
        for _ in 0..200 {
            let report = verify(folder.path(), None, Path::new("/proc")).unwrap();
            if !report.is_sound() {
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
                panic!("{report}");
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_file_full_of_faults_is_told_in_a_bounded_report() {
    let bench = Bench::new();
    fs::write(bench.path(2), "junk\n".repeat(10_000)).unwrap();
    let report = bench.verify();
    assert!(report.fault_count >= 10_000 && report.faults.len() == 100, "{}", report.fault_count);
    let text = report.to_string();
    assert!(text.len() < 20_000 && text.contains("and 9"), "{} bytes", text.len());
}

#[test]
fn a_program_reads_the_same_as_a_person() {
    let bench = Bench::new();
    bench.edit(2, |lines| drop(lines.remove(1)));
    let report = bench.verify_with(Some(bench.head.clone()));
    let found: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!((&found["sound"], &found["fault_count"], &found["proven"]), (&false.into(), &1.into(), &15.into()));
    assert_eq!(found["head"], bench.head.to_string());
    let fault = &found["faults"][0];
    assert_eq!((&fault["kind"], &fault["from"], &fault["to"]), (&"lines_missing".into(), &6.into(), &6.into()));
    assert_eq!((&fault["file"], &fault["line_in_file"]), (&"commands.00000002.log".into(), &2.into()), "{fault}");
    let text = report.to_string();
    assert!(text.contains("commands.00000002.log:2 (line 7 of the audit)"), "{text}");
    assert!(text.contains("line 6 is missing before this one") && text.contains("Not sound: 1 fault."), "{text}");
}
