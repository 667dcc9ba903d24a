use std::time::Duration;

use infini_protocol::ErrorCode;
use serde_json::json;

use super::*;
use crate::commands::process_runner::{Ending, Stdin};
use crate::commands::stop::StopReason;
use crate::commands::test_machine::{FakeBus, TestMachine};
use crate::commands::testing::{FakePrograms, assert_golden, finished, line};

const PASSWORD: &str = "c4nary; $(id) 'x";
const LINE: &str = "/usr/sbin/realm join --unattended --user=ada@EXAMPLE.ORG --computer-ou=OU=Web Servers,DC=example,DC=org \
                    --computer-name=WEB-01 -- ad.example.org";

fn parsed(more: Value) -> Result<JoinDomain, serde_json::Error> {
    let mut fields = json!({ "domain": "ad.example.org", "username": "ada@EXAMPLE.ORG", "password": PASSWORD,
        "ou": "OU=Web Servers,DC=example,DC=org", "computer_name": "WEB-01", "restart_after": false });
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(fields)
}

fn machine() -> TestMachine {
    TestMachine::new(&[
        ("/usr/sbin/realm", ""),
        ("/proc/sys/kernel/hostname", "a-long-hostname-1.example.org\n"),
        ("/run/systemd/system/x", ""),
    ])
}

struct Tried {
    result: Result<Outcome, CommandError>,
    programs: Arc<FakePrograms>,
    bus: FakeBus,
}

async fn tried(machine: &TestMachine, more: Value, programs: FakePrograms) -> Tried {
    let (programs, bus) = (Arc::new(programs), FakeBus::systemd());
    let context = Context { programs: Arc::clone(&programs) as _, ..machine.context() };
    let result = join_domain(&context, Arc::new(bus.clone()), &parsed(more).unwrap()).await;
    Tried { result, programs, bus }
}

#[tokio::test]
async fn the_password_goes_through_standard_input_and_nowhere_else() {
    let programs = FakePrograms::default().prints(LINE, "Password for ada@EXAMPLE.ORG: \n");
    let tried = tried(&machine(), json!({}), programs).await;
    let outcome = tried.result.unwrap();
    assert_eq!(outcome.error, None);
    assert_golden("JoinDomain", &outcome.data.unwrap());
    let [program] = &tried.programs.ran()[..] else { panic!("one program joins: {:?}", tried.programs.lines()) };
    assert_eq!(program.stdin, Stdin::Bytes(format!("{PASSWORD}\n").into_bytes()));
    assert!(program.environment.is_empty() && program.script.is_none(), "{program:?}");
    assert!(!line(program).contains("c4nary") && !format!("{program:?}").contains("c4nary"), "{program:?}");
}

#[tokio::test]
async fn what_is_not_asked_for_is_no_option() {
    let short = "/usr/sbin/realm join --unattended --user=ada -- EXAMPLE.ORG";
    let more = json!({ "domain": "EXAMPLE.ORG", "username": "ada", "ou": null, "computer_name": null });
    let data = tried(&machine(), more, FakePrograms::default().prints(short, "")).await.result.unwrap().data.unwrap();
    assert_eq!(data, json!({ "domain": "EXAMPLE.ORG", "computer_name": "A-LONG-HOSTNAME", "restart_required": false }));
}

#[tokio::test]
async fn a_password_that_is_printed_again_is_scrubbed() {
    let echo = format!("realm: Couldn't join realm: bad password {PASSWORD}");
    let ends = [
        finished(Ending::Exit(1), &format!("kinit {PASSWORD} {PASSWORD}"), &echo),
        finished(Ending::Signal(11), PASSWORD, &echo),
        finished(Ending::Stopped(StopReason::Deadline), PASSWORD, &echo),
        finished(Ending::Exit(0), PASSWORD, &echo),
    ];
    for end in ends {
        let how = end.ending;
        let outcome = tried(&machine(), json!({}), FakePrograms::default().answers(LINE, end)).await.result.unwrap();
        assert!(!format!("{outcome:?}").contains("c4nary"), "{outcome:?}");
        assert!(outcome.stdout.contains(REDACTED) && outcome.stderr.contains(REDACTED), "{outcome:?}");
        assert_eq!(outcome.error.is_none(), how == Ending::Exit(0), "{outcome:?}");
        assert_eq!(outcome.data.is_some(), how == Ending::Exit(0), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_join_that_fails_says_why() {
    let programs = FakePrograms::default().fails(LINE, 1, "realm: Already joined to this domain\n");
    let outcome = tried(&machine(), json!({ "restart_after": true }), programs).await.result.unwrap();
    let error = outcome.error.unwrap();
    assert_eq!((error.code, outcome.exit_code), (ErrorCode::CommandFailed, 1));
    assert_eq!(error.sentence, "realm ended with exit code 1: realm: Already joined to this domain");
}

#[tokio::test]
async fn without_realmd_it_says_what_to_install() {
    let machine = TestMachine::new(&[]);
    let tried = tried(&machine, json!({}), FakePrograms::default()).await;
    let error = tried.result.unwrap_err();
    assert_eq!(error.code, ErrorCode::CommandFailed);
    assert!(error.sentence.contains("install the package realmd"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_restart_comes_after_the_answer_and_only_where_it_can() {
    for (restart, exit_code, expected) in [(true, 0, &["Reboot { force: false }"][..]), (false, 0, &[]), (true, 1, &[])]
    {
        let programs = FakePrograms::default().answers(LINE, finished(Ending::Exit(exit_code), "", ""));
        let tried = tried(&machine(), json!({ "restart_after": restart }), programs).await;
        assert!(tried.bus.called().is_empty(), "{:?}", tried.bus.called());
        tokio::time::sleep(power::LATEST + Duration::from_millis(1)).await;
        assert_eq!(tried.bus.called(), expected, "{restart} {exit_code}");
    }
    let container = TestMachine::new(&[("/usr/sbin/realm", "")]);
    let tried = tried(&container, json!({ "restart_after": true }), FakePrograms::default()).await;
    assert!(tried.result.unwrap_err().sentence.contains("reboot"));
    assert!(tried.programs.ran().is_empty(), "nothing is joined that could not be restarted");
}

#[test]
fn illegal_fields_are_refused_and_no_error_quotes_the_password() {
    let long = "c4nary".repeat(200);
    for more in [
        json!({ "password": null }),
        json!({ "password": "" }),
        json!({ "password": "c4nary\nid" }),
        json!({ "password": "c4nary\u{0}" }),
        json!({ "password": "c4nary\r" }),
        json!({ "password": long }),
        json!({ "password": ["c4nary"] }),
        json!({ "password": { "c4nary": "c4nary" } }),
        json!({ "password": 4242 }),
        json!({ "password": -4242.5 }),
        json!({ "password": true }),
        json!({ "domain": "-x.example" }),
        json!({ "domain": "example.org --install=/" }),
        json!({ "username": "EXAMPLE\\ada" }),
        json!({ "username": "ada%c4nary" }),
        json!({ "ou": "Servers" }),
        json!({ "computer_name": "sixteen-letters1" }),
        json!({ "restart_after": null }),
        json!({ "restart_after": "yes" }),
    ] {
        let error = parsed(more.clone()).expect_err(&format!("{more} was taken")).to_string();
        assert!(!error.contains("c4nary") && !error.contains("4242"), "{more}: {error}");
    }
    let taken = parsed(json!({})).unwrap();
    assert!(!format!("{taken:?}").contains("c4nary"), "{taken:?}");
}
