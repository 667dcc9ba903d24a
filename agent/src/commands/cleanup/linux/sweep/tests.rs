use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use super::*;
use crate::commands::cleanup::CleanupTarget;
use crate::commands::cleanup::linux::places;
use crate::commands::test_machine::TestMachine;

const DAY: Duration = Duration::from_secs(86_400);

/// Sweeps as many days after the files were made; gives what came of it and which of `paths` are left.
fn sweep(machine: &TestMachine, target: CleanupTarget, days: u32, mounted: &[PathBuf]) -> Swept {
    let context = machine.context();
    let mut sweep = Sweep::new(&context.roots, mounted, SystemTime::now() + DAY * days, || false);
    for place in places(&context.roots, target) {
        sweep.place(&place);
    }
    sweep.into_swept()
}

fn left<'p>(machine: &TestMachine, paths: &[&'p str]) -> Vec<&'p str> {
    paths.iter().copied().filter(|path| machine.path(path).symlink_metadata().is_ok()).collect()
}

const PASSWD: (&str, &str) = ("/etc/passwd", "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n");

#[test]
fn old_files_go_by_the_age_of_their_folder() {
    let files = ["/tmp/a", "/tmp/d/b", "/var/tmp/c", "/tmp/systemd-private-1-x/tmp/f", "/tmp/lost+found/g"];
    let machine = TestMachine::new(&files.map(|file| (file, "text")));
    let _socket = UnixListener::bind(machine.path("/tmp/socket")).unwrap();
    assert_eq!(sweep(&machine, CleanupTarget::Temp, 9, &[]).removed_files, 0);
    let swept = sweep(&machine, CleanupTarget::Temp, 11, &[]);
    assert_eq!((swept.removed_files, swept.error()), (2, None), "{swept:?}");
    assert_eq!(left(&machine, &files), files[2..]);
    assert_eq!(left(&machine, &["/tmp/d", "/tmp/socket"]), ["/tmp/socket"], "an empty old folder goes, a socket not");
    sweep(&machine, CleanupTarget::Temp, 31, &[]);
    assert_eq!(left(&machine, &files), files[3..]);
}

#[test]
fn links_are_removed_and_not_followed() {
    let machine = TestMachine::new(&[PASSWD, ("/etc/shadow", "secret"), ("/home/ann/.local/share/x", "")]);
    fs::create_dir_all(machine.path("/tmp")).unwrap();
    symlink(machine.path("/etc"), machine.path("/tmp/link")).unwrap();
    symlink(machine.path("/etc"), machine.path("/home/ann/.cache")).unwrap();
    symlink(machine.path("/etc"), machine.path("/home/ann/.local/share/Trash")).unwrap();
    let swept = sweep(&machine, CleanupTarget::Temp, 100, &[]);
    assert_eq!(swept.removed_files, 1);
    for target in [CleanupTarget::Cache, CleanupTarget::Trash] {
        let swept = sweep(&machine, target, 100, &[]);
        assert_eq!((swept.removed_files, swept.error()), (0, None), "{target:?}");
    }
    assert_eq!(left(&machine, &["/tmp/link", "/etc/shadow", "/etc/passwd"]), ["/etc/shadow", "/etc/passwd"]);
}

#[test]
fn what_is_mounted_inside_is_not_entered() {
    let machine = TestMachine::new(&[("/tmp/mnt/a", ""), ("/tmp/b", "")]);
    sweep(&machine, CleanupTarget::Temp, 100, &["/tmp/mnt".into()]);
    assert_eq!(left(&machine, &["/tmp/mnt/a", "/tmp/b"]), ["/tmp/mnt/a"]);
}

#[test]
fn a_file_with_another_name_frees_nothing() {
    let machine = TestMachine::new(&[("/tmp/a", &"x".repeat(10_000)), ("/home/b", "")]);
    fs::remove_file(machine.path("/home/b")).unwrap();
    fs::hard_link(machine.path("/tmp/a"), machine.path("/home/b")).unwrap();
    let swept = sweep(&machine, CleanupTarget::Temp, 100, &[]);
    assert_eq!((swept.removed_files, swept.freed_bytes), (1, 0));
    let machine = TestMachine::new(&[("/tmp/a", &"x".repeat(10_000))]);
    let swept = sweep(&machine, CleanupTarget::Temp, 100, &[]);
    assert!(swept.freed_bytes >= 10_000, "{swept:?}");
}

#[test]
fn only_rotated_logs_go() {
    let rotated = ["/var/log/syslog.1", "/var/log/a/dpkg.log.2.gz", "/var/log/messages-20260131.xz", "/var/log/x.old"];
    let kept = ["/var/log/syslog", "/var/log/a/b-1.log", "/var/log/app-1.2.3.log", "/var/log/.1", "/var/log/wtmp-2"];
    let all: Vec<&str> = rotated.into_iter().chain(kept).collect();
    let machine = TestMachine::new(&all.iter().map(|path| (*path, "")).collect::<Vec<_>>());
    sweep(&machine, CleanupTarget::Logs, 6, &[]);
    assert_eq!(left(&machine, &all), all);
    sweep(&machine, CleanupTarget::Logs, 8, &[]);
    assert_eq!(left(&machine, &all), kept);
}

#[test]
fn trash_goes_by_whole_entries() {
    let trash = "/home/ann/.local/share/Trash";
    let files = ["files/old/deep/a", "files/b", "info/b.trashinfo"].map(|name| format!("{trash}/{name}"));
    let machine = TestMachine::new(&[PASSWD]);
    let machine = files.iter().fold(machine, |machine, path| machine.file(path, "x"));
    assert_eq!(sweep(&machine, CleanupTarget::Trash, 29, &[]).removed_files, 0);
    let swept = sweep(&machine, CleanupTarget::Trash, 31, &[]);
    assert_eq!((swept.removed_files, swept.error()), (3, None));
    assert_eq!(fs::read_dir(machine.path(&format!("{trash}/files"))).unwrap().count(), 0);
}
