//! What goes from homes, and what people can put there to have something else go.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use super::*;

async fn done(machine: &TestMachine, step: Step) -> Result<String, CommandError> {
    let (context, _) = context(machine, own());
    platform::perform(&context, step).await
}

/// A machine with these files, Ann, Bob who has no home yet, and a service that has a person's number.
fn people(files: &[(&str, &str)]) -> TestMachine {
    let passwd = format!(
        "root:x:0:0::/root:/bin/sh\nann:x:{0}:100::/home/ann:/bin/sh\nbob:x:{0}:100::/home/bob:/bin/sh\n\
         web:x:{0}:100::/var/www:/bin/sh\ndaemon:x:2:2::/home/daemon:/bin/sh\nnone:x:{0}:100::/:/bin/sh\n",
        ann()
    );
    let machine = TestMachine::healthy(&[
        ("/etc/passwd", &passwd),
        ("/home/ann/.profile", "x"),
        ("/home/daemon/data", "x"),
        ("/var/www/index.html", "x"),
    ]);
    let machine = files.iter().fold(machine, |machine, (path, text)| machine.file(path, text));
    for home in ["/home/ann", "/var/www"] {
        chown(machine.path(home), Some(ann()), None).unwrap();
    }
    machine
}

#[tokio::test]
async fn a_persons_home_is_emptied_and_a_services_is_not() {
    let machine = people(&[("/home/ann/a/b/c", "x"), ("/home/ann/.ssh/id_rsa", "x"), ("/var/mail/ann", "x")]);
    let _socket = UnixListener::bind(machine.path("/home/ann/a/socket")).unwrap();
    let detail = done(&machine, Step::UserData).await.unwrap();
    let expected = "5 files removed; emptied: /home/ann; not directly below /home or not theirs, so left: /var/www";
    assert_eq!(detail, expected);
    assert_eq!(fs::read_dir(machine.path("/home/ann")).unwrap().count(), 0);
    let stays = ["/home/ann", "/home/daemon/data", "/var/www/index.html", "/var/mail", "/etc/passwd"];
    assert_eq!(left(&machine, &stays), stays);
}

#[tokio::test]
async fn links_in_homes_lead_nowhere() {
    let files = [("/etc/shadow", "secret"), ("/srv/data/.bash_history", "x"), ("/srv/data/.cache/x", "x")];
    let machine = people(&files);
    symlink(machine.path("/etc"), machine.path("/home/ann/etc")).unwrap();
    symlink(machine.path("/etc/shadow"), machine.path("/home/ann/.bash_history")).unwrap();
    symlink(machine.path("/srv/data/.cache"), machine.path("/home/ann/.cache")).unwrap();
    symlink(machine.path("/srv/data"), machine.path("/home/ann/.local")).unwrap();
    symlink(machine.path("/srv/data"), machine.path("/home/bob")).unwrap();
    assert_eq!(done(&machine, Step::ShellHistory).await.unwrap(), "1 file removed", "the link itself");
    assert_eq!(done(&machine, Step::UserCaches).await.unwrap(), "there was nothing");
    let detail = done(&machine, Step::UserData).await.unwrap();
    assert!(detail.starts_with("4 files removed; emptied: /home/ann;"), "{detail}");
    for (path, text) in files {
        assert_eq!(fs::read_to_string(machine.path(path)).unwrap(), text, "{path}");
    }
    assert!(machine.path("/home/bob").is_symlink() && machine.path("/etc/passwd").exists());
}

#[tokio::test]
async fn what_is_mounted_in_a_home_or_as_one_stays() {
    let root = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n";
    let mounts = format!("{root}2 1 8:2 / /home/ann/disk rw - ext4 /dev/sdb1 rw\n");
    let machine = people(&[("/home/ann/disk/a", "x"), ("/proc/self/mountinfo", &mounts)]);
    let detail = done(&machine, Step::UserData).await.unwrap();
    assert!(detail.starts_with("1 file removed; emptied: /home/ann;"), "{detail}");
    assert!(machine.path("/home/ann/disk/a").exists());

    for kind in ["nfs4 server:/home", "tmpfs tmpfs", "fuse.sshfs ann@server:", "autofs x"] {
        let mounts = format!("{root}2 1 0:9 / /home rw - {kind} rw\n");
        let machine = people(&[("/home/ann/.bash_history", "x"), ("/proc/self/mountinfo", &mounts)]);
        let detail = done(&machine, Step::UserData).await.unwrap();
        assert!(detail.contains("not on a disk of this machine, so left: /home/ann"), "{kind}: {detail}");
        assert_eq!(done(&machine, Step::ShellHistory).await.unwrap(), "there was nothing", "{kind}");
        assert_eq!(left(&machine, &["/home/ann/.profile", "/home/ann/.bash_history"]).len(), 2, "{kind}");
    }
    // A disk of its own for homes is one of this machine.
    let mounts = format!("{root}2 1 8:2 / /home rw - ext4 /dev/sdb1 rw\n");
    let own_disk = people(&[("/proc/self/mountinfo", &mounts)]);
    assert!(done(&own_disk, Step::UserData).await.unwrap().starts_with("1 file removed; emptied: /home/ann;"));
}

#[tokio::test]
async fn a_home_that_belongs_to_somebody_else_stays() {
    let machine = people(&[]);
    if rustix::process::getuid().is_root() {
        chown(machine.path("/home/ann"), Some(ann() + 1), None).unwrap();
        let detail = done(&machine, Step::UserData).await.unwrap();
        assert!(detail.contains("or not theirs, so left: /home/ann, /var/www"), "{detail}");
        assert!(machine.path("/home/ann/.profile").exists());
    }
}

#[tokio::test]
async fn of_roots_home_only_traces_go() {
    let stays = ["/root/install.sh", "/root/.ssh/authorized_keys", "/root/.ssh/config", "/root/.bashrc"];
    let goes =
        ["/root/.cache/x/y", "/root/.local/share/Trash/files/a", "/root/.ssh/id_rsa", "/root/.ssh/known_hosts.old"];
    let files: Vec<(&str, &str)> = stays.iter().chain(&goes).map(|path| (*path, "x")).collect();
    let machine = people(&files);
    done(&machine, Step::UserData).await.unwrap();
    assert_eq!((left(&machine, &stays), left(&machine, &goes)), (stays.to_vec(), vec![]));
}

#[tokio::test]
async fn history_goes_by_its_names() {
    let goes = [
        "/root/.bash_history",
        "/home/ann/.zsh_history",
        "/home/ann/.python_history",
        "/home/ann/.lesshst",
        "/home/ann/.local/share/fish/fish_history",
        "/home/ann/.local/share/powershell/PSReadLine/ConsoleHost_history.txt",
    ];
    let stays = ["/home/ann/.bashrc", "/home/ann/history", "/home/ann/docs/.bash_history", "/home/daemon/.sh_history"];
    let files: Vec<(&str, &str)> = stays.iter().chain(&goes).map(|path| (*path, "x")).collect();
    let machine = people(&files);
    assert_eq!(done(&machine, Step::ShellHistory).await.unwrap(), "6 files removed");
    assert_eq!((left(&machine, &stays), left(&machine, &goes)), (stays.to_vec(), vec![]));
}

#[tokio::test]
async fn what_lies_too_deep_is_told() {
    let deep = format!("/home/ann{}/file", "/d".repeat(70));
    let error = done(&people(&[(&deep, "x")]), Step::UserData).await.unwrap_err();
    assert!(error.sentence.contains("it lies too deep and stays"), "{error}");
}
