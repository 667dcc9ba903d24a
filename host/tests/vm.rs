//! A machine that is followed.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use infini_protocol::ErrorCode;
use infini_protocol::agent::{AgentBody, AgentEvent, EventSeverity, Handshake, KeepAlive, Response, ScriptCompletion};
use infini_protocol::host::{Action, HostMessage};
use infini_protocol::limits::MAX_LINE_BYTES;
use infini_protocol::metrics::{CollectError, MetricsData, SystemMetrics};
use infinihost::vm::{Endpoint, RequestError, Status, Vm, VmEvent, VmState};
use support::{FakeAgent, Gone, SOON, greeting, handshake, key, metrics, refused};
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::timeout;

fn endpoint(agent: &FakeAgent) -> Endpoint {
    Endpoint::new(agent.socket()).with_key(key()).with_vm_id("vm-1")
}

fn uptime(seconds: u64) -> AgentBody {
    let system = SystemMetrics { uptime_seconds: Some(seconds), ..SystemMetrics::default() };
    metrics(MetricsData { system, ..MetricsData::default() })
}

async fn state(vm: &Vm, wanted: VmState) {
    timeout(SOON * 100, vm.wait_for(|status| status.state == wanted))
        .await
        .unwrap_or_else(|_| panic!("not {wanted:?} but {:?}", vm.status()))
        .unwrap();
}

/// A machine that was there, and what is left of its agent.
async fn spoke_and_went() -> (Vm, Gone) {
    let agent = FakeAgent::listen();
    let vm = Vm::follow(endpoint(&agent));
    let mut peer = agent.accept().await;
    peer.say(uptime(1)).await;
    state(&vm, VmState::Ready).await;
    let gone = agent.vanish();
    drop(peer);
    state(&vm, VmState::Absent).await;
    (vm, gone)
}

fn action(name: &str) -> Action {
    Action { action: name.to_owned(), fields: serde_json::Map::new() }
}

#[tokio::test]
async fn a_sample_is_asked_for_and_kept() {
    let agent = FakeAgent::listen();
    let vm = Vm::follow(endpoint(&agent));
    let mut peer = agent.accept().await;
    let (sample, ()) = tokio::join!(vm.sample(), async {
        assert!(matches!(peer.hear().await.message, HostMessage::Hello(_)));
        peer.hear_request().await;
        peer.say(handshake("vm-1")).await;
        peer.say(uptime(42)).await;
    });
    assert_eq!(sample.unwrap().data.system.uptime_seconds, Some(42));
    let status = vm.status();
    assert_eq!((status.state, status.counters.samples), (VmState::Ready, 1));
    assert_eq!(status.handshake.as_ref().map(|h| h.hostname.as_str()), Some("guest"));
    assert_eq!(status.wrong_vm_id, None);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_stays_silent_is_made_anew() {
    let agent = FakeAgent::listen();
    let vm = Vm::follow(endpoint(&agent).refreshed_every(Duration::from_secs(1)));
    let mut events = vm.events();
    let mut silent = agent.accept().await;
    silent.hear_request().await;
    let mut peer = agent.accept().await;
    peer.hear_request().await;
    peer.say(uptime(42)).await;
    state(&vm, VmState::Ready).await;
    assert_eq!(vm.status().counters.connections, 2);
    let mut states = Vec::new();
    while let Ok(event) = events.try_recv() {
        states.extend(if let VmEvent::State(state) = event { Some(state) } else { None });
    }
    assert_eq!(states, [VmState::Booting, VmState::Ready], "the machine was never gone");
}

#[tokio::test]
async fn answers_find_who_asked_whatever_their_order() {
    let agent = FakeAgent::listen();
    let vm = Vm::follow(endpoint(&agent));
    let mut events = vm.events();
    let mut peer = agent.accept().await;
    let limit = Duration::from_secs(60);
    let answer = |id: &str, text: &str| {
        let (id, stdout) = (id.to_owned(), text.to_owned());
        AgentBody::Response(Box::new(Response { id, stdout, success: true, ..Response::default() }))
    };
    state(&vm, VmState::Booting).await;
    let (first, second, ()) = tokio::join!(vm.command(action("A"), limit), vm.command(action("B"), limit), async {
        let mut asked = Vec::new();
        while asked.len() < 2 {
            if let HostMessage::SafeCommand(command) = peer.hear().await.message {
                asked.push(command);
            }
        }
        peer.say(answer("never asked", "?")).await;
        for command in asked.iter().rev() {
            peer.say(answer(&command.id, &command.command_type.action)).await;
        }
    });
    assert_eq!((first.unwrap().stdout.as_str(), second.unwrap().stdout.as_str()), ("A", "B"));
    let mut unexpected = 0;
    while let Ok(event) = events.try_recv() {
        unexpected += usize::from(matches!(event, VmEvent::UnexpectedAnswer));
    }
    assert_eq!(unexpected, 1, "the answer that nobody asked for");
}

#[tokio::test]
async fn a_keep_alive_is_answered_by_its_own_number_only() {
    let agent = FakeAgent::listen();
    let vm = Vm::follow(endpoint(&agent));
    let mut peer = agent.accept().await;
    state(&vm, VmState::Booting).await;
    let (alive, ()) = tokio::join!(vm.keep_alive(SOON), async {
        loop {
            if let HostMessage::KeepAliveRequest(request) = peer.hear().await.message {
                for sequence_number in [u64::MAX, request.sequence_number] {
                    peer.say(AgentBody::KeepAlive(KeepAlive { sequence_number })).await;
                }
                break;
            }
        }
    });
    alive.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_command_without_an_answer_ends() {
    let agent = FakeAgent::listen();
    let vm = Vm::follow(endpoint(&agent));
    let _peer = agent.accept().await;
    state(&vm, VmState::Booting).await;
    let answer = vm.command(action("A"), Duration::from_secs(30)).await;
    assert!(matches!(answer, Err(RequestError::NoAnswer(limit)) if limit.as_secs() == 35), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn silence_makes_a_ready_machine_stale_and_a_word_makes_it_ready() {
    let agent = FakeAgent::listen();
    let vm = Vm::follow(endpoint(&agent));
    let mut peer = agent.accept().await;
    peer.say(uptime(1)).await;
    state(&vm, VmState::Ready).await;
    let before = tokio::time::Instant::now();
    state(&vm, VmState::Stale).await;
    assert_eq!(before.elapsed().as_secs(), 90);
    peer.say(uptime(2)).await;
    state(&vm, VmState::Ready).await;
}

#[tokio::test]
async fn a_socket_that_vanishes_and_comes_back_is_found_again() {
    let (vm, gone) = spoke_and_went().await;
    assert_eq!(vm.status().sample.as_ref().map(|sample| sample.data.system.uptime_seconds), Some(Some(1)));
    timeout(
        SOON,
        vm.wait_for(|status| status.failure.as_ref().is_some_and(|why| why.kind == std::io::ErrorKind::NotFound)),
    )
    .await
    .expect("the reason is not told")
    .unwrap();
    let agent = gone.listen();
    let mut peer = agent.accept().await;
    peer.say(uptime(2)).await;
    state(&vm, VmState::Ready).await;
    assert_eq!(vm.status().counters.connections, 2);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_spoke_and_is_gone_is_tried_less_and_less_often() {
    let (mut vm, gone) = spoke_and_went().await;
    let start = tokio::time::Instant::now();
    let mut attempts = Vec::new();
    // Each attempt that fails changes what is known.
    while let Ok(changed) = timeout(Duration::from_secs(30).saturating_sub(start.elapsed()), vm.changed()).await {
        assert_eq!(changed.unwrap().state, VmState::Absent);
        attempts.push(start.elapsed().as_millis());
    }
    assert!((16..=22).contains(&attempts.len()), "{} attempts in 30 s: {attempts:?}", attempts.len());
    // Once it has spoken again it is missed at once again.
    let agent = gone.listen();
    let mut peer = agent.accept().await;
    peer.say(uptime(2)).await;
    state(&vm, VmState::Ready).await;
    drop(peer);
    let start = tokio::time::Instant::now();
    let _peer = agent.accept().await;
    assert!(start.elapsed() <= Duration::from_millis(200), "{:?}", start.elapsed());
}

#[tokio::test]
async fn another_identity_is_reported_and_changes_nothing() {
    let agent = FakeAgent::listen();
    let vm = Vm::follow(endpoint(&agent));
    let mut events = vm.events();
    let mut peer = agent.accept().await;
    peer.say(handshake("vm-2")).await;
    let status = timeout(SOON, vm.wait_for(|status| status.wrong_vm_id.is_some())).await.unwrap().unwrap();
    assert_eq!(status.wrong_vm_id.as_deref(), Some("vm-2"));
    let mut reported = false;
    while let Ok(event) = events.try_recv() {
        reported |= matches!(event, VmEvent::WrongVmId { expected, told } if expected == "vm-1" && told == "vm-2");
    }
    assert!(reported, "no event");
}

#[tokio::test(start_paused = true)]
async fn a_line_refused_for_the_clock_is_said_again_in_the_guests_time() {
    let agent = FakeAgent::listen();
    let before = tokio::time::Instant::now();
    let vm = Vm::follow(endpoint(&agent).refreshed_every(Duration::from_secs(1)));
    let mut peer = agent.accept().await.with_clock_off(7_200_000);
    let first = peer.hear_request().await;
    assert!(first.ts.abs_diff(peer.now().unix_ms()) > 7_000_000, "nothing was learned yet");
    // The hello, the keep-alive and the request itself.
    for _ in 0..3 {
        peer.say(AgentBody::Error(refused("the time is off"))).await;
    }
    let second = peer.hear_request().await;
    let off = second.ts.abs_diff(peer.now().unix_ms());
    assert!(off < 20_000, "{off} ms off the guest's clock");
    peer.say(uptime(1)).await;
    state(&vm, VmState::Ready).await;
    assert_eq!(vm.status().complaint, None, "a complaint that is being mended would end who waits for a sample");
    assert_eq!(before.elapsed().as_secs(), 0, "nothing here waits for a timer");
    // What was signed by the right clock has no such excuse.
    let counted = vm.status().counters.messages;
    for _ in 0..3 {
        peer.say(AgentBody::Error(refused("the signature is wrong"))).await;
    }
    timeout(SOON, vm.wait_for(|status| status.counters.messages == counted + 3)).await.unwrap().unwrap();
    let complaint = vm.status().complaint.as_ref().map(|complaint| complaint.details.message.clone());
    assert_eq!(complaint.as_deref(), Some("the signature is wrong"));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_was_started_anew_is_asked_at_once() {
    let agent = FakeAgent::listen();
    let _vm = Vm::follow(endpoint(&agent).refreshed_every(Duration::from_secs(1)));
    let mut peer = agent.accept().await;
    peer.take_request().await;
    peer.say(handshake("vm-1")).await;
    peer.say(uptime(1)).await;
    peer.hear_request().await;
    // It is killed with this request, and whoever comes after it knows nothing of it.
    let before = tokio::time::Instant::now();
    let another = Handshake { session_id: "another start".to_owned(), ..greeting("vm-1") };
    peer.say(AgentBody::Handshake(another)).await;
    peer.hear_request().await;
    assert_eq!(before.elapsed().as_secs(), 0, "the request was left to its timer");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_sends_no_sample_is_not_flooded_with_requests() {
    let agent = FakeAgent::listen();
    let _vm = Vm::follow(endpoint(&agent).refreshed_every(Duration::from_secs(1)));
    let mut peer = agent.accept().await;
    peer.hear_request().await;
    let before = tokio::time::Instant::now();
    peer.say(handshake("vm-1")).await;
    peer.hear_request().await;
    assert_eq!(before.elapsed().as_secs(), 0, "it may have taken the first request for an earlier host's");
    // It is there, and yet it measures nothing.
    peer.say(handshake("vm-1")).await;
    peer.hear_request().await;
    assert_eq!(before.elapsed().as_secs(), 5);
    peer.say(uptime(1)).await;
    peer.hear_request().await;
    peer.say(uptime(2)).await;
    let before = tokio::time::Instant::now();
    peer.hear_request().await;
    assert_eq!(before.elapsed().as_secs(), 1, "an agent that answers is asked each second");
}

#[tokio::test]
async fn the_connection_ends_with_the_last_handle() {
    let agent = FakeAgent::listen();
    let vm = Vm::follow(endpoint(&agent));
    let mut peer = agent.accept().await;
    drop(vm.clone());
    peer.hear().await;
    drop(vm);
    peer.closed().await;
}

/// Lines of almost 1 MiB, most of it text that a guest may choose.
fn long_lines() -> [AgentBody; 3] {
    let text = "x".repeat(MAX_LINE_BYTES - 1000);
    let event = AgentEvent {
        severity: EventSeverity::Info,
        source: "test".to_owned(),
        message: text.clone(),
        execution_id: None,
        context: None,
    };
    let completion = ScriptCompletion {
        execution_id: "nobody asked".to_owned(),
        exit_code: 0,
        stdout: text.clone(),
        stderr: String::new(),
        log_file: None,
    };
    let error = CollectError { component: "test".into(), error_code: ErrorCode::Internal, message: text };
    let sample = metrics(MetricsData { errors: vec![error], ..MetricsData::default() });
    [AgentBody::AgentEvent(event), AgentBody::ScriptCompletion(completion), sample]
}

#[tokio::test]
async fn a_listener_that_does_not_read_costs_a_few_lines() {
    const LINES: usize = 5;
    let agent = FakeAgent::listen();
    let vm = Vm::follow(endpoint(&agent));
    let mut events = vm.events();
    let mut peer = agent.accept().await;
    for body in long_lines() {
        for _ in 0..LINES {
            peer.say(body.clone()).await;
        }
    }
    let all = |status: &Arc<Status>| status.counters.messages == 3 * LINES as u64;
    timeout(SOON * 5, vm.wait_for(all)).await.expect("not all lines were read").unwrap();
    let (mut bytes, mut lost, mut heard) = (0, 0, 0);
    loop {
        match events.try_recv() {
            Ok(event) => {
                heard += 1;
                bytes += format!("{event:?}").len();
            }
            Err(TryRecvError::Lagged(count)) => lost += count,
            Err(_) => break,
        }
    }
    println!("{heard} events heard, {lost} lost, {bytes} bytes");
    assert!(bytes <= 9 << 20, "{bytes} bytes of a guest's words were kept");
    assert!(bytes > 1 << 20 && lost > 0, "{heard} events with {bytes} bytes, {lost} lost");
}

#[tokio::test]
async fn a_guest_that_never_stops_sending_starves_nobody() {
    for flood in ["x\n".repeat(50_000), "x".repeat(100_000)] {
        let agent = FakeAgent::listen();
        let stop = Arc::new(AtomicBool::new(false));
        let guest = agent.flood(flood, Arc::clone(&stop));
        let vm = Vm::follow(endpoint(&agent));
        state(&vm, VmState::Booting).await;
        for _ in 0..1000 {
            vm.send(HostMessage::Metrics {}).await.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        drop(vm);
        assert!(guest.await.unwrap(), "others got their turn only after the guest had stopped");
    }
}
