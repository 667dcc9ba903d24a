//! The link with hosts that do not read, or leave in the middle.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::Path;
use std::time::Duration;

use infiniservice::communication::{Endpoint, Lane, LinkEvent, LinkSettings, NotSent, OutboxLimits, VirtioSerial};
use support::link::{PATIENCE, attached, listening, next, opened, until, while_running};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

#[tokio::test]
async fn an_answer_cut_by_a_leaving_host_is_written_again_in_full() {
    let folder = tempfile::tempdir().unwrap();
    let (mut link, path) = listening(folder.path());
    opened(&mut link).await;
    let mut host = UnixStream::connect(&path).await.unwrap();
    attached(&mut link).await;
    // More than a socket's buffer holds, so that the answer cannot be through when the host leaves.
    let answer: Vec<u8> = [vec![b'a'; 1_000_000], b"\n".to_vec()].concat();
    link.send(Lane::Metrics, b"first\n".to_vec()).unwrap();
    link.send(Lane::Answer, answer.clone()).unwrap();
    link.send(Lane::Metrics, b"stale\n".to_vec()).unwrap();
    let mut start = vec![0; 1000];
    while_running(&mut link, host.read_exact(&mut start)).await.unwrap();
    drop(host);
    until(&mut link, |event| matches!(event, LinkEvent::HostDetached).then_some(())).await;
    assert_eq!(link.send(Lane::Metrics, b"away\n".to_vec()), Err(NotSent::HostAway));
    link.send(Lane::Answer, b"later\n".to_vec()).unwrap();

    let mut host = UnixStream::connect(&path).await.unwrap();
    attached(&mut link).await;
    let mut got = vec![0; answer.len() + 6];
    while_running(&mut link, host.read_exact(&mut got)).await.unwrap();
    assert_eq!(got.len(), answer.len() + 6);
    assert!(got == [answer, b"later\n".to_vec()].concat(), "the answer did not come whole, or metrics came between");
}

#[tokio::test]
async fn a_host_that_never_reads_holds_up_nothing_and_loses_the_oldest_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let outbox =
        OutboxLimits { answer_bytes: 300_000, answer_reserve_bytes: 50_000, metrics_bytes: 1 << 20, metrics_lines: 4 };
    let mut link = VirtioSerial::spawn(LinkSettings {
        endpoint: Some(Endpoint::UnixListen(path.clone())),
        outbox,
        ..LinkSettings::default()
    });
    opened(&mut link).await;
    let mut host = UnixStream::connect(&path).await.unwrap();
    attached(&mut link).await;
    let line = |number: u8| [vec![b'0' + number; 250_000], b"\n".to_vec()].concat();
    let mut answers = 0;
    // The first answers go to the kernel and to the task; then the lane fills.
    let refused = loop {
        match link.send(Lane::Answer, line(answers)) {
            Ok(()) => answers += 1,
            Err(refused) => break refused,
        }
        // With the lane nearly full the host is not read from any more.
        if link.outbox().is_congested() {
            continue;
        }
        host.write_all(b"ping\n").await.unwrap();
        until(&mut link, |event| matches!(event, LinkEvent::Line { .. }).then_some(())).await;
    };
    assert!(matches!(refused, NotSent::Full(ref back) if *back == line(answers)), "the line did not come back");
    for sample in 0..9 {
        link.send(Lane::Metrics, format!("sample {sample}\n").into_bytes()).unwrap();
    }
    assert_eq!(link.outbox().dropped(), 5);

    let mut host = BufReader::new(host);
    let expected = usize::from(answers) + 4;
    let reading = async {
        let mut seen = vec![String::new(); expected];
        for text in &mut seen {
            host.read_line(text).await.unwrap();
        }
        seen
    };
    tokio::pin!(reading);
    let mut gap = 0;
    let seen = loop {
        tokio::select! {
            seen = &mut reading => break seen,
            event = link.next_event() => if let LinkEvent::Dropped { lines } = event { gap += lines },
        }
    };
    let answered: Vec<_> = (0..answers).map(|number| String::from_utf8(line(number)).unwrap()).collect();
    assert!(seen[..usize::from(answers)] == answered, "answers are out of order");
    assert_eq!(seen[usize::from(answers)..], ["sample 5\n", "sample 6\n", "sample 7\n", "sample 8\n"]);
    assert_eq!(gap, 5, "the gap was not reported");
}

#[tokio::test]
async fn a_service_that_does_not_listen_stops_the_reading() {
    let folder = tempfile::tempdir().unwrap();
    let (mut link, path) = listening(folder.path());
    opened(&mut link).await;
    let host = UnixStream::connect(&path).await.unwrap();
    attached(&mut link).await;
    // Lines until the socket takes no more: what is in flight is bounded by the socket's buffer and the two batches.
    let mut written = 0_usize;
    let line = [vec![b'x'; 999], b"\n".to_vec()].concat();
    let mut quiet = 0;
    while quiet < 1000 {
        match host.try_write(&line) {
            Ok(count) => (written, quiet) = (written + count, 0),
            Err(_) => {
                quiet += 1;
                tokio::task::yield_now().await;
            }
        }
        assert!(written < 8 << 20, "the link reads on without a reader");
    }
    let mut read = 0;
    while read < written / 1000 {
        match next(&mut link).await {
            LinkEvent::Line { line, .. } => {
                assert_eq!(line.len(), 999);
                read += 1;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn shutting_down_does_not_wait_for_a_host_that_does_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let (mut link, path) = listening(folder.path());
    opened(&mut link).await;
    let _host = UnixStream::connect(&path).await.unwrap();
    attached(&mut link).await;
    for _ in 0..10 {
        link.send(Lane::Answer, vec![b'a'; 1_000_000]).unwrap();
    }
    tokio::time::timeout(PATIENCE, link.shutdown(Duration::from_millis(20))).await.expect("it waits on");
    assert!(!path.exists(), "the task is still there");
}

#[tokio::test]
async fn five_hundred_random_disconnects_lose_no_later_line() {
    let folder = tempfile::tempdir().unwrap();
    let (mut link, path) = listening(folder.path());
    opened(&mut link).await;
    let seed = std::env::var("LINK_SEED").map_or_else(|_| getrandom::u32().unwrap(), |seed| seed.parse().unwrap());
    println!("LINK_SEED={seed}");
    let mut random = seed | 1;
    let mut draw = |below: u32| {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        random % below
    };
    for round in 0..500 {
        let mut host = UnixStream::connect(&path).await.unwrap();
        let garbage = vec![b'g'; draw(40_000) as usize];
        host.write_all(&garbage[..garbage.len().min(draw(40_000) as usize)]).await.unwrap();
        if draw(2) == 0 {
            attached(&mut link).await;
            let _ = link.send(Lane::Metrics, vec![b'm'; draw(400_000) as usize + 1]);
        }
        if draw(2) == 0 {
            let mut some = vec![0; draw(100_000) as usize + 1];
            let _ = host.try_read(&mut some);
        }
        drop(host);
        until(&mut link, |event| matches!(event, LinkEvent::HostDetached).then_some(())).await;
        if round % 50 == 49 {
            echo(&mut link, &path, round).await;
        }
    }
}

/// A whole exchange with a new host: what went before must not show.
async fn echo(link: &mut VirtioSerial, path: &Path, round: u32) {
    let mut host = BufReader::new(UnixStream::connect(path).await.unwrap());
    let question = format!("question {round}");
    host.get_mut().write_all(format!("{question}\n").as_bytes()).await.unwrap();
    until(link, |event| matches!(event, LinkEvent::Line { line, .. } if *line == question.as_bytes()).then_some(()))
        .await;
    link.send(Lane::Answer, format!("answer {round}\n").into_bytes()).unwrap();
    let mut text = String::new();
    while_running(link, host.read_line(&mut text)).await.unwrap();
    assert_eq!(text, format!("answer {round}\n"));
}

/// Simulated time passes only when nothing else can happen, so a time limit tells that both sides wait for each other.
#[tokio::test(start_paused = true)]
async fn a_host_that_writes_and_does_not_read_is_not_read_from_and_loses_no_answer() {
    const REQUESTS: usize = 8000;
    const ANSWER: usize = 1000;
    const PROMISED: usize = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let outbox = OutboxLimits { answer_bytes: 4 << 20, ..OutboxLimits::default() };
    let endpoint = Some(Endpoint::UnixListen(path.clone()));
    let mut link = VirtioSerial::spawn(LinkSettings { endpoint, outbox, ..LinkSettings::default() });
    opened(&mut link).await;
    let (mut from_agent, mut to_agent) = UnixStream::connect(&path).await.unwrap().into_split();
    attached(&mut link).await;
    let running = [link.reserve(PROMISED).unwrap(), link.reserve(PROMISED).unwrap()];
    let requests = format!("{:100}{{}}\n", "").repeat(REQUESTS);
    let writing = tokio::spawn(async move {
        to_agent.write_all(requests.as_bytes()).await.unwrap();
        to_agent
    });

    let mut answered = 0;
    let mut answer = |link: &mut VirtioSerial, event: LinkEvent| {
        let LinkEvent::Line { .. } = event else { panic!("{event:?}") };
        let mut line = vec![b'x'; ANSWER - 1];
        line.push(b'\n');
        let taken = link.send(Lane::Answer, line);
        assert!(taken.is_ok(), "the answer to request {answered} is lost");
        answered += 1;
    };
    while let Ok(event) = tokio::time::timeout(Duration::from_secs(1), link.next_event()).await {
        answer(&mut link, event);
    }
    assert!(!writing.is_finished(), "the agent read everything though nobody took its answers");

    let mut answers = vec![0; REQUESTS * ANSWER];
    let reading = from_agent.read_exact(&mut answers);
    tokio::pin!(reading);
    loop {
        tokio::select! {
            done = &mut reading => break done.map(|_| ()).unwrap(),
            event = link.next_event() => answer(&mut link, event),
        }
    }
    assert_eq!(answered, REQUESTS);
    for room in running {
        link.send_reserved(room, vec![b'x'; PROMISED]).unwrap();
    }
    assert!(writing.is_finished());
}
