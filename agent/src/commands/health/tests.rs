use infini_protocol::host::Action as Fields;
use serde_json::json;

use super::*;
use crate::collector::linux::Space;
use crate::commands::test_machine::{FakeBus, TestMachine};
use crate::commands::testing::assert_golden;

fn command(action: &str, fields: Value) -> SafeCommand {
    let Value::Object(fields) = fields else { panic!("fields are an object") };
    let command_type = Fields { action: action.to_owned(), fields };
    SafeCommand { id: "1".to_owned(), command_type, params: None, timeout: None }
}

async fn finding(machine: &TestMachine, bus: &FakeBus, name: CheckName) -> Finding {
    check(&machine.context(), bus, &[name]).await.checks.remove(0).finding
}

#[test]
fn an_unknown_check_is_refused_with_the_names_of_the_others() {
    for (parse, fields) in [
        (one as crate::commands::action::Parse, json!({ "check_name": "disks" })),
        (validate, json!({ "check_name": "Disk" })),
    ] {
        let Err(error) = parse(&command("RunHealthCheck", fields)) else { panic!("it is legal") };
        assert_eq!(error.code, ErrorCode::InvalidParameters);
        assert!(error.sentence.contains("disk, memory, load"), "{error}");
    }
    assert!(one(&command("RunHealthCheck", json!({}))).is_err(), "it needs a name");
    assert!(one(&command("RunHealthCheck", json!({ "check_name": "package_integrity" }))).is_ok());
    assert!(validate(&command("ValidateSystemHealth", json!({ "check_name": null }))).is_ok());
}

#[tokio::test]
async fn a_machine_in_good_order_is_healthy() {
    let machine = TestMachine::healthy(&[]);
    let health = check(&machine.context(), &FakeBus::systemd(), &CheckName::ALL).await;
    assert_golden("RunAllHealthChecks", &value(&health).unwrap());
}

#[tokio::test]
async fn a_sick_machine_says_where_it_hurts() {
    let machine = TestMachine::healthy(&[
        (
            "/proc/meminfo",
            "MemTotal: 1000000 kB\nMemFree: 10000 kB\nMemAvailable: 30000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
        ),
        ("/proc/loadavg", "9.00 5.00 3.00 1/200 4242\n"),
        ("/proc/vmstat", "oom_kill 3\n"),
        ("/run/reboot-required", ""),
        ("/run/reboot-required.pkgs", "linux-image-6.1.0-30-amd64\n"),
        ("/boot/vmlinuz-6.1.0-30-amd64", ""),
        ("/proc/self/mountinfo", "1 0 8:1 / / ro,relatime - ext4 /dev/sda1 ro\n"),
    ])
    .with_space(Space { total: 100 << 30, free: 15 << 30, available: 15 << 30, inodes: 100, inodes_free: 2 });
    let bus = FakeBus { failed: vec!["nginx.service".to_owned()], is_synchronized: false, ..FakeBus::systemd() };
    let health = check(&machine.context(), &bus, &CheckName::ALL).await;
    assert_golden("ValidateSystemHealth", &value(&health).unwrap());
}

#[tokio::test]
async fn what_cannot_be_checked_is_never_healthy() {
    let machine = TestMachine::new(&[]);
    let health = check(&machine.context(), &FakeBus::default(), &CheckName::ALL).await;
    assert_eq!(health.overall_health, Status::Warning);
    for check in health.checks.iter().filter(|check| check.name != CheckName::PendingReboot) {
        assert_eq!(check.finding.status, Status::Unknown, "{check:?}");
        assert!(!check.finding.message.is_empty(), "{check:?}");
    }
}

#[tokio::test]
async fn openrc_names_its_crashed_services() {
    let machine = TestMachine::new(&[]).program("rc-status --nocolor --crashed", 0, " nginx     [  crashed  ]\n", "");
    let found = finding(&machine, &FakeBus::default(), CheckName::FailedUnits).await;
    assert_eq!((found.status, found.details), (Status::Warning, Some(json!({ "units": ["nginx"] }))));

    let machine = TestMachine::new(&[]).fails("rc-status --nocolor --crashed", 1, "");
    assert_eq!(finding(&machine, &FakeBus::default(), CheckName::FailedUnits).await.status, Status::Healthy);
}

#[tokio::test]
async fn chrony_answers_where_systemd_does_not() {
    for (leap, expected) in [("Normal", Status::Healthy), ("Not synchronised", Status::Warning)] {
        let text = format!("Reference ID    : 00000000 ()\nLeap status     : {leap}\n");
        let machine = TestMachine::new(&[]).prints("chronyc -n tracking", &text);
        let found = finding(&machine, &FakeBus::default(), CheckName::TimeSync).await;
        assert_eq!(found.status, expected, "{found:?}");
    }
}

#[tokio::test]
async fn one_check_is_a_list_of_one() {
    let machine = TestMachine::healthy(&[]);
    let health = check(&machine.context(), &FakeBus::systemd(), &[CheckName::OomKills]).await;
    assert_golden("RunHealthCheck", &value(&health).unwrap());
}

#[tokio::test]
async fn integrity_is_packages_file_systems_and_units() {
    let machine = TestMachine::healthy(&[("/var/lib/dpkg/info/bash.list", "")]);
    let machine = machine.program("dpkg --verify -- bash", 1, "??5??????   /bin/bash\n", "");
    let health = check(&machine.context(), &FakeBus::systemd(), &CheckName::INTEGRITY).await;
    assert_golden("CheckSystemIntegrity", &value(&health).unwrap());
}
