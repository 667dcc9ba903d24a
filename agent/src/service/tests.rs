//! The loop with a link on which just what the test says happens.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use infini_protocol::agent::Response;
use infini_protocol::envelope::{Key, seal};

use super::*;
use crate::auth::Trust;
use crate::auth::replay::NonceJournal;
use crate::collector::linux::{LinuxCollector, Roots};
use crate::commands::action::Context;
use crate::commands::audit::{Audit, AuditSettings};
use crate::commands::ids::Ids;
use crate::commands::intake;
use crate::commands::testing::idle_context;
use crate::communication::{Endpoint, PortDescription};
use crate::config::Layers;
use crate::identity::{Identity, MachineFacts};

fn key() -> Key {
    Key::new("secret").unwrap()
}

fn service(folder: &Path, events: Vec<LinkEvent>) -> InfiniService {
    let loaded = Loaded::from_layers(&Layers::default()).unwrap();
    let roots = Roots { proc: folder.join("proc"), sys: folder.join("sys"), etc: folder.join("etc") };
    let settings = loaded.config.collector.settings.clone();
    let policy = Policy::new(&Trust::Secret(key()), None);
    let audit = Audit::open(&folder.join("audit"), AuditSettings::default());
    let (intake, requests) = intake::channel();
    let context = Context { roots: Arc::new(roots.clone()), intake, ..idle_context() };
    InfiniService::new(Parts {
        command_executor: CommandExecutor::new(
            CommandLimits::of(&loaded.config),
            policy,
            Ids::in_memory(),
            audit,
            context,
        ),
        intake: requests,
        collector: DataCollector::spawn(move || LinuxCollector::new(roots.clone()), settings),
        communication: VirtioSerial::on_which(events),
        authenticator: Authenticator::new(Trust::Secret(key()), NonceJournal::in_memory()),
        audit: AuditFile::new(folder.join("auth.log")),
        machine: Machine::new(
            Identity::new(Some("vm-1"), MachineFacts::default()),
            loaded.config.collector.interval,
            Instant::now(),
        ),
        scripts_mark: ScriptsMark::open(&folder.join("scripts"), "boot"),
        supervisor: Supervisor::connect().unwrap(),
        reload: Arc::new(|| Err("there is nothing to read".to_owned())),
        loaded,
    })
}

fn borrowed_port() -> LinkEvent {
    let port = PortDescription { endpoint: Endpoint::Device("/dev/vport1p1".into()), name: None, borrowed: true };
    LinkEvent::Opened { port }
}

fn our_port() -> LinkEvent {
    let port = PortDescription { endpoint: Endpoint::Device("/dev/vport1p1".into()), name: None, borrowed: false };
    LinkEvent::Opened { port }
}

fn signed_line() -> LinkEvent {
    let line = seal(&key(), clock::moment().now_ms, "n-1", r#"{"type":"keep_alive_request","sequence_number":1}"#);
    LinkEvent::Line { line: line.unwrap().into_bytes(), first_after_attach: true }
}

/// Where the agent stands after each of these events.
async fn phases(events: Vec<LinkEvent>) -> Vec<Phase> {
    let folder = tempfile::tempdir().unwrap();
    let count = events.len();
    let mut service = service(folder.path(), events);
    let mut phases = Vec::new();
    while phases.len() < count {
        let event = service.next_event().await;
        if matches!(event, Event::Link(_)) {
            service.handle(event);
            phases.push(service.machine.phase());
        }
    }
    phases
}

#[tokio::test]
async fn a_host_that_proves_itself_on_a_borrowed_port_is_greeted() {
    let phases = phases(vec![borrowed_port(), LinkEvent::HostAttached, signed_line()]).await;
    assert_eq!(phases, [Phase::Connecting, Phase::Connecting, Phase::Connected]);
}

/// Where a host writes and leaves before the agent looks, its line is all that is ever seen of it.
#[tokio::test]
async fn nobody_is_greeted_on_a_borrowed_port_whose_host_left_right_after_proving_itself() {
    let never_seen = phases(vec![borrowed_port(), signed_line()]).await;
    assert_eq!(never_seen, [Phase::Connecting; 2]);
    let gone_again =
        phases(vec![borrowed_port(), LinkEvent::HostAttached, LinkEvent::HostDetached, signed_line()]).await;
    assert_eq!(gone_again, [Phase::Connecting; 4]);
}

#[tokio::test]
async fn a_long_answer_that_is_asked_for_again_does_not_spend_the_reserve() {
    let folder = tempfile::tempdir().unwrap();
    let mut service = service(folder.path(), Vec::new());
    while service.communication.outbox().can_reserve(1 << 20) {
        service.communication.send(Lane::Answer, vec![b'x'; 1 << 20]).unwrap();
    }
    let kept = || {
        let stdout = "x".repeat(200_000);
        let response = Response { id: "1".to_owned(), duplicate: true, stdout, ..Response::default() };
        Answer { body: AgentBody::Response(Box::new(response)), room: None }
    };
    let taken = |service: &mut InfiniService| {
        let before = service.communication.outbox().room();
        service.answer(kept());
        before - service.communication.outbox().room()
    };
    while service.communication.outbox().can_reserve(201_000) {
        assert!(taken(&mut service) > 200_000, "there was room for it");
    }
    for _ in 0..100 {
        let bytes = taken(&mut service);
        assert!((1..1000).contains(&bytes), "{bytes} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_comes_between_two_ticks_moves_the_samples_and_not_the_ticks() {
    let folder = tempfile::tempdir().unwrap();
    let start = tokio::time::Instant::now();
    let mut service = service(folder.path(), vec![our_port(), LinkEvent::HostAttached]);
    tokio::time::advance(Duration::from_secs(10)).await;
    let mut times = Vec::new();
    while times.len() < 4 {
        let event = service.next_event().await;
        let kind = match event {
            Event::Tick => Some("tick"),
            Event::SampleDue => Some("sample"),
            _ => None,
        };
        times.extend(kind.map(|kind| (kind, start.elapsed().as_secs())));
        service.handle(event);
    }
    assert_eq!(times, [("tick", 30), ("sample", 40), ("tick", 60), ("sample", 70)]);
}

/// An answer that the loop gives at once, and what waits for it.
async fn forget(service: &mut InfiniService) {
    let (done, forgotten) = tokio::sync::oneshot::channel();
    service.handle(Event::Intake(Request::Forget(done)));
    forgotten.await.unwrap();
}

/// A signed command, and the same without its signature.
fn command(number: u32) -> [LinkEvent; 2] {
    let payload = format!(r#"{{"type":"SafeCommand","id":"{number}","command_type":{{"action":"OsInfo"}}}}"#);
    let signed = seal(&key(), clock::moment().now_ms, &format!("n-{number}"), &payload).unwrap();
    let line = |text: String| LinkEvent::Line { line: text.into_bytes(), first_after_attach: false };
    [line(signed), line(payload)]
}

#[tokio::test]
async fn an_agent_that_was_to_forget_makes_none_of_its_files_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut service = service(folder.path(), Vec::new());
    let at = |name: &str| folder.path().join(name);
    service.authenticator = Authenticator::new(Trust::Secret(key()), NonceJournal::open(&at("nonces")).unwrap());
    let files = ["nonces", "auth.log", "audit"].map(at);
    command(1).into_iter().for_each(|event| service.handle(Event::Link(event)));
    assert!(files.iter().all(|file| file.exists()), "this test would see nothing: {files:?}");

    forget(&mut service).await;
    for file in &files {
        if file.is_dir() { std::fs::remove_dir_all(file) } else { std::fs::remove_file(file) }.unwrap();
    }
    for number in 2..5 {
        command(number).into_iter().for_each(|event| service.handle(Event::Link(event)));
        service.start_commands();
    }
    // Such a line is written down once a minute.
    service.write_down("a line was not believed", 1);
    service.handle(Event::Order(Order::Stop));
    service.end_commands().await;
    assert!(files.iter().all(|file| !file.exists()), "{:?}", std::fs::read_dir(folder.path()).unwrap().count());
}
