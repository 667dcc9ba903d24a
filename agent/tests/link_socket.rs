//! The link over local sockets: both ways of connecting, what goes over them, the end.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::Path;
use std::time::Duration;

use infiniservice::communication::{Endpoint, Lane, LinkError, LinkEvent, LinkSettings, NotSent, VirtioSerial};
use support::link::{PATIENCE, attached, link, listening, next, opened, until, while_running};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

#[tokio::test]
async fn lines_go_both_ways_over_a_listening_socket() {
    let folder = tempfile::tempdir().unwrap();
    let (mut link, path) = listening(folder.path());
    opened(&mut link).await;
    let host = UnixStream::connect(&path).await.unwrap();
    attached(&mut link).await;
    let mut host = BufReader::new(host);
    host.get_mut().write_all(b"half of a line\r\n{\"second\":1}\n\n{\"third").await.unwrap();
    host.get_mut().write_all(b"\":1}\n").await.unwrap();
    let mut lines = Vec::new();
    while lines.len() < 3 {
        match next(&mut link).await {
            LinkEvent::Line { line, first_after_attach } => lines.push((line, first_after_attach)),
            other => panic!("{other:?}"),
        }
    }
    let expected: [(&[u8], bool); 3] =
        [(b"half of a line", true), (b"{\"second\":1}", false), (b"{\"third\":1}", false)];
    assert_eq!(lines, expected.map(|(line, first)| (line.to_vec(), first)));

    link.send(Lane::Metrics, b"metrics\n".to_vec()).unwrap();
    link.send(Lane::Answer, b"answer\n".to_vec()).unwrap();
    link.send(Lane::Answer, b"another\n".to_vec()).unwrap();
    let mut text = String::new();
    while_running(&mut link, async {
        for _ in 0..3 {
            host.read_line(&mut text).await.unwrap();
        }
    })
    .await;
    assert_eq!(text, "metrics\nanswer\nanother\n", "the first line was handed over before the answers came");
}

#[tokio::test]
async fn an_answer_has_left_when_its_last_byte_is_written_and_not_before() {
    const LINE: usize = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let (mut link, path) = listening(folder.path());
    opened(&mut link).await;
    let mut host = UnixStream::connect(&path).await.unwrap();
    attached(&mut link).await;
    let room = link.reserve(LINE).unwrap();
    let receipt = room.receipt();
    let mut line = vec![b'a'; LINE];
    line[LINE - 1] = b'\n';
    link.send_reserved(room, line).unwrap();
    let mut begin = vec![0; 1000];
    while_running(&mut link, host.read_exact(&mut begin)).await.unwrap();
    // The socket holds a part of it alone, and so long as nobody reads the rest it has not left, whatever else happens meanwhile.
    host.write_all(b"{}\n").await.unwrap();
    until(&mut link, |event| matches!(event, LinkEvent::Line { .. }).then_some(())).await;
    tokio::select! {
        biased;
        _ = receipt.written() => panic!("it has not left"),
        () = tokio::task::yield_now() => {}
    }
    let mut rest = vec![0; LINE - begin.len()];
    while_running(&mut link, host.read_exact(&mut rest)).await.unwrap();
    assert!(while_running(&mut link, receipt.written()).await);
    let lost = link.reserve(LINE).unwrap().receipt();
    assert!(!lost.written().await, "nobody answers");
}

#[tokio::test]
async fn the_socket_is_private_and_leaves_no_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (mut link, path) = listening(folder.path());
    opened(&mut link).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let (mut second, _) = listening(folder.path());
    let refused = next(&mut second).await;
    assert!(
        matches!(refused, LinkEvent::Unavailable { error: LinkError::Busy { .. }, first: true, .. }),
        "{refused:?}"
    );
    second.shutdown(PATIENCE).await;
    assert!(path.exists(), "the living listener's file was taken away");
    link.shutdown(PATIENCE).await;
    assert!(!path.exists(), "the file stayed");
}

#[tokio::test]
async fn an_abandoned_socket_file_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (mut link, path) = listening(folder.path());
    opened(&mut link).await;
    UnixStream::connect(&path).await.unwrap();
    attached(&mut link).await;
}

#[tokio::test(start_paused = true)]
async fn a_socket_whose_file_is_taken_away_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (mut link, path) = listening(folder.path());
    opened(&mut link).await;
    for with_host in [false, true, false, true] {
        let mut host = None;
        if with_host {
            host = Some(UnixStream::connect(&path).await.unwrap());
            attached(&mut link).await;
        }
        std::fs::remove_file(&path).unwrap();
        let start = tokio::time::Instant::now();
        drop(host);
        let error = until(&mut link, |event| match event {
            LinkEvent::Closed { error } => Some(error.error_type()),
            _ => None,
        });
        assert_eq!(error.await, "DEVICE_GONE");
        opened(&mut link).await;
        drop(UnixStream::connect(&path).await.unwrap());
        attached(&mut link).await;
        assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn a_socket_that_took_the_place_of_ours_is_left_to_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let (mut link, path) = listening(folder.path());
    opened(&mut link).await;
    let other = folder.path().join("other.sock");
    let _theirs = UnixListener::bind(&other).unwrap();
    std::fs::rename(&other, &path).unwrap();
    let error = until(&mut link, |event| match event {
        LinkEvent::Unavailable { error, .. } => Some(error.error_type()),
        _ => None,
    });
    assert_eq!(error.await, "DEVICE_BUSY");
    link.shutdown(PATIENCE).await;
    assert!(path.exists(), "the other one's file was taken away");
}

#[tokio::test]
async fn a_host_that_appears_is_dialled_at_once_and_again_after_it_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("host.sock");
    let mut link = link(Endpoint::Unix(path.clone()));
    let missing = next(&mut link).await;
    assert!(
        matches!(missing, LinkEvent::Unavailable { error: LinkError::NotFound { .. }, first: true, .. }),
        "{missing:?}"
    );
    for round in 0..2 {
        let host = UnixListener::bind(&path).unwrap();
        attached(&mut link).await;
        let (mut stream, _) = host.accept().await.unwrap();
        link.send(Lane::Answer, format!("round {round}\n").into_bytes()).unwrap();
        let mut text = vec![0; 8];
        while_running(&mut link, stream.read_exact(&mut text)).await.unwrap();
        assert_eq!(text, format!("round {round}\n").into_bytes());
        drop((stream, host));
        std::fs::remove_file(&path).unwrap();
        let error = until(&mut link, |event| match event {
            LinkEvent::Closed { error } => Some(error.error_type()),
            _ => None,
        });
        assert_eq!(error.await, "BROKEN_PIPE");
    }
}

#[tokio::test]
async fn an_over_long_line_is_reported_and_the_stream_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let mut link = VirtioSerial::spawn(LinkSettings {
        endpoint: Some(Endpoint::UnixListen(path.clone())),
        max_line_bytes: 1000,
        ..LinkSettings::default()
    });
    opened(&mut link).await;
    let mut host = UnixStream::connect(&path).await.unwrap();
    attached(&mut link).await;
    let long = [vec![b'l'; 100_000], b"\nshort\n".to_vec()].concat();
    let write = async { host.write_all(&long).await };
    let (written, events) = tokio::join!(write, async { (next(&mut link).await, next(&mut link).await) });
    written.unwrap();
    assert!(matches!(events.0, LinkEvent::TooLong { bytes: 100_000 }), "{:?}", events.0);
    assert!(matches!(&events.1, LinkEvent::Line { line, .. } if line == b"short"), "{:?}", events.1);
    assert_eq!(link.send(Lane::Answer, vec![b'x'; 1001]), Err(NotSent::TooLong(1001)));
}

#[tokio::test]
async fn shutting_down_writes_what_waits() {
    let folder = tempfile::tempdir().unwrap();
    let (mut link, path) = listening(folder.path());
    opened(&mut link).await;
    let mut host = UnixStream::connect(&path).await.unwrap();
    attached(&mut link).await;
    for _ in 0..10 {
        link.send(Lane::Answer, [vec![b'a'; 99_999], b"\n".to_vec()].concat()).unwrap();
    }
    let mut text = Vec::new();
    let (read, ()) = tokio::join!(host.read_to_end(&mut text), link.shutdown(PATIENCE));
    assert_eq!(read.unwrap(), 1_000_000);
}

/// The address reaches the kernel: it knows the family and says what is wrong, on machines with and without vsock.
#[tokio::test]
async fn a_vsock_without_a_listener_is_a_typed_error() {
    let mut link = link("vsock:3:4294967294".parse().unwrap());
    match next(&mut link).await {
        LinkEvent::Unavailable { error, first: true, .. } => {
            let kind = error.error_type();
            let io = match &error {
                LinkError::Io { source, .. } => source.raw_os_error(),
                _ => None,
            };
            // EAFNOSUPPORT (97): a kernel without vsock.
            let expected = ["CONNECTION_REFUSED", "DEVICE_NOT_FOUND"].contains(&kind) || io == Some(97);
            assert!(expected, "{error:?}");
        }
        other => panic!("{other:?}"),
    }
}

/// A host that has connected, asked and ended its half of the connection, as `socat` does at the end of its input.
async fn half_closed(link: &mut VirtioSerial, path: &Path) -> UnixStream {
    let mut host = UnixStream::connect(path).await.unwrap();
    attached(link).await;
    host.write_all(b"request\n").await.unwrap();
    host.shutdown().await.unwrap();
    until(link, |event| matches!(event, LinkEvent::Line { .. }).then_some(())).await;
    host
}

/// Simulated time passes only when nothing else can happen.
#[tokio::test(start_paused = true)]
async fn a_host_that_ends_its_half_of_the_connection_gets_its_answers_and_then_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (mut link, path) = listening(folder.path());
    opened(&mut link).await;
    let mut host = half_closed(&mut link, &path).await;
    for _ in 0..3 {
        let event = tokio::time::timeout(Duration::from_secs(1), link.next_event()).await;
        assert!(event.is_err(), "the session did not wait for the answer: {event:?}");
        link.send(Lane::Answer, b"answer\n".to_vec()).unwrap();
    }
    let asked = tokio::time::Instant::now();
    let mut text = String::new();
    while_running(&mut link, host.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "answer\nanswer\nanswer\n");
    assert!(asked.elapsed() < Duration::from_secs(3), "the end came after {:?}", asked.elapsed());
    let next_host = UnixStream::connect(&path).await.unwrap();
    attached(&mut link).await;
    drop(next_host);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_ended_its_half_is_not_written_to_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let (mut link, path) = listening(folder.path());
    opened(&mut link).await;
    for reads in [true, false] {
        let mut host = half_closed(&mut link, &path).await;
        let begin = tokio::time::Instant::now();
        let mut chunk = vec![0; 1 << 20];
        let mut ticks = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                event = link.next_event() => if matches!(event, LinkEvent::HostDetached) { break },
                _ = ticks.tick() => drop(link.send(Lane::Metrics, vec![b'm'; 900_000])),
                _ = host.read(&mut chunk), if reads => {}
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "it is written to without end, reading: {reads}");
        }
        assert!(begin.elapsed() < Duration::from_secs(11), "{:?}, reading: {reads}", begin.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_closes_is_gone_at_once_also_after_it_had_ended_its_half() {
    let folder = tempfile::tempdir().unwrap();
    let (mut link, path) = listening(folder.path());
    opened(&mut link).await;
    let host = half_closed(&mut link, &path).await;
    let whole = tokio::time::Instant::now();
    drop(host);
    until(&mut link, |event| matches!(event, LinkEvent::HostDetached).then_some(())).await;
    let host = UnixStream::connect(&path).await.unwrap();
    attached(&mut link).await;
    drop(host);
    until(&mut link, |event| matches!(event, LinkEvent::HostDetached).then_some(())).await;
    assert_eq!(whole.elapsed().as_millis(), 0);
}
