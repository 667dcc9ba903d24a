//! The first sample of a machine, and what the user is told where there is none.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use infini_protocol::ErrorCode;
use infini_protocol::agent::{AgentBody, ErrorDetails, ErrorMessage, KeepAlive};
use infini_protocol::host::HostMessage;
use infini_protocol::metrics::{CollectError, CpuMetrics, MetricsData};
use infinihost::cli::{NoContact, Patience, first_sample, unheard};
use infinihost::vm::{Endpoint, Vm};
use support::{FakeAgent, SECRET, SOON, handshake, key, metrics};
use tokio::process::Command;
use tokio::time::Instant;

fn asking(agent: &FakeAgent) -> Endpoint {
    Endpoint::new(agent.socket()).with_key(key()).refreshed_every(Duration::from_secs(1))
}

fn refusal() -> AgentBody {
    refused(ErrorCode::AuthFailed)
}

fn refused(error_code: ErrorCode) -> AgentBody {
    AgentBody::Error(ErrorMessage {
        error: "the line is not signed with this machine's secret\u{1b}[2J".to_owned(),
        details: ErrorDetails {
            component: "auth".to_owned(),
            error_code,
            message: "wrong signature".to_owned(),
            dropped: None,
        },
    })
}

#[tokio::test(start_paused = true)]
async fn a_silent_agent_is_given_up_after_five_seconds() {
    let agent = FakeAgent::listen();
    let endpoint = asking(&agent);
    let patience = Patience::of(&endpoint);
    let start = Instant::now();
    let vm = Vm::follow(endpoint);
    let _peer = agent.accept().await;
    let outcome = first_sample(&vm, patience).await;
    assert!(matches!(outcome, Err(NoContact::Silent(_))), "{outcome:?}");
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn without_a_secret_the_agents_own_sample_is_waited_for() {
    let agent = FakeAgent::listen();
    let endpoint = Endpoint::new(agent.socket());
    let patience = Patience::of(&endpoint);
    let vm = Vm::follow(endpoint);
    let mut peer = agent.accept().await;
    let (outcome, ()) = tokio::join!(first_sample(&vm, patience), async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        peer.say(metrics(MetricsData::default())).await;
    });
    outcome.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_speaks_but_measures_nothing_is_told_apart() {
    let agent = FakeAgent::listen();
    let endpoint = asking(&agent);
    let patience = Patience::of(&endpoint);
    let vm = Vm::follow(endpoint);
    let mut peer = agent.accept().await;
    peer.say(handshake("vm-1")).await;
    let outcome = first_sample(&vm, patience).await;
    assert!(matches!(outcome, Err(NoContact::NoSample)), "{outcome:?}");
}

/// A sample that came unasked is nothing to go by where the agent may not even hear the host.
#[tokio::test(start_paused = true)]
async fn a_sample_counts_as_an_answer_only_from_an_agent_that_takes_requests() {
    let agent = FakeAgent::listen();
    let endpoint = asking(&agent);
    let patience = Patience::of(&endpoint).for_an_answer(&endpoint);
    let start = Instant::now();
    let vm = Vm::follow(endpoint);
    let mut peer = agent.accept().await;
    peer.say(handshake("vm-1")).await;
    peer.say(metrics(MetricsData::default())).await;
    // What an agent with the right secret told a host before this one.
    peer.say(AgentBody::KeepAlive(KeepAlive { sequence_number: 1 })).await;
    let outcome = first_sample(&vm, patience).await;
    assert!(matches!(outcome, Err(NoContact::Unheard)), "{outcome:?}");
    assert_eq!(start.elapsed().as_secs(), 5);
    unheard(&vm).await.unwrap();

    peer.take_request().await;
    first_sample(&vm, patience).await.unwrap();
    assert!(!vm.status().is_unheard(Instant::now()), "{:?}", vm.status());
}

/// Version 1 knows no handshake and no `hello`, and its answers come in the order that it likes.
#[tokio::test(start_paused = true)]
async fn a_version_1_agent_is_believed_by_its_keep_alive() {
    let agent = FakeAgent::listen();
    let endpoint = asking(&agent);
    let patience = Patience::of(&endpoint).for_an_answer(&endpoint);
    let vm = Vm::follow(endpoint);
    let mut peer = agent.accept().await;
    let number = loop {
        if let HostMessage::KeepAliveRequest(request) = peer.hear().await.message {
            break request.sequence_number;
        }
    };
    peer.hear_request().await;
    peer.say(refused(ErrorCode::InvalidMessage)).await;
    peer.say(metrics(MetricsData::default())).await;
    peer.say(AgentBody::KeepAlive(KeepAlive { sequence_number: number })).await;
    first_sample(&vm, patience).await.unwrap();
}

/// Runs the program against a socket, with the shared secret in a file.
async fn infinihost(agent_dir: &Path, socket: &Path, arguments: &[&str]) -> Output {
    use std::os::unix::fs::OpenOptionsExt;
    let secret = agent_dir.join("secret");
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&secret).unwrap();
    std::io::Write::write_all(&mut file, format!("{SECRET}\n").as_bytes()).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_infinihost"))
        .args(arguments)
        .arg(socket)
        .arg("--secret-file")
        .arg(&secret)
        .env("XDG_CONFIG_HOME", agent_dir)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(SOON, child).await.expect("the program does not end").unwrap()
}

fn told(output: &Output, code: i32, wanted: &[&str]) {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    for text in wanted {
        assert!(stderr.contains(text), "no {text:?} in {stderr}");
    }
    let dangerous = |c: char| c != '\n' && infinihost::sanitize::is_dangerous(c);
    assert!(!stderr.contains(dangerous), "{stderr:?}");
}

#[tokio::test]
async fn one_sample_is_printed_as_json() {
    let agent = FakeAgent::listen();
    let socket = agent.socket();
    // A version 1 host needs the key although nothing was measured; this one must not take it for a zero.
    let mut data = MetricsData::default();
    data.system.cpu = Some(CpuMetrics::default());
    data.system.uptime_seconds = Some(7);
    data.errors.push(CollectError {
        component: "cpu".into(),
        error_code: ErrorCode::Internal,
        message: "\u{9b}2J".to_owned(),
    });
    let (output, _peer) = tokio::join!(infinihost(agent.dir(), &socket, &["metrics", "--json"]), async {
        let mut peer = agent.accept().await;
        peer.take_request().await;
        peer.say(metrics(data)).await;
        peer
    });
    told(&output, 0, &[]);
    let line = String::from_utf8(output.stdout).unwrap();
    assert!(line.contains("\\u009b2J"), "{line}");
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["data"]["system"]["uptime_seconds"], 7);
    assert_eq!(value["data"]["system"].get("cpu"), None, "{line}");
    assert_eq!(value["vm"], socket.to_str().unwrap());
}

#[tokio::test]
async fn a_wrong_secret_is_said() {
    let agent = FakeAgent::listen();
    let socket = agent.socket();
    let (output, _peer) = tokio::join!(infinihost(agent.dir(), &socket, &["metrics"]), async {
        let mut peer = agent.accept().await;
        peer.hear_request().await;
        peer.say(refusal()).await;
        peer
    });
    told(&output, 77, &["the secret is wrong", "␛[2J"]);
}

#[tokio::test]
async fn a_wrong_secret_is_said_beside_the_agents_own_samples() {
    let agent = FakeAgent::listen();
    let socket = agent.socket();
    let arguments = ["watch", "--json", "--duration", "1s"];
    let (output, _peer) = tokio::join!(infinihost(agent.dir(), &socket, &arguments), async {
        let mut peer = agent.accept().await;
        peer.hear_request().await;
        peer.say(metrics(MetricsData::default())).await;
        peer.say(refusal()).await;
        peer
    });
    told(&output, 0, &["the agent refuses what this host signs"]);
    assert_eq!(output.stdout.iter().filter(|&&byte| byte == b'\n').count(), 1, "{output:?}");
}

/// The agent tells a wrong secret once a minute only; within that minute its silence must do.
#[tokio::test]
async fn an_agent_that_answers_nothing_is_told_beside_its_own_samples() {
    let (metrics_agent, watch_agent) = (FakeAgent::listen(), FakeAgent::listen());
    let speak = async |agent: &FakeAgent| {
        let mut peer = agent.accept().await;
        peer.hear_request().await;
        peer.say(metrics(MetricsData::default())).await;
        peer
    };
    let (metrics_socket, watch_socket) = (metrics_agent.socket(), watch_agent.socket());
    let (printed, watched, ..) = tokio::join!(
        infinihost(metrics_agent.dir(), &metrics_socket, &["metrics"]),
        infinihost(watch_agent.dir(), &watch_socket, &["watch", "--json", "--duration", "7s"]),
        speak(&metrics_agent),
        speak(&watch_agent),
    );
    told(&printed, 69, &["it is down", "another secret", "another client"]);
    assert!(printed.stdout.is_empty(), "a sample that nobody asked for was printed: {printed:?}");
    told(&watched, 0, &["the agent does not take our requests (wrong secret?)"]);
}

#[tokio::test]
async fn who_holds_the_socket_is_named() {
    let agent = FakeAgent::listen();
    let socket = agent.socket();
    let _holder = tokio::net::UnixStream::connect(&socket).await.unwrap();
    let _served = agent.accept().await;
    // As QEMU does: the second client connects and is not served.
    let output = infinihost(agent.dir(), &socket, &["watch", "--json"]).await;
    told(&output, 69, &["another client holds the socket", &format!("pid {}", std::process::id())]);
}

#[tokio::test]
async fn a_missing_socket_is_said_at_once() {
    let agent = FakeAgent::listen();
    let missing = agent.dir().join("none.sock");
    let output = infinihost(agent.dir(), &missing, &["metrics"]).await;
    told(&output, 66, &["there is no such socket"]);
    let output = infinihost(agent.dir(), Path::new("web"), &["metrics"]).await;
    told(&output, 66, &["no virtual machine is configured as \"web\""]);
}
