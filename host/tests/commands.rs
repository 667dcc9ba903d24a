//! Commands that outlive a connection, and commands that are taken back.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::time::Duration;

use infini_protocol::agent::{AgentBody, Handshake, Response};
use infini_protocol::host::{Action, HostMessage, UnsafeCommand};
use infinihost::vm::{Command, Endpoint, RequestError, Vm, VmState};
use support::{FakeAgent, Peer, SOON, Signed, greeting, key, refused};
use tokio::task::JoinHandle;

fn endpoint(agent: &FakeAgent) -> Endpoint {
    Endpoint::new(agent.socket()).with_key(key())
}

fn cancelling(session: &str) -> Handshake {
    Handshake { session_id: session.to_owned(), capabilities: vec!["cancel".to_owned()], ..greeting("vm-1") }
}

fn raw(line: &str) -> Command {
    let command = UnsafeCommand {
        id: String::new(),
        raw_command: line.to_owned(),
        shell: None,
        timeout: None,
        working_dir: None,
        env_vars: None,
        run_as: None,
    };
    Command::raw(command, Some(Duration::from_secs(60))).unwrap()
}

fn answer(id: &str) -> AgentBody {
    AgentBody::Response(Box::new(Response { id: id.to_owned(), success: true, duplicate: true, ..Response::default() }))
}

/// Has a command sent to an agent that has introduced itself, and gives what came of it.
async fn sent(
    vm: &Vm,
    peer: &mut Peer,
    greeting: &Handshake,
    command: &Command,
) -> (Signed, JoinHandle<Result<Response, RequestError>>) {
    peer.say(AgentBody::Handshake(greeting.clone())).await;
    let session = greeting.session_id.clone();
    let knows = |status: &std::sync::Arc<infinihost::vm::Status>| {
        status.handshake.as_ref().is_some_and(|handshake| handshake.session_id == session)
    };
    vm.wait_for(knows).await.unwrap();
    let running = tokio::spawn({
        let (vm, command) = (vm.clone(), command.clone());
        async move { vm.run(command).await }
    });
    (peer.hear_order(greeting).await, running)
}

#[tokio::test]
async fn a_command_whose_connection_breaks_is_sent_again_word_for_word() {
    let agent = FakeAgent::listen();
    let vm = Vm::follow(endpoint(&agent));
    let mut peer = agent.accept().await;
    let command = raw("touch once");
    let (first, running) = sent(&vm, &mut peer, &cancelling("s-1"), &command).await;
    drop(peer);
    let mut peer = agent.accept().await;
    let second = peer.hear_order(&cancelling("s-1")).await;
    assert_eq!(second.payload, first.payload, "the agent compares what stands under an id");
    assert_ne!(second.nonce, first.nonce);
    peer.say(answer(command.id())).await;
    let response = running.await.unwrap().unwrap();
    assert!(response.duplicate, "{response:?}");
}

/// A command that the host sends before the agent has introduced itself in this connection.
async fn sent_early(
    vm: &Vm,
    peer: &mut Peer,
    command: &Command,
) -> (Signed, JoinHandle<Result<Response, RequestError>>) {
    let running = tokio::spawn({
        let (vm, command) = (vm.clone(), command.clone());
        async move { vm.run(command).await }
    });
    loop {
        let heard = peer.hear().await;
        if matches!(heard.message, HostMessage::UnsafeCommand(_)) {
            return (heard, running);
        }
    }
}

/// Has the host know the guest's boot from a connection that is over, and gives the one after it.
async fn second_connection(agent: &FakeAgent, vm: &Vm) -> Peer {
    let mut peer = agent.accept().await;
    peer.say(AgentBody::Handshake(cancelling("s-1"))).await;
    vm.wait_for(|status| status.handshake.is_some()).await.unwrap();
    drop(peer);
    let peer = agent.accept().await;
    vm.wait_for(|status| status.state != VmState::Absent).await.unwrap();
    peer
}

#[tokio::test]
async fn a_command_of_a_connection_that_broke_before_its_handshake_is_sent_again() {
    let agent = FakeAgent::listen();
    let vm = Vm::follow(endpoint(&agent));
    let mut peer = second_connection(&agent, &vm).await;
    let command = raw("touch once").with_id("once");
    let (first, running) = sent_early(&vm, &mut peer, &command).await;
    drop(peer);
    let mut peer = agent.accept().await;
    let second = peer.hear_order(&cancelling("s-1")).await;
    assert_eq!(second.payload, first.payload);
    peer.say(answer("once")).await;
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_command_that_was_refused_for_the_clock_is_sent_again_in_the_guests_time() {
    let agent = FakeAgent::listen();
    let vm = Vm::follow(endpoint(&agent));
    let mut peer = second_connection(&agent, &vm).await.with_clock_off(7_200_000);
    let (first, running) = sent_early(&vm, &mut peer, &raw("touch once").with_id("once")).await;
    peer.say(AgentBody::Error(refused("the time is off"))).await;
    let second = peer.hear_order(&cancelling("s-1")).await;
    assert_eq!(second.payload, first.payload);
    let off = second.ts.abs_diff(peer.now().unix_ms());
    assert!(off < 20_000, "{off} ms off the guest's clock");
    peer.say(answer("once")).await;
    running.await.unwrap().unwrap();
}

/// The agent reads it behind the `hello` that it answers: once more would only bring a second answer.
#[tokio::test]
async fn a_command_that_is_on_its_way_is_not_sent_again_for_the_handshake() {
    let agent = FakeAgent::listen();
    let vm = Vm::follow(endpoint(&agent));
    let mut peer = second_connection(&agent, &vm).await;
    let (_, early) = sent_early(&vm, &mut peer, &raw("touch once").with_id("early")).await;
    let (next, running) = sent(&vm, &mut peer, &cancelling("s-1"), &raw("touch twice").with_id("next")).await;
    assert!(next.payload.contains("touch twice"), "{next:?}");
    for (id, running) in [("early", early), ("next", running)] {
        peer.say(answer(id)).await;
        assert_eq!(running.await.unwrap().unwrap().id, id);
    }
}

/// Which boot has got it is not known: the new one answers, and the old one must not have it a second time.
#[tokio::test]
async fn a_command_sent_early_to_a_guest_that_was_started_anew_is_waited_for_and_not_repeated() {
    let agent = FakeAgent::listen();
    let vm = Vm::follow(endpoint(&agent));
    let mut peer = second_connection(&agent, &vm).await;
    let (_, early) = sent_early(&vm, &mut peer, &raw("reboot").with_id("early")).await;
    let rebooted = Handshake { boot_id: "another".to_owned(), ..cancelling("s-2") };
    let (next, running) = sent(&vm, &mut peer, &rebooted, &raw("uptime").with_id("next")).await;
    assert!(next.payload.contains("uptime"), "{next:?}");
    peer.say(answer("early")).await;
    assert_eq!(early.await.unwrap().unwrap().id, "early");
    running.abort();
}

#[tokio::test]
async fn an_agent_that_is_started_anew_is_asked_again() {
    let agent = FakeAgent::listen();
    let vm = Vm::follow(endpoint(&agent));
    let mut peer = agent.accept().await;
    let command = raw("touch once");
    let (first, running) = sent(&vm, &mut peer, &cancelling("s-1"), &command).await;
    peer.say(AgentBody::Handshake(cancelling("s-2"))).await;
    assert_eq!(peer.hear_order(&cancelling("s-2")).await.payload, first.payload);
    peer.say(answer(command.id())).await;
    running.await.unwrap().unwrap();
}

/// The agent remembers the ids of one boot: a command that restarts the guest would restart it for ever.
#[tokio::test]
async fn a_guest_that_is_started_anew_gets_no_command_twice() {
    let agent = FakeAgent::listen();
    let vm = Vm::follow(endpoint(&agent));
    let mut peer = agent.accept().await;
    let (_, running) = sent(&vm, &mut peer, &cancelling("s-1"), &raw("reboot")).await;
    drop(peer);
    let mut peer = agent.accept().await;
    let rebooted = Handshake { boot_id: "another".to_owned(), ..cancelling("s-2") };
    peer.say(AgentBody::Handshake(rebooted.clone())).await;
    let ended = running.await.unwrap();
    assert!(matches!(ended, Err(RequestError::Rebooted)), "{ended:?}");
    let next = raw("uptime");
    let (heard, running) = sent(&vm, &mut peer, &rebooted, &next).await;
    let HostMessage::UnsafeCommand(command) = &heard.message else { panic!("{heard:?}") };
    assert_eq!(command.raw_command, "uptime");
    running.abort();
}

#[tokio::test]
async fn a_command_is_taken_back_in_the_names_of_both_sessions() {
    let agent = FakeAgent::listen();
    let vm = Vm::follow(endpoint(&agent));
    let mut peer = agent.accept().await;
    let command = raw("sleep 999");
    let (first, running) = sent(&vm, &mut peer, &cancelling("s-1"), &command).await;
    assert!(!first.payload.contains("session_id"), "the same command must stay the same in every session: {first:?}");
    vm.cancel(command.id()).await.unwrap();
    let HostMessage::Hello(hello) = peer.hear().await.message else { panic!("no hello") };
    assert_eq!(hello.capabilities, ["cancel"]);
    let HostMessage::HandshakeAck(ack) = peer.hear().await.message else { panic!("no acknowledgement") };
    assert_eq!((&ack.host_session_id, &ack.enabled), (&hello.host_session_id, &hello.capabilities));
    let cancel: serde_json::Value = serde_json::from_str(&peer.hear().await.payload).unwrap();
    let wanted = serde_json::json!({
        "type": "cancel", "id": command.id(), "host_session_id": hello.host_session_id, "session_id": "s-1",
    });
    assert_eq!(cancel, wanted);
    peer.say(answer(command.id())).await;
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_was_taken_back_stays_taken_back_in_the_next_connection() {
    let agent = FakeAgent::listen();
    let vm = Vm::follow(endpoint(&agent));
    let mut peer = agent.accept().await;
    let command = raw("sleep 999");
    let (_, running) = sent(&vm, &mut peer, &cancelling("s-1"), &command).await;
    vm.cancel(command.id()).await.unwrap();
    drop(peer);
    let mut peer = agent.accept().await;
    let again = peer.hear_order(&cancelling("s-1")).await;
    assert!(matches!(again.message, HostMessage::UnsafeCommand(_)), "{again:?}");
    let cancel = peer.hear_order(&cancelling("s-1")).await;
    assert!(matches!(&cancel.message, HostMessage::Cancel(cancel) if cancel.id == command.id()), "{cancel:?}");
    peer.say(answer(command.id())).await;
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_agent_that_cannot_take_back_is_not_asked_to() {
    let agent = FakeAgent::listen();
    let vm = Vm::follow(endpoint(&agent));
    let mut peer = agent.accept().await;
    let (_, running) = sent(&vm, &mut peer, &greeting("vm-1"), &raw("sleep 999")).await;
    let refused = vm.cancel("any").await;
    assert!(matches!(refused, Err(RequestError::CannotCancel)), "{refused:?}");
    running.abort();
}

#[tokio::test]
async fn without_a_limit_the_agent_decides() {
    let agent = FakeAgent::listen();
    let vm = Vm::follow(endpoint(&agent));
    let mut peer = agent.accept().await;
    let action = Action { action: "OsInfo".to_owned(), fields: serde_json::Map::new() };
    let command = Command::safe(action, None).unwrap();
    let (heard, running) = sent(&vm, &mut peer, &greeting("vm-1"), &command).await;
    assert!(!heard.payload.contains("timeout"), "{heard:?}");
    peer.say(answer(command.id())).await;
    tokio::time::timeout(SOON, running).await.unwrap().unwrap().unwrap();
}
