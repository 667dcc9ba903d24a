//! What the policy decides: each sentence about it has a test.

mod raw;

use std::path::Path;

use super::*;
use crate::commands::action::Target;
use crate::commands::validation::{Pid, ServiceName};

fn permissions(section: &str) -> Permissions {
    let text = format!("[permissions]\n{section}");
    Permissions::from_toml(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn policy(section: &str) -> Policy {
    Policy::new(Asking::Holder, Some(permissions(section)))
}

/// `+ rule` where it may run, `- rule` where not.
fn said(decision: &Decision) -> String {
    match decision {
        Ok(permit) => format!("+ {}", permit.rule),
        Err(denial) => format!("- {}", denial.rule),
    }
}

/// What the policy says about a command in JSON. There are no processes.
fn ask(policy: &Policy, json: &str) -> String {
    let message = explain::parse(json).unwrap_or_else(|error| panic!("{error}: {json}"));
    let decisions = explain::decide(policy, &message, Path::new("/nowhere"));
    let decisions = decisions.unwrap_or_else(|error| panic!("{error}: {json}"));
    decisions.iter().map(|one| said(&one.decision)).collect::<Vec<_>>().join(", ")
}

fn check(policy: &Policy, table: &[(&str, &str)]) {
    for (json, expected) in table {
        assert_eq!(ask(policy, json), *expected, "{json} under {policy:#?}");
    }
}

const READ: &str = r#"{"action":"OsInfo"}"#;
const RESTART: &str = r#"{"action":"ServiceControl","service":"nginx","operation":"restart"}"#;
const INSTALL: &str = r#"{"action":"PackageInstall","package":"htop"}"#;
const POWERSHELL: &str =
    r#"{"action":"ExecutePowerShellScript","script":"id","script_type":"inline","run_as_admin":true}"#;
const RAW: &str = r#"{"raw_command":"/usr/bin/id"}"#;
const SCRIPT: &str = r#"{"type":"pending_scripts_response","scripts":[{"execution_id":"e","script_content":"id"}]}"#;

/// Everything is allowed that can be.
const WIDEST: &str = "reads = \"all\"\nchanges = \"all\"\nraw = \"all\"\n";

#[test]
fn without_a_secret_nothing_runs_whatever_the_section_says() {
    for section in [None, Some(permissions(WIDEST))] {
        let policy = Policy::new(&Trust::Locked, section);
        for json in [READ, RESTART, INSTALL, POWERSHELL, RAW, SCRIPT] {
            assert_eq!(ask(&policy, json), "- secret_file", "{json}");
        }
    }
}

#[test]
fn where_anybody_is_believed_only_reads_run_whatever_the_section_says() {
    for (section, read) in [(None, "+ default"), (Some(permissions(WIDEST)), "+ permissions.reads")] {
        let policy = Policy::new(&Trust::Everyone, section);
        check(&policy, &[(READ, read), (r#"{"action":"ServiceControl","service":"a","operation":"status"}"#, read)]);
        for json in [RESTART, INSTALL, POWERSHELL, RAW, SCRIPT] {
            assert_eq!(ask(&policy, json), "- auth = \"none\"", "{json}");
        }
        assert!(!policy.may_run_raw());
    }
}

#[test]
fn where_anybody_is_believed_the_section_may_still_take_reads_away() {
    let section = permissions("reads = [\"OsInfo\"]\n[[permissions.deny]]\naction = \"UserList\"\n");
    let policy = Policy::new(Asking::Anybody, Some(section));
    check(
        &policy,
        &[
            (READ, "+ permissions.reads"),
            (r#"{"action":"UserList"}"#, "- permissions.deny[0]"),
            (r#"{"action":"SystemInfo"}"#, "- default"),
        ],
    );
}

#[test]
fn a_secret_and_no_section_let_reads_run_and_nothing_else() {
    let policy = Policy::new(Asking::Holder, None);
    check(&policy, &[(READ, "+ default"), (r#"{"action":"ProcessList"}"#, "+ default")]);
    for json in [RESTART, INSTALL, POWERSHELL, RAW, SCRIPT] {
        assert_eq!(ask(&policy, json), "- default", "{json}");
    }
}

#[test]
fn what_no_rule_lists_is_denied() {
    let policy = policy("");
    for (json, rule) in [(READ, "default"), (RESTART, "default"), (INSTALL, "default"), (POWERSHELL, "permissions.raw")]
    {
        assert_eq!(ask(&policy, json), format!("- {rule}"), "{json}");
    }
    assert_eq!(ask(&policy, RAW), "- permissions.raw");
    assert_eq!(ask(&policy, SCRIPT), "- permissions.raw");
}

#[test]
fn lists_name_actions_of_their_own_kind() {
    let listed = policy("reads = [\"OsInfo\", \"Process*\"]\nchanges = [\"Package*\", \"OsInfo\"]\n");
    check(
        &listed,
        &[
            (READ, "+ permissions.reads"),
            (r#"{"action":"ProcessTop"}"#, "+ permissions.reads"),
            // `Process*` stands under reads.
            (r#"{"action":"ProcessKill","pid":7}"#, "- protected_processes"),
            (INSTALL, "+ permissions.changes"),
            // ... and `Package*` under changes.
            (r#"{"action":"PackageList"}"#, "- default"),
            (RESTART, "- default"),
        ],
    );
    check(&policy("changes = \"all\"\n"), &[(READ, "- default"), (RESTART, "+ permissions.changes")]);
    check(&policy("reads = \"all\"\n"), &[(READ, "+ permissions.reads"), (RESTART, "- default")]);
}

#[test]
fn the_state_of_a_service_is_a_read() {
    for json in [
        r#"{"action":"ServiceControl","service":"infiniservice","operation":"status"}"#,
        r#"{"type":"SafeCommand","command_type":{"action":"ServiceControl"},"params":{"service":"a","operation":"status"}}"#,
    ] {
        assert_eq!(ask(&policy("reads = \"all\"\n"), json), "+ permissions.reads", "{json}");
    }
}

#[test]
fn raw_in_the_clothes_of_an_action_is_raw_everywhere() {
    let listed = "reads = \"all\"\nchanges = [\"*\"]\n[[permissions.allow]]\naction = \"*\"\n";
    for section in [listed, "changes = \"all\"\n", "changes = [\"ExecutePowerShellScript\"]\n"] {
        assert_eq!(ask(&policy(section), POWERSHELL), "- permissions.raw", "{section}");
        let request = Request::Action { name: "ExecutePowerShellScript", kind: Kind::Raw, subjects: &[] };
        assert_eq!(said(&policy(section).decide(&request)), "- permissions.raw", "{section}");
        assert!(!policy(section).may_run_raw());
    }
    assert_eq!(ask(&policy("raw = \"all\"\n"), POWERSHELL), "+ permissions.raw");
    assert!(policy("raw = \"all\"\n").may_run_raw());
}

#[test]
fn all_changes_do_not_include_raw_ones_and_all_raw_ones_no_changes() {
    for json in [RAW, SCRIPT, POWERSHELL] {
        assert_eq!(ask(&policy("reads = \"all\"\nchanges = \"all\"\n"), json), "- permissions.raw", "{json}");
        assert_eq!(ask(&policy("raw = \"all\"\n"), json), "+ permissions.raw", "{json}");
    }
    assert_eq!(ask(&policy("raw = \"all\"\n"), RESTART), "- default");
}

#[test]
fn a_rule_allows_by_action_service_package_and_user() {
    let policy = policy(
        r#"
        [[permissions.allow]]
        name = "web"
        action = "ServiceControl"
        service = ["nginx", "php*-fpm"]
        [[permissions.allow]]
        package = "htop"
        [[permissions.allow]]
        action = ["UserList", "Reboot*"]
        [[permissions.allow]]
        service = "*"
        action = "RestartServices"
        "#,
    );
    check(
        &policy,
        &[
            (RESTART, "+ permissions.allow[0] \"web\""),
            (
                r#"{"action":"ServiceControl","service":"nginx.service","operation":"stop"}"#,
                "+ permissions.allow[0] \"web\"",
            ),
            (
                r#"{"action":"ServiceControl","service":"php8.2-fpm","operation":"stop"}"#,
                "+ permissions.allow[0] \"web\"",
            ),
            (r#"{"action":"ServiceControl","service":"nginx2","operation":"stop"}"#, "- default"),
            (r#"{"action":"ServiceControl","service":"nginx-other","operation":"stop"}"#, "- default"),
            (INSTALL, "+ permissions.allow[1]"),
            (r#"{"action":"PackageRemove","package":"htop"}"#, "+ permissions.allow[1]"),
            (r#"{"action":"PackageRemove","package":"htop:i386"}"#, "- default"),
            (r#"{"action":"PackageInstall","package":"htop2"}"#, "- default"),
            // What is not known yet might be another package.
            (r#"{"action":"UpdateSystemSoftware"}"#, "- default"),
            (r#"{"action":"UpdateSystemSoftware","package":"htop"}"#, "+ permissions.allow[1]"),
            (r#"{"action":"UserList"}"#, "+ permissions.allow[2]"),
            (r#"{"action":"RebootSystem"}"#, "+ permissions.allow[2]"),
            (r#"{"action":"RestartServices"}"#, "+ permissions.allow[3]"),
            (r#"{"action":"RestartServices","service_name":"x"}"#, "+ permissions.allow[3]"),
            (READ, "- default"),
        ],
    );
}

#[test]
fn a_ban_on_a_user_counts_for_those_who_run_commands() {
    let not_root = policy(&format!("{WIDEST}[[permissions.deny]]\nuser = \"root\"\n"));
    check(
        &not_root,
        &[
            // Who names nobody runs it as the agent: root.
            (RAW, "- permissions.deny[0]"),
            (SCRIPT, "- permissions.deny[0]"),
            (r#"{"raw_command":"id","run_as":"root"}"#, "- permissions.deny[0]"),
            (r#"{"raw_command":"id","run_as":"nobody"}"#, "+ permissions.raw"),
            (RESTART, "+ permissions.changes"),
        ],
    );
}

#[test]
fn a_task_of_maintenance_acts_on_what_it_restarts_and_repairs() {
    let task = |of: &str, name: &str| {
        format!(
            r#"{{"action":"RunMaintenanceTask","task_type":"{of}","task_name":"{name}","validate_before":false,"validate_after":false}}"#
        )
    };
    let (restart, sync, fix, trim) =
        (task("services", "restart-failed"), task("time", "sync"), task("packages", "fix"), task("disk", "fstrim"));
    let clock = policy(&format!("{WIDEST}protected_services = \"systemd-timesyncd\"\n"));
    check(&clock, &[(&sync, "- protected_services"), (&restart, "+ permissions.changes")]);
    let ban = policy(&format!("{WIDEST}[[permissions.deny]]\nservice = \"ntpd\"\n"));
    let denied = "- permissions.deny[0]";
    check(&ban, &[(&sync, denied), (&restart, denied), (&fix, "+ permissions.changes")]);
    let ban = policy(&format!("{WIDEST}[[permissions.deny]]\npackage = \"libc6\"\n"));
    check(&ban, &[(&fix, denied), (&sync, "+ permissions.changes"), (&trim, "+ permissions.changes")]);
}

#[test]
fn a_ban_wins_over_everything() {
    let policy = policy(&format!(
        "{WIDEST}{}",
        r#"
        [[permissions.allow]]
        service = "dbus"
        [[permissions.deny]]
        name = "no-dbus"
        service = "dbus*"
        [[permissions.deny]]
        action = "UserList"
        [[permissions.deny]]
        package = ["linux-image-*", "libc6"]
        [[permissions.deny]]
        action = "UnsafeCommand"
        "#
    ));
    let dbus = "- permissions.deny[0] \"no-dbus\"";
    check(
        &policy,
        &[
            (r#"{"action":"ServiceControl","service":"dbus","operation":"stop"}"#, dbus),
            (r#"{"action":"ServiceControl","service":"dbus.service","operation":"start"}"#, dbus),
            (r#"{"action":"ServiceControl","service":"dbus","operation":"status"}"#, dbus),
            (r#"{"action":"RestartServices","service_name":"dbus-broker"}"#, dbus),
            // It might find that one.
            (r#"{"action":"RestartServices"}"#, dbus),
            (RESTART, "+ permissions.changes"),
            (r#"{"action":"UserList"}"#, "- permissions.deny[1]"),
            (r#"{"action":"PackageRemove","package":"libc6"}"#, "- permissions.deny[2]"),
            (r#"{"action":"PackageRemove","package":"libc6:amd64"}"#, "- permissions.deny[2]"),
            (r#"{"action":"PackageUpdate","package":"linux-image-6.1.0"}"#, "- permissions.deny[2]"),
            (r#"{"action":"UpdateSystemSoftware"}"#, "- permissions.deny[2]"),
            (INSTALL, "+ permissions.changes"),
            (RAW, "- permissions.deny[3]"),
            (SCRIPT, "+ permissions.raw"),
        ],
    );
}

#[test]
fn a_ban_on_one_name_of_a_service_is_one_on_all() {
    let policy =
        policy("changes = \"all\"\nprotected_services = [\"web\"]\n[[permissions.deny]]\nservice = \"dbus\"\n");
    let on = |name: &str, also: &[&str]| {
        let name = ServiceName::try_from(name.to_owned()).unwrap();
        let also = also.iter().map(|&name| name.to_owned()).collect();
        let subjects = [Subject::Service { name, also }];
        said(&policy.decide(&Request::Action { name: "ServiceControl", kind: Kind::Change, subjects: &subjects }))
    };
    assert_eq!(on("dbus-broker", &["dbus.service"]), "- permissions.deny[0]");
    assert_eq!(on("nginx", &["web.service"]), "- protected_services");
    assert_eq!(on("alias", &["infiniservice.service"]), "- protected_services");
    assert_eq!(on("alias", &["x.service"]), "+ permissions.changes");
}

#[test]
fn one_of_several_is_enough_to_deny_and_all_are_needed_to_allow() {
    let services = |names: &[&str]| {
        let target = |&name: &&str| Target::Service(ServiceName::try_from(name.to_owned()).unwrap());
        names.iter().map(target).map(|target| Subject::from_target(target, |_| None)).collect::<Vec<_>>()
    };
    let decide = |policy: &Policy, names: &[&str]| {
        let subjects = services(names);
        said(&policy.decide(&Request::Action { name: "RestartServices", kind: Kind::Change, subjects: &subjects }))
    };
    let allowing = policy("[[permissions.allow]]\nservice = [\"a\", \"b\"]\n");
    assert_eq!(decide(&allowing, &["a", "b"]), "+ permissions.allow[0]");
    assert_eq!(decide(&allowing, &["a", "c"]), "- default");
    assert_eq!(decide(&allowing, &[]), "- default");
    let denying = policy("changes = \"all\"\n[[permissions.deny]]\nservice = \"c\"\n");
    assert_eq!(decide(&denying, &["a", "c"]), "- permissions.deny[0]");
    assert_eq!(decide(&denying, &["a", "b"]), "+ permissions.changes");
}

#[test]
fn the_agents_service_and_named_ones_are_protected_against_changes() {
    let policy = policy(&format!("{WIDEST}protected_services = [\"ssh*\", \"dbus.service\"]\n"));
    let changing = "infiniservice-packages-12345";
    for service in ["infiniservice", "infiniservice.service", changing, "ssh", "sshd.service", "dbus", "dbus.service"] {
        for operation in ["start", "stop", "restart", "enable", "disable"] {
            let json = format!(r#"{{"action":"ServiceControl","service":"{service}","operation":"{operation}"}}"#);
            assert_eq!(ask(&policy, &json), "- protected_services", "{json}");
        }
        let json = format!(r#"{{"action":"RestartServices","service_name":"{service}"}}"#);
        assert_eq!(ask(&policy, &json), "- protected_services", "{json}");
        let json = format!(r#"{{"action":"ServiceControl","service":"{service}","operation":"status"}}"#);
        assert_eq!(ask(&policy, &json), "+ permissions.reads", "{json}");
    }
    check(&policy, &[(RESTART, "+ permissions.changes")]);
    // The agent may replace itself.
    let upgrade = r#"{"action":"PackageUpdate","package":"infiniservice"}"#;
    assert_eq!(ask(&policy, upgrade), "+ permissions.changes");
}

#[test]
fn the_agents_package_and_named_ones_cannot_be_removed() {
    let policy = policy(&format!("{WIDEST}protected_packages = [\"linux-image-*\", \"sudo\"]\n"));
    for package in ["infiniservice", "infiniservice:amd64", "sudo", "sudo:arm64", "linux-image-6.1.0-1-amd64"] {
        let about = |action: &str| ask(&policy, &format!(r#"{{"action":"{action}","package":"{package}"}}"#));
        assert_eq!(about("PackageRemove"), "- protected_packages", "{package}");
        for action in ["PackageInstall", "PackageUpdate", "UpdateSystemSoftware"] {
            assert_eq!(about(action), "+ permissions.changes", "{action} {package}");
        }
    }
    let sudoers = r#"{"action":"PackageRemove","package":"sudo-ldap"}"#;
    assert_eq!(ask(&policy, sudoers), "+ permissions.changes");
}

#[test]
fn an_allow_rule_does_not_lift_protection() {
    let policy = policy(
        "[[permissions.allow]]\nservice = \"*\"\n[[permissions.allow]]\naction = \"ProcessKill\"\n\
         [[permissions.allow]]\npackage = \"*\"\n",
    );
    for json in [
        r#"{"action":"ServiceControl","service":"infiniservice","operation":"stop"}"#,
        r#"{"action":"ProcessKill","pid":1}"#,
        r#"{"action":"PackageRemove","package":"infiniservice"}"#,
    ] {
        assert!(ask(&policy, json).starts_with("- protected_"), "{json}");
    }
}

#[test]
fn the_first_process_the_agent_the_kernel_and_named_processes_are_protected() {
    let policy = policy("changes = \"all\"\nprotected_processes = [\"postgres*\", \"systemd-journald\"]\n");
    let ordinary =
        || ProcessFacts { name: "sleep".to_owned(), program: Some("sleep".to_owned()), ..Default::default() };
    let program = |program: &str| ProcessFacts { program: Some(program.to_owned()), ..ordinary() };
    for (pid, facts, expected) in [
        (70, Some(ordinary()), "+ permissions.changes"),
        (70, Some(ProcessFacts { program: None, ..ordinary() }), "+ permissions.changes"),
        (1, Some(ordinary()), "- protected_processes"),
        (1, None, "- protected_processes"),
        (70, None, "- protected_processes"),
        (70, Some(ProcessFacts { is_kernel_thread: true, ..ordinary() }), "- protected_processes"),
        (70, Some(ProcessFacts { is_agent: true, ..ordinary() }), "- protected_processes"),
        (70, Some(ProcessFacts { name: "postgres: writer".to_owned(), ..ordinary() }), "- protected_processes"),
        // The kernel's name for it ends after 15 bytes, and the process may choose it.
        (70, Some(program("systemd-journald")), "- protected_processes"),
        (70, Some(program("systemd-journal")), "+ permissions.changes"),
    ] {
        let subjects = [Subject::Process { pid: Pid::try_from(pid).unwrap(), facts: facts.clone() }];
        let decision = policy.decide(&Request::Action { name: "ProcessKill", kind: Kind::Change, subjects: &subjects });
        assert_eq!(said(&decision), expected, "{pid} {facts:?}: {decision:?}");
    }
}

#[test]
fn a_refusal_is_permission_denied_with_the_rules_name() {
    let policy = policy("changes = \"all\"\n[[permissions.deny]]\nname = \"no-dbus\"\nservice = \"dbus\"\n");
    let subjects = [Subject::from_target(Target::Service(ServiceName::try_from("dbus".to_owned()).unwrap()), |_| None)];
    let denial = policy.decide(&Request::Action { name: "ServiceControl", kind: Kind::Change, subjects: &subjects });
    let error = CommandError::from(denial.unwrap_err());
    assert_eq!(error.code, ErrorCode::PermissionDenied);
    assert!(error.sentence.contains("permissions.deny[0] \"no-dbus\""), "{error}");
}
