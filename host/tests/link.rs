//! One connection: signing, framing, and a guest that means harm.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::ErrorKind;

use infini_protocol::agent::{AgentBody, AgentEvent, EventSeverity, KeepAlive};
use infini_protocol::envelope;
use infini_protocol::framing::{Frame, LineDecoder};
use infini_protocol::host::HostMessage;
use infini_protocol::limits::{MAX_LINE_BYTES, MAX_LIST_ENTRIES};
use infini_protocol::metrics::MetricsData;
use infinihost::link::{Incoming, Link, SendError};
use support::{FakeAgent, Peer, key, metrics};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::timeout;

async fn connected() -> (FakeAgent, Link, Peer) {
    let agent = FakeAgent::listen();
    let mut link = Link::new(agent.socket(), Some(key())).unwrap();
    link.connect().await.unwrap();
    let peer = agent.accept().await;
    (agent, link, peer)
}

async fn next(link: &mut Link) -> Incoming {
    timeout(support::SOON, link.next()).await.expect("nothing came").unwrap()
}

async fn next_body(link: &mut Link) -> AgentBody {
    match next(link).await {
        Incoming::Message { message, .. } => message.body,
        other => panic!("{other:?} instead of a message"),
    }
}

const ALIVE: AgentBody = AgentBody::KeepAlive(KeepAlive { sequence_number: 7 });

#[tokio::test]
async fn lines_are_signed_in_the_guests_time_with_nonces_that_never_repeat() {
    let (_agent, mut link, peer) = connected().await;
    let mut peer = peer.with_clock_off(-3 * 3_600_000);
    peer.say(ALIVE).await;
    assert_eq!(next_body(&mut link).await, ALIVE);
    let mut nonces = Vec::new();
    for _ in 0..3 {
        link.send(&HostMessage::Metrics {}).unwrap();
        peer.say(ALIVE).await;
        next(&mut link).await;
        let signed = peer.hear().await;
        let off = signed.ts.abs_diff(peer.now().unix_ms());
        assert!(off < 20_000, "signed {off} ms off the guest's clock");
        nonces.push(signed.nonce);
    }
    nonces.dedup();
    assert_eq!(nonces.len(), 3, "{nonces:?}");
}

/// A guest that reads on without having seen that one host left and another came.
#[tokio::test]
async fn a_half_line_of_a_killed_host_swallows_nothing() {
    let agent = FakeAgent::listen();
    let mut killed = UnixStream::connect(agent.socket()).await.unwrap();
    killed.write_all(b"{\"type\":\"signed\",\"v\":1,\"ts\":17").await.unwrap();
    let mut before = agent.accept().await;
    drop(killed);
    let mut link = Link::new(agent.socket(), Some(key())).unwrap();
    link.connect().await.unwrap();
    let mut after = agent.accept().await;
    link.send(&HostMessage::Metrics {}).unwrap();
    after.say(ALIVE).await;
    next(&mut link).await;
    drop(link);
    let (mut decoder, mut lines) = (LineDecoder::new(MAX_LINE_BYTES), Vec::new());
    for peer in [&mut before, &mut after] {
        loop {
            let bytes = peer.bytes().await;
            if bytes.is_empty() {
                break;
            }
            decoder.feed(&bytes, |frame| match frame {
                Frame::Line(line) => lines.push(String::from_utf8_lossy(line).into_owned()),
                Frame::TooLong { bytes } => panic!("a line of {bytes} bytes"),
            });
        }
    }
    let heard = lines.iter().filter(|line| envelope::open(&key(), line.as_bytes()).is_ok()).count();
    assert_eq!(heard, 1, "{lines:?}");
}

#[tokio::test]
async fn a_clock_that_is_set_is_followed_at_once() {
    let (_agent, mut link, mut peer) = connected().await;
    peer.say(ALIVE).await;
    next(&mut link).await;
    let mut peer = peer.with_clock_off(86_400_000);
    let event = AgentEvent {
        severity: EventSeverity::Info,
        source: "clock".to_owned(),
        message: "the clock was set".to_owned(),
        execution_id: None,
        context: None,
    };
    peer.say(AgentBody::AgentEvent(event)).await;
    next(&mut link).await;
    let offset = link.clock().offset_ms().unwrap();
    assert!((offset - 86_400_000).abs() < 20_000, "the offset is {offset} ms");
}

#[tokio::test]
async fn without_a_key_nothing_is_sent() {
    let agent = FakeAgent::listen();
    let mut link = Link::new(agent.socket(), None).unwrap();
    assert!(matches!(link.send(&HostMessage::Metrics {}), Err(SendError::NotConnected)));
    link.connect().await.unwrap();
    assert!(matches!(link.send(&HostMessage::Metrics {}), Err(SendError::NoKey)));
}

#[tokio::test]
async fn the_tail_of_a_line_is_dropped_once() {
    let (_agent, mut link, mut peer) = connected().await;
    peer.raw(b"e_percent\":3.5}}}\n").await;
    peer.say(ALIVE).await;
    assert_eq!(next_body(&mut link).await, ALIVE);
    peer.raw(b"e_percent\":3.5}}}\n").await;
    let second = next(&mut link).await;
    assert!(matches!(second, Incoming::Invalid(_)), "{second:?}");
}

#[tokio::test]
async fn garbage_without_an_end_takes_no_memory_and_no_message() {
    let (_agent, mut link, mut peer) = connected().await;
    let writer = tokio::spawn(async move {
        let garbage = vec![b'x'; 1 << 20];
        for _ in 0..10 {
            peer.raw(&garbage).await;
        }
        peer.raw(b"\n").await;
        peer.say(ALIVE).await;
        peer
    });
    assert_eq!(next(&mut link).await, Incoming::TooLong { bytes: 10 << 20 });
    assert_eq!(next_body(&mut link).await, ALIVE);
    assert_eq!(link.heard_bytes() >> 20, 10);
    writer.await.unwrap();
}

#[tokio::test]
async fn a_million_list_entries_are_never_read() {
    let (_agent, mut link, mut peer) = connected().await;
    let interface = r#"{"name":"x","bytes_received":0,"bytes_sent":0,"packets_received":0,"packets_sent":0,"errors_in":0,"errors_out":0,"is_up":true}"#;
    let line = |entries: usize| {
        let list = vec![interface; entries].join(",");
        let time = "2026-01-31T12:00:00.123Z";
        format!(
            "{{\"type\":\"metrics\",\"timestamp\":\"{time}\",\"data\":{{\"system\":{{\"network\":{{\"interfaces\":[{list}]}}}}}}}}\n"
        )
    };
    let (flood, full) = (line(1_000_000), line(7_000));
    assert!(full.len() <= MAX_LINE_BYTES, "the second line must be within the limit");
    let bytes = flood.len() as u64 - 1;
    let writer = tokio::spawn(async move {
        peer.raw(flood.as_bytes()).await;
        peer.raw(full.as_bytes()).await;
        peer
    });
    assert_eq!(next(&mut link).await, Incoming::TooLong { bytes });
    let AgentBody::Metrics(metrics) = next_body(&mut link).await else { panic!("no metrics") };
    assert_eq!(metrics.data.system.network.unwrap().interfaces.len(), MAX_LIST_ENTRIES);
    assert_eq!(metrics.data.truncated.get("interfaces"), Some(&7_000));
    writer.await.unwrap();
}

#[tokio::test]
async fn errors_quote_the_guest_without_its_escape_sequences() {
    let (_agent, mut link, mut peer) = connected().await;
    peer.say(metrics(MetricsData::default())).await;
    next(&mut link).await;
    peer.raw(b"{\"type\":\"\\u001b[2J\\u009b\\u202eboo\",\"timestamp\":\"\\u001b\"}\n").await;
    peer.raw(format!("{{\"type\":\"{}\"}}\n", "long".repeat(1000)).as_bytes()).await;
    for _ in 0..2 {
        let Incoming::Invalid(reason) = next(&mut link).await else { panic!("taken for a message") };
        assert!(!reason.chars().any(infinihost::sanitize::is_dangerous), "{reason:?}");
        assert!(reason.chars().count() <= 200, "{} characters", reason.chars().count());
    }
}

#[tokio::test]
async fn a_guest_that_does_not_read_stops_nobody() {
    let (_agent, mut link, mut peer) = connected().await;
    let congested = (0..1_000_000).find_map(|_| link.send(&HostMessage::Metrics {}).err());
    assert!(matches!(congested, Some(SendError::Congested(_))), "{congested:?}");
    peer.say(ALIVE).await;
    assert_eq!(next_body(&mut link).await, ALIVE);
}

#[tokio::test]
async fn the_end_is_reported_and_the_link_can_connect_again() {
    let (agent, mut link, peer) = connected().await;
    drop(peer);
    assert_eq!(link.next().await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(link.next().await.unwrap_err().kind(), ErrorKind::NotConnected);
    link.connect().await.unwrap();
    let mut peer = agent.accept().await;
    peer.say(ALIVE).await;
    assert_eq!(next_body(&mut link).await, ALIVE);
}
