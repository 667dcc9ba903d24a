use infini_protocol::ErrorCode;
use serde_json::from_value;

use super::*;
use crate::commands::test_machine::TestMachine;
use crate::commands::testing::assert_golden;

#[test]
fn targets_are_of_the_list() {
    for (fields, legal) in [
        (json!({ "drive": "/", "targets": ["temp", "crash_dumps"] }), true),
        (json!({ "drive": "/", "targets": ["Temp"] }), false),
        (json!({ "drive": "/", "targets": ["/etc"] }), false),
        (json!({ "drive": "/var/", "targets": ["temp"] }), true),
        (json!({ "drive": "../var", "targets": ["temp"] }), false),
        (json!({ "drive": "C:", "targets": ["temp"] }), false),
        (json!({ "drive": "/" }), false),
        (json!({ "targets": ["temp"] }), false),
    ] {
        assert_eq!(from_value::<DiskCleanup>(fields.clone()).is_ok(), legal, "{fields}");
    }
}

#[tokio::test]
async fn a_drive_is_a_mount_point_and_nothing_beside_it_is_cleaned() {
    let mounts = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /var rw - ext4 /dev/sda2 rw\n";
    let machine = TestMachine::healthy(&[("/proc/self/mountinfo", mounts)]).prints("apt-get clean", "");
    for drive in ["/home", "../var", "/var/"] {
        let error = clean(&machine.context(), Some(drive.into()), vec![CleanupTarget::Packages]).await;
        // A trailing slash is the same path.
        assert_eq!(error.is_ok(), drive == "/var/", "{drive}: {error:?}");
        let code = error.err().map_or(ErrorCode::InvalidParameters, |error| error.code);
        assert_eq!(code, ErrorCode::InvalidParameters);
    }
    assert_eq!(machine.ran(), ["apt-get clean"]);
    clean(&machine.context(), Some("/".into()), vec![CleanupTarget::Packages]).await.unwrap();
    assert_eq!(machine.ran().len(), 1, "the cache of packages lies on the other one");
}

#[tokio::test]
async fn every_target_has_its_entry_and_its_own_error() {
    let machine = TestMachine::healthy(&[("/var/log/journal/m/system.journal", "x")])
        .fails("apt-get clean", 100, "E: Could not get lock /var/cache/apt/archives/lock\n")
        .prints("journalctl --rotate --vacuum-time=7d", "");
    let targets = vec![CleanupTarget::Packages, CleanupTarget::Logs, CleanupTarget::Temp, CleanupTarget::Logs];
    let data = clean(&machine.context(), Some("/".into()), targets).await.unwrap();
    assert_golden("DiskCleanup", &data);
    assert_eq!(machine.ran(), ["journalctl --rotate --vacuum-time=7d", "apt-get clean"]);
}

#[tokio::test]
async fn temporary_files_are_the_ones_in_tmp() {
    let machine = TestMachine::healthy(&[("/tmp/new", "x")]);
    let data = clean(&machine.context(), None, vec![CleanupTarget::Temp]).await.unwrap();
    assert_golden("CleanTemporaryFiles", &data);
    assert!(machine.path("/tmp/new").exists());
}

#[tokio::test]
async fn every_disk_is_trimmed() {
    let mounts = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /srv rw - ext4 /dev/sdb1 rw\n\
        3 1 8:3 / /data rw - ext4 /dev/sdc1 rw\n";
    let machine = TestMachine::healthy(&[("/proc/self/mountinfo", mounts)])
        .prints("fstrim -v /", "/: 1.2 GiB (1288490188 bytes) trimmed\n")
        .fails("fstrim -v /srv", 1, "fstrim: /srv: the discard operation is not supported\n")
        .fails("fstrim -v /data", 1, "fstrim: /data: FITRIM ioctl failed: Input/output error\n");
    assert_golden("AutoOptimizeDisk", &optimize_disks(&machine.context()).await.unwrap());
}
