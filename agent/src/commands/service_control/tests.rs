use std::sync::Arc;

use infini_protocol::metrics::ServiceStatus;
use serde_json::{from_value, json};

use super::fake::{FakeServices, service_info};
use super::*;
use crate::commands::action::Parse;
use crate::commands::stop::{StopOrder, StopReason};
use crate::commands::testing::{FakePrograms, assert_golden, context};

fn command(fields: Value) -> SafeCommand {
    from_value(fields).unwrap()
}

fn action(parse: Parse, fields: Value) -> Result<Box<dyn Action>, CommandError> {
    let mut fields = fields;
    fields["action"] = json!("X");
    parse(&command(json!({ "id": "1", "command_type": fields })))
}

fn machine() -> (StopOrder, Arc<FakeServices>, Context) {
    let manager = Arc::new(FakeServices::default());
    let (order, context) = context(Arc::new(FakePrograms::default()), Arc::clone(&manager) as Arc<dyn ServiceManager>);
    (order, manager, context)
}

async fn run(parse: Parse, fields: Value) -> (Outcome, Vec<String>) {
    let (_order, manager, context) = machine();
    let outcome = action(parse, fields).unwrap().run(context).await;
    (outcome, manager.changes())
}

fn code(outcome: &Outcome) -> Option<ErrorCode> {
    outcome.error.as_ref().map(|error| error.code)
}

#[tokio::test]
async fn services_are_listed_with_what_needs_attention_first() {
    let (outcome, changes) = run(list, json!({})).await;
    assert_eq!((code(&outcome), changes.len(), outcome.truncated), (None, 0, false));
    assert_golden("ServiceList", &outcome.data.unwrap());
}

#[test]
fn a_list_has_its_bound() {
    let services = |count: usize| vec![service_info("a", ServiceStatus::Running, None); count];
    for (count, kept, truncated) in [(1000, 1000, false), (1001, 1000, true)] {
        let outcome = listed(services(count));
        assert_eq!((outcome.data.unwrap().as_array().unwrap().len(), outcome.truncated), (kept, truncated));
    }
}

#[tokio::test]
async fn a_change_tells_of_the_service_afterwards() {
    let (outcome, changes) = run(control, json!({ "service": "ssh.service", "operation": "restart" })).await;
    assert_eq!((code(&outcome), outcome.exit_code, changes), (None, 0, vec!["restart ssh".to_owned()]));
    assert_golden("ServiceControl", &outcome.data.unwrap());
}

#[tokio::test]
async fn a_failed_change_tells_why_and_what_has_become_of_the_service() {
    let (outcome, _) = run(control, json!({ "service": "db", "operation": "start" })).await;
    assert_eq!((code(&outcome), outcome.exit_code), (Some(ErrorCode::CommandFailed), 1));
    assert_eq!(outcome.stderr, "db[9]: no space left");
    assert_eq!(outcome.data.unwrap()["status"], "failed");

    let (outcome, _) = run(control, json!({ "service": "nothing", "operation": "start" })).await;
    assert_eq!((code(&outcome), outcome.data), (Some(ErrorCode::ServiceNotFound), None));
}

#[tokio::test]
async fn status_is_a_read_and_changes_nothing() {
    let status = action(control, json!({ "service": "ssh", "operation": "status" })).unwrap();
    assert_eq!(status.kind(), Some(Kind::Read));
    assert_eq!(status.targets(), [Target::Service(ServiceName::try_from("ssh".to_owned()).unwrap())]);
    let start = action(control, json!({ "service": "ssh", "operation": "start" })).unwrap();
    assert_eq!(start.kind(), None, "as its row says");
    let (outcome, changes) = run(control, json!({ "service": "ssh", "operation": "status" })).await;
    assert_eq!((outcome.data.unwrap()["pid"].as_u64(), changes.len()), (Some(612), 0));
}

#[test]
fn older_hosts_put_the_fields_into_params() {
    let parse = |command_type: Value, params: Value| {
        control(&command(json!({ "id": "1", "command_type": command_type, "params": params })))
            .map(|action| action.targets())
            .map_err(|error| error.code)
    };
    let target = |name: &str| Ok(vec![Target::Service(ServiceName::try_from(name.to_owned()).unwrap())]);
    let both = json!({ "service": "web", "operation": "start" });
    assert_eq!(parse(json!({ "action": "ServiceControl" }), both.clone()), target("web"));
    assert_eq!(parse(json!({ "action": "ServiceControl", "service": "ssh" }), both.clone()), target("ssh"));
    assert_eq!(parse(json!({ "action": "ServiceControl", "service": null }), both), target("web"));
    for params in [json!(null), json!("web start"), json!(["web", "start"]), json!({ "service": "web" })] {
        let refused = parse(json!({ "action": "ServiceControl" }), params.clone());
        assert_eq!(refused, Err(ErrorCode::InvalidParameters), "{params}");
    }
}

#[test]
fn illegal_fields_are_refused_before_anything_is_asked() {
    for fields in [
        json!({ "service": "ssh", "operation": "reload" }),
        json!({ "service": "ssh", "operation": "Start" }),
        json!({ "service": "ssh", "operation": ["start"] }),
        json!({ "service": "--root=/", "operation": "start" }),
        json!({ "service": "ssh;reboot", "operation": "start" }),
        json!({ "service": "reboot.target", "operation": "start" }),
        json!({ "operation": "start" }),
    ] {
        let refused = action(control, fields.clone()).err().map(|error| error.code);
        assert_eq!(refused, Some(ErrorCode::InvalidParameters), "{fields}");
    }
    assert!(action(restart, json!({ "service_name": "a b" })).is_err());
}

#[tokio::test]
async fn failed_services_are_restarted_one_after_another() {
    let (outcome, changes) = run(restart, json!({})).await;
    assert_eq!(changes, ["restart web", "restart db"]);
    let error = outcome.error.unwrap();
    assert_eq!(error.sentence, "1 of 2 services could not be restarted; `failed` says why");
    assert_eq!((error.code, outcome.stderr.as_str()), (ErrorCode::CommandFailed, "db:\ndb[9]: no space left\n"));
    assert_golden("RestartServices", &outcome.data.unwrap());
}

#[tokio::test]
async fn a_failed_service_that_is_protected_stays_and_is_told() {
    for (failed, expected) in [
        (&["web", "infiniservice"][..], (ErrorCode::CommandFailed, vec!["restart web"])),
        (&["infiniservice"], (ErrorCode::PermissionDenied, vec![])),
    ] {
        let manager = Arc::new(FakeServices::with_failed(failed));
        let (_order, context) = context(Arc::new(FakePrograms::default()), Arc::clone(&manager) as _);
        let outcome = action(restart, json!({})).unwrap().run(context).await;
        assert_eq!(
            (code(&outcome), manager.changes()),
            (Some(expected.0), expected.1.iter().map(|&it| it.into()).collect())
        );
        let told = &outcome.data.unwrap()["failed"];
        assert_eq!((told.as_array().unwrap().len(), &told[0]["name"]), (1, &json!("infiniservice")), "{told}");
        assert!(told[0]["error"].as_str().unwrap().contains("protected_services"), "{told}");
    }
}

#[tokio::test]
async fn one_service_is_restarted_by_its_name() {
    let (outcome, changes) = run(restart, json!({ "service_name": "ssh" })).await;
    assert_eq!((code(&outcome), changes), (None, vec!["restart ssh".to_owned()]));
    assert_eq!(outcome.data.unwrap(), json!({ "restarted": ["ssh"], "failed": [] }));

    let (outcome, _) = run(restart, json!({ "service_name": "db" })).await;
    assert_eq!(outcome.error.unwrap().sentence, "cannot restart db: its job failed");
    let (outcome, _) = run(restart, json!({ "service_name": "nothing" })).await;
    assert_eq!((code(&outcome), outcome.data), (Some(ErrorCode::ServiceNotFound), None));
}

#[tokio::test(start_paused = true)]
async fn a_change_ends_with_its_time_or_its_order() {
    let slow = || action(control, json!({ "service": "slow", "operation": "start" })).unwrap();
    let (_order, _, context) = machine();
    let outcome = slow().run(context).await;
    assert_eq!(code(&outcome), Some(ErrorCode::CommandTimeout));
    let sentence = outcome.error.unwrap().sentence;
    assert!(sentence.contains("may still be completed"), "the job goes on in the manager: {sentence}");

    let (order, _, context) = machine();
    order.give(StopReason::Cancelled);
    assert_eq!(code(&slow().run(context).await), Some(ErrorCode::CommandCancelled));
    let (order, _, context) = machine();
    order.give(StopReason::ShuttingDown);
    let outcome = action(restart, json!({ "service_name": "slow" })).unwrap().run(context).await;
    assert_eq!((code(&outcome), outcome.ended), (Some(ErrorCode::ShuttingDown), None));
}
