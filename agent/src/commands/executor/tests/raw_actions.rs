//! Actions that are raw commands in a safe one's clothes.

use serde_json::{Value, json};

use super::*;
use crate::commands::policy::explain;
use crate::commands::test_machine::TestMachine;
use crate::commands::testing::assert_golden;

const SCRIPT: &str = "echo hello";

/// Of [`SCRIPT`].
const RULES: &str = "[permissions]\nraw = \"rules\"\n[[permissions.script_rule]]\nname = \"hello\"\nshell = \"powershell\"\n\
                     sha256 = [\"584a331fd6b02dcb1ecbe2eba731f609a2e1e3dac0bb73ae998dfad14c309a77\"]\n";

fn bench(permissions: &str) -> (Bench, TestMachine) {
    let machine = TestMachine::new(&[("/usr/bin/pwsh", "")]);
    let mut bench = Bench::new(Some(permissions));
    bench.executor.context.roots = machine.context().roots;
    (bench, machine)
}

fn powershell(more: Value) -> Value {
    let mut fields =
        json!({ "action": "ExecutePowerShellScript", "script": SCRIPT, "script_type": "inline", "run_as_admin": true });
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "type": "SafeCommand", "id": "1", "command_type": fields })
}

#[tokio::test(start_paused = true)]
async fn a_powershell_script_runs_and_answers_as_a_raw_command() {
    let (mut bench, _machine) = bench("[permissions]\nraw = \"all\"\n");
    assert_eq!(bench.take(powershell(json!({}))), None);
    let answer = response(bench.next().await);
    assert_eq!((answer.success, answer.stdout.as_str()), (true, SCRIPT));
    assert_eq!(answer.command_type, "ExecutePowerShellScript");
    assert_golden("ExecutePowerShellScript", &answer.data.unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_shorter_of_its_two_times_counts() {
    let (mut bench, _machine) = bench("[permissions]\nraw = \"all\"\n");
    for (timeout, timeout_seconds, ends_at) in
        [(json!(null), json!(2), 1800), (json!(60), json!(2), 1800), (json!(2), json!(60), 1800)]
    {
        let mut command = powershell(json!({ "script": "hang", "timeout_seconds": timeout_seconds }));
        command["timeout"] = timeout.clone();
        command["id"] = format!("{timeout} {timeout_seconds}").into();
        assert_eq!(bench.take(command), None);
        let answer = response(bench.next().await);
        assert_eq!(answer.error_code, Some(ErrorCode::CommandTimeout), "{answer:?}");
        assert_eq!(answer.execution_time_ms, ends_at, "{timeout} {timeout_seconds}");
    }
    for illegal in [json!(0), json!(-1), json!(1.5), json!("9")] {
        let answer = bench.take(powershell(json!({ "timeout_seconds": illegal })));
        assert_eq!(answer.unwrap().error_code, Some(ErrorCode::InvalidParameters), "{illegal}");
    }
}

/// What the policy says beforehand is what happens.
#[tokio::test(start_paused = true)]
async fn it_is_explained_as_it_is_judged() {
    for (permissions, more, is_allowed) in [
        ("[permissions]\nreads = \"all\"\nchanges = \"all\"\n", json!({}), false),
        ("[permissions]\nraw = \"all\"\n", json!({ "script": "/srv/x.ps1", "script_type": "file" }), true),
        (RULES, json!({}), true),
        (RULES, json!({ "environment_vars": {} }), true),
        (RULES, json!({ "environment_vars": { "A": "b" } }), false),
        (RULES, json!({ "script": "echo hello " }), false),
        (RULES, json!({ "script": "/srv/x.ps1", "script_type": "file" }), false),
        (RULES, json!({ "working_directory": "/srv" }), false),
        (RULES, json!({ "run_as_admin": false }), false),
    ] {
        let (mut bench, machine) = bench(permissions);
        let command = powershell(more.clone());
        let message = HostMessage::parse(command.to_string().as_bytes()).unwrap();
        let explained = explain::decide(&bench.executor.policy, &message, &machine.path("/proc")).unwrap();
        assert_eq!(explained[0].decision.is_ok(), is_allowed, "{more}: {}", explained[0]);
        let refused = bench.take(command).map(|answer| answer.error_code);
        assert_eq!(refused, (!is_allowed).then_some(Some(ErrorCode::PermissionDenied)), "{more}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_audit_has_it_as_raw_with_its_text() {
    let (mut bench, _machine) = bench("[permissions]\nraw = \"all\"\n");
    bench.take(powershell(json!({ "environment_vars": { "DB_PASSWORD": "canary" } })));
    bench.next().await;
    bench.executor.close();
    let events = bench.audit();
    let [received, ended] = events.as_slice() else { panic!("{events:#?}") };
    assert_eq!((&received["kind"], &received["action"]), (&json!("raw"), &json!("ExecutePowerShellScript")));
    assert_eq!(received["text"]["head"], SCRIPT);
    assert_eq!(received["parameters"].get("script"), None, "{received:#}");
    assert_eq!((&ended["event"], &ended["kind"]), (&json!("ended"), &json!("raw")));
    assert!(!received.to_string().contains("canary"), "{received:#}");
}

#[tokio::test(start_paused = true)]
async fn a_machine_without_powershell_cannot() {
    let (mut bench, machine) = bench("[permissions]\nraw = \"all\"\n");
    std::fs::remove_file(machine.path("/usr/bin/pwsh")).unwrap();
    bench.take(powershell(json!({})));
    assert_eq!(response(bench.next().await).error_code, Some(ErrorCode::UnsupportedPlatform));
    assert!(bench.started().await.is_empty());
}
