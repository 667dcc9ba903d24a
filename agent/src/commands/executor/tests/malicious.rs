//! Parameters that would make a program do something else, on the way that a host's commands take: none of them starts one.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::commands::test_machine::TestMachine;
use crate::commands::validation::tests::malicious::*;

/// Makes the message with a parameter in it.
type Message = fn(&str) -> Value;

/// What is tried with a parameter, beside what none may hold.
type Malicious = &'static [(Layer, &'static str)];

/// Every parameter whose text the host chooses: a legal one, malicious ones, and the message.
const PARAMETERS: &[(&str, Malicious, Message)] = &[
    ("nginx", SERVICES, |text| json!({ "action": "ServiceControl", "service": text, "operation": "restart" })),
    ("nginx", SERVICES, |text| json!({ "action": "ServiceControl", "service": text, "operation": "status" })),
    ("nginx", SERVICES, |text| json!({ "action": "RestartServices", "service_name": text })),
    ("htop", PACKAGES, |text| json!({ "action": "PackageInstall", "package": text })),
    ("htop", PACKAGES, |text| json!({ "action": "PackageRemove", "package": text })),
    ("htop", PACKAGES, |text| json!({ "action": "PackageUpdate", "package": text })),
    ("htop", PACKAGES, |text| json!({ "action": "UpdateSystemSoftware", "package": text })),
    ("editor", QUERIES, |text| json!({ "action": "PackageSearch", "query": text })),
    ("example.org", DOMAINS, |text| join("domain", text)),
    ("ada", PRINCIPALS, |text| join("username", text)),
    ("OU=Servers,DC=example,DC=org", UNITS, |text| join("ou", text)),
    ("web-01", COMPUTERS, |text| join("computer_name", text)),
    ("/home", MOUNT_POINTS, |text| json!({ "action": "DiskCleanup", "drive": text, "targets": ["temp"] })),
    ("temp", &[], |text| json!({ "action": "DiskCleanup", "drive": "/", "targets": [text] })),
    ("/srv", MOUNT_POINTS, |text| powershell(json!({ "working_directory": text }))),
    ("/srv/x.ps1", MOUNT_POINTS, |text| powershell(json!({ "script_type": "file", "script": text }))),
    ("LANG", VARIABLES, |text| powershell(json!({ "environment_vars": { text: "x" } }))),
    ("disk", &[], |text| json!({ "action": "RunHealthCheck", "check_name": text })),
    ("LANG", VARIABLES, |text| json!({ "raw_command": "id", "env_vars": { text: "x" } })),
    ("nobody", USERS, |text| json!({ "raw_command": "id", "run_as": text })),
];

fn join(field: &str, text: &str) -> Value {
    let mut fields = json!({ "action": "JoinDomain", "domain": "example.org", "username": "ada", "password": "secret",
                             "restart_after": false });
    fields[field] = text.into();
    fields
}

fn powershell(more: Value) -> Value {
    let mut fields = json!({ "action": "ExecutePowerShellScript", "script": "Get-Date", "script_type": "inline",
                             "run_as_admin": true });
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    fields
}

/// As a host sends it.
fn message(id: usize, fields: Value) -> Value {
    let id = id.to_string();
    if fields.get("action").is_some() {
        return json!({ "type": "SafeCommand", "id": id, "command_type": fields });
    }
    let mut raw = json!({ "type": "UnsafeCommand", "id": id });
    raw.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    raw
}

/// A machine on which everything may run, and an executor that takes commands for it.
fn bench() -> (Bench, TestMachine) {
    let programs = ["/usr/bin/apt-get", "/usr/bin/pwsh", "/usr/sbin/realm", "/run/systemd/system/x"];
    let machine = TestMachine::healthy(&programs.map(|path| (path, "")));
    let mut bench = Bench::new(Some("[permissions]\nreads = \"all\"\nchanges = \"all\"\nraw = \"all\"\n"));
    bench.executor.context.roots = machine.context().roots;
    (bench, machine)
}

#[tokio::test(start_paused = true)]
async fn a_malicious_parameter_is_answered_and_starts_no_program() {
    let (mut bench, _machine) = bench();
    let (mut tried, mut texts) = (0, BTreeSet::new());
    for (legal, own, fields) in PARAMETERS {
        let own = own.iter().filter(|(layer, _)| *layer == Layer::Type).map(|(_, text)| *text);
        for text in own.chain(NEVER) {
            tried += 1;
            texts.insert(text);
            let command = message(tried, fields(text));
            let answer = bench.take(command.clone()).unwrap_or_else(|| panic!("{command} was taken"));
            assert_eq!((answer.success, answer.error_code), (false, Some(ErrorCode::InvalidParameters)), "{command}");
            assert_eq!(answer.id, tried.to_string());
        }
        // What else is in the message is legal: it was refused for its parameter.
        let command = message(0, fields(legal));
        assert_eq!(self::bench().0.take(command.clone()), None, "{command}");
    }
    println!("{tried} commands with {} malicious parameters", texts.len());
    assert!(texts.len() >= 150 && tried >= 1000, "{tried} commands, {} parameters", texts.len());
    assert_eq!(bench.started().await, [""; 0]);
    assert!(bench.executor.is_idle());
}
