//! What goes from the system.

use std::os::unix::fs::symlink;

use super::*;

async fn done(machine: &TestMachine, step: Step) -> Result<String, CommandError> {
    let (context, _) = context(machine, own());
    platform::perform(&context, step).await
}

#[tokio::test]
async fn logs_are_emptied_and_rotated_ones_go() {
    let machine = TestMachine::healthy(&[
        ("/var/log/syslog", "text"),
        ("/var/log/empty.log", ""),
        ("/var/log/syslog.2.gz", "text"),
        ("/var/log/app/a-20260101", "text"),
        ("/var/log/app/a.log", "text"),
        ("/var/log/journal/1/system.journal", "text"),
        ("/var/log/wtmp", "text"),
        ("/etc/shadow", "secret"),
    ]);
    symlink(machine.path("/etc/shadow"), machine.path("/var/log/link.log")).unwrap();
    symlink(machine.path("/etc"), machine.path("/var/log/etc")).unwrap();
    assert_eq!(done(&machine, Step::Logs).await.unwrap(), "2 files removed, 3 emptied");
    let size = |path: &str| machine.path(path).metadata().unwrap().len();
    assert_eq!([size("/var/log/syslog"), size("/var/log/app/a.log"), size("/var/log/wtmp")], [0; 3]);
    assert_eq!(
        [size("/var/log/journal/1/system.journal"), size("/etc/shadow")],
        [4, 6],
        "neither is a log of this kind"
    );
    assert_eq!(left(&machine, &["/var/log/syslog.2.gz", "/var/log/app/a-20260101"]), [""; 0]);
}

/// Where the kernel lets everybody link to everything, a service could have root empty what is not its own.
#[tokio::test]
async fn a_log_that_has_another_name_is_left_and_told() {
    let machine =
        TestMachine::healthy(&[("/etc/shadow", "secret"), ("/var/log/app/x", ""), ("/var/log/syslog", "text")]);
    fs::hard_link(machine.path("/etc/shadow"), machine.path("/var/log/app/shadow")).unwrap();
    let error = done(&machine, Step::Logs).await.unwrap_err();
    assert!(error.sentence.starts_with("/var/log/app/shadow: it has another name"), "{error}");
    assert_eq!(fs::read_to_string(machine.path("/etc/shadow")).unwrap(), "secret");
    assert_eq!(machine.path("/var/log/syslog").metadata().unwrap().len(), 0);
}

#[tokio::test]
async fn the_journal_goes_once_journald_has_let_go_of_it() {
    let journal = ("/var/log/journal/1/system.journal", "text");
    let machine = TestMachine::healthy(&[journal]).prints("journalctl --relinquish-var", "");
    let detail = done(&machine, Step::Journal).await.unwrap();
    assert_eq!(detail, "1 file removed; until the next boot it is kept in memory only");
    assert_eq!(left(&machine, &["/var/log/journal", "/var/log/journal/1"]), ["/var/log/journal"]);

    let old = TestMachine::healthy(&[journal])
        .fails("journalctl --relinquish-var", 1, "unrecognized option\n")
        .prints("journalctl --rotate --vacuum-time=1s", "");
    let detail = done(&old, Step::Journal).await.unwrap();
    assert!(detail.contains("what is written from now on stays"), "{detail}");
    assert_eq!(old.ran(), ["journalctl --relinquish-var", "journalctl --rotate --vacuum-time=1s"]);
    assert!(old.path(journal.0).exists(), "journald has it open");
}

#[tokio::test]
async fn machine_ids_of_both_kinds_go() {
    let machine = TestMachine::healthy(&[("/etc/machine-id", "0123\n"), ("/var/lib/dbus/x", "")]);
    symlink("/etc/machine-id", machine.path("/var/lib/dbus/machine-id")).unwrap();
    let detail = done(&machine, Step::MachineId).await.unwrap();
    assert_eq!(detail, "/etc/machine-id: emptied; /var/lib/dbus/machine-id: a link, kept");
    assert_eq!(fs::read_to_string(machine.path("/etc/machine-id")).unwrap(), "");
    assert!(machine.path("/var/lib/dbus/machine-id").is_symlink());
}

#[tokio::test]
async fn host_keys_that_nobody_makes_again_are_told() {
    let key = ("/etc/ssh/ssh_host_rsa_key", "key");
    let detail = done(&TestMachine::healthy(&[key]), Step::SshHostKeys).await.unwrap();
    assert!(detail.starts_with("1 file removed; nothing here makes new ones"), "{detail}");
    for maker in ["/usr/lib/systemd/system/sshd-keygen@.service", "/usr/bin/cloud-init", "/etc/init.d/sshd"] {
        let machine = TestMachine::healthy(&[key, (maker, ""), ("/etc/ssh/ssh_config", ""), ("/etc/ssh/moduli", "")]);
        assert_eq!(done(&machine, Step::SshHostKeys).await.unwrap(), "1 file removed", "{maker}");
        assert_eq!(left(&machine, &["/etc/ssh/ssh_config", "/etc/ssh/moduli"]).len(), 2);
    }
    let dropbear = TestMachine::healthy(&[("/etc/dropbear/dropbear_rsa_host_key", "key")]);
    assert!(done(&dropbear, Step::SshHostKeys).await.unwrap().starts_with("1 file removed"));
}

#[tokio::test]
async fn leases_and_seeds_go_and_what_lies_beside_them_stays() {
    let stays = ["/var/lib/dhcp/README", "/var/lib/NetworkManager/NetworkManager.state", "/var/lib/systemd/timers/x"];
    let goes = [
        "/var/lib/dhcp/dhclient6.leases",
        "/var/lib/dhclient/dhclient-1-eth0.lease",
        "/var/lib/dhcpcd/eth0.lease6",
        "/var/lib/dhcpcd/duid",
        "/etc/dhcpcd.duid",
        "/var/lib/NetworkManager/internal-1-eth0.lease",
        "/var/lib/NetworkManager/secret_key",
        "/var/lib/systemd/random-seed",
        "/var/lib/urandom/random-seed",
        "/var/lib/seedrng/seed.credit",
        "/boot/efi/loader/random-seed",
        "/var/lib/systemd/credential.secret",
    ];
    let files: Vec<(&str, &str)> = stays.iter().chain(&goes).map(|path| (*path, "x")).collect();
    let machine = TestMachine::healthy(&files);
    for (step, count) in [(Step::DhcpLeases, 7), (Step::RandomSeed, 4), (Step::HostSecret, 1)] {
        assert_eq!(
            done(&machine, step).await.unwrap(),
            format!("{count} file{} removed", if count == 1 { "" } else { "s" }),
            "{step:?}"
        );
    }
    assert_eq!((left(&machine, &goes).len(), left(&machine, &stays).len()), (0, stays.len()));
}

#[tokio::test]
async fn a_folder_that_is_a_link_is_not_cleaned() {
    let machine = TestMachine::healthy(&[("/srv/important", "x"), ("/var/lib/x", "")]);
    symlink(machine.path("/srv"), machine.path("/var/crash")).unwrap();
    symlink(machine.path("/srv"), machine.path("/var/lib/dhcp")).unwrap();
    for step in [Step::CrashDumps, Step::DhcpLeases] {
        assert_eq!(done(&machine, step).await.unwrap(), "there was nothing", "{step:?}");
    }
    assert!(machine.path("/srv/important").exists());
}

#[tokio::test]
async fn temporary_files_go_whatever_their_age_but_not_what_is_in_use() {
    let stays = ["/tmp/systemd-private-1-x/tmp/a", "/tmp/snap.x/a"];
    let machine = TestMachine::healthy(&[("/tmp/new", "x"), ("/var/tmp/d/new", "x"), (stays[0], ""), (stays[1], "")]);
    assert_eq!(done(&machine, Step::TempFiles).await.unwrap(), "2 files removed");
    assert_eq!(left(&machine, &["/tmp/new", "/var/tmp/d", stays[0], stays[1]]), stays);
}

#[tokio::test]
async fn a_trim_tells_of_every_disk() {
    let machine = TestMachine::healthy(&[]).fails("fstrim -v /", 1, "fstrim: /: Input/output error\n");
    let error = done(&machine, Step::Trim).await.unwrap_err();
    assert!(error.sentence.contains("Input/output error"), "{error}");
}
