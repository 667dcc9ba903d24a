//! Sessions over what stands in for a virtio-serial port. A pty's master says HUP while nobody has the slave open, as a port does
//! while no host is attached; where time is simulated a FIFO serves, since ptys hand data over on a kernel thread.

use std::cell::Cell;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::OptionalActions;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::communication::exchange::{Directions, Outgoing};
use crate::communication::outbox::{Lane, Unwritten};

/// A descriptor whose other side comes and goes.
struct Stand(OwnedFd);

impl AsFd for Stand {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl PortIo for Stand {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match rustix::io::read(&self.0, buffer) {
            // What a pty's master says where a virtio port gives an empty read.
            Err(Errno::IO) => Ok(0),
            other => Ok(other?),
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&self.0, bytes)?)
    }

    fn outlives_host(&self) -> bool {
        true
    }
}

struct Service {
    events: mpsc::Receiver<Vec<LinkEvent>>,
    lines: mpsc::Sender<Outgoing>,
    directions: watch::Sender<Directions>,
    waiting: std::collections::VecDeque<LinkEvent>,
}

impl Service {
    async fn next(&mut self) -> LinkEvent {
        while self.waiting.is_empty() {
            let batch = tokio::time::timeout(Duration::from_secs(20), self.events.recv()).await;
            self.waiting.extend(batch.expect("no event came").expect("the session ended"));
        }
        self.waiting.pop_front().unwrap()
    }

    async fn attached(&mut self) {
        let event = self.next().await;
        assert!(matches!(event, LinkEvent::HostAttached), "{event:?}");
    }

    async fn detached(&mut self) {
        let event = self.next().await;
        assert!(matches!(event, LinkEvent::HostDetached), "{event:?}");
    }

    async fn line(&mut self) -> (String, bool) {
        match self.next().await {
            LinkEvent::Line { line, first_after_attach } => (String::from_utf8(line).unwrap(), first_after_attach),
            other => panic!("{other:?}"),
        }
    }

    fn send(&self, lane: Lane, attachment: u64, line: &[u8]) {
        let unwritten = Unwritten { lane, line: line.to_vec(), delivery: None };
        self.lines.try_send(Outgoing { unwritten, attachment }).unwrap();
    }
}

/// Runs `test` against a session, and counts how often the session is woken.
async fn with_session<T>(
    port: OwnedFd,
    borrowed: bool,
    test: impl AsyncFnOnce(&mut Service, &Cell<usize>) -> T,
) -> (Option<End>, T) {
    let (event_sender, events) = mpsc::channel(2);
    let (lines, line_receiver) = mpsc::channel(1);
    let (directions, direction_receiver) = watch::channel(Directions::default());
    let mut exchange = Exchange::new(event_sender, line_receiver, direction_receiver);
    let mut service = Service { events, lines, directions, waiting: std::collections::VecDeque::new() };
    let polls = Rc::new(Cell::new(0));
    let counted = Rc::clone(&polls);
    let tasks = tokio::task::LocalSet::new();
    let session = tasks.spawn_local(async move {
        let mut session = Session::new(Stand(port), borrowed, 1000).unwrap();
        let run = session.run(&mut exchange, None);
        tokio::pin!(run);
        std::future::poll_fn(|context| {
            counted.set(counted.get() + 1);
            run.as_mut().poll(context)
        })
        .await
    });
    let outcome = tasks.run_until(test(&mut service, &polls)).await;
    let end = if session.is_finished() { Some(tasks.run_until(session).await.unwrap()) } else { None };
    (end, outcome)
}

fn pty() -> OwnedFd {
    let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    rustix::io::ioctl_fionbio(&master, true).unwrap();
    // A master hangs up only after its slave was open once.
    drop(host(&master));
    master
}

fn host(master: impl AsFd) -> File {
    let slave = rustix::pty::ioctl_tiocgptpeer(master, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    let mut settings = rustix::termios::tcgetattr(&slave).unwrap();
    settings.make_raw();
    rustix::termios::tcsetattr(&slave, OptionalActions::Now, &settings).unwrap();
    slave.into()
}

#[tokio::test]
async fn a_host_comes_leaves_and_comes_again() {
    let master = pty();
    let port = master.try_clone().unwrap();
    let (end, ()) = with_session(port, false, async |service, _| {
        for attachment in 1..=3 {
            let mut host = host(&master);
            // Unlike a virtio port, a pty tells of the other side only when it speaks.
            host.write_all(b"hello\nhalf").unwrap();
            service.attached().await;
            assert_eq!(service.line().await, ("hello".into(), true), "the half line before must be forgotten");
            service.send(Lane::Answer, attachment, b"answer\n");
            let mut text = [0; 8];
            tokio::task::spawn_blocking(move || host.read_exact(&mut text).map(|()| (text, host)))
                .await
                .unwrap()
                .map(|(text, _host)| assert_eq!(&text, b"\nanswer\n", "one line break after each attachment"))
                .unwrap();
            service.detached().await;
        }
    })
    .await;
    assert!(end.is_none(), "the session ended: {end:?}");
}

#[tokio::test]
async fn only_answers_of_an_earlier_attachment_are_written() {
    let master = pty();
    let port = master.try_clone().unwrap();
    with_session(port, false, async |service, _| {
        let mut first = host(&master);
        first.write_all(b"first\n").unwrap();
        service.attached().await;
        service.line().await;
        drop(first);
        service.detached().await;
        service.send(Lane::Metrics, 1, b"stale\n");
        let mut host = host(&master);
        host.write_all(b"second\n").unwrap();
        service.attached().await;
        service.line().await;
        while service.lines.capacity() == 0 {
            tokio::task::yield_now().await;
        }
        service.send(Lane::Answer, 1, b"kept\n");
        let mut text = [0; 6];
        let reading = tokio::task::spawn_blocking(move || host.read_exact(&mut text).map(|()| text));
        assert_eq!(&reading.await.unwrap().unwrap(), b"\nkept\n");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn nothing_wakes_the_session_while_the_host_is_away() {
    let master = pty();
    let port = master.try_clone().unwrap();
    with_session(port, false, async |_, polls| {
        // The port's present state is the first change; then there is silence, whatever the clock says.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = polls.get();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(polls.get() - before, 0, "wake-ups within the hour, after {before} at the start");
    })
    .await;
}

fn fifo() -> (tempfile::TempDir, std::path::PathBuf, OwnedFd) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("port");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
    let port = rustix::fs::open(&path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
    (folder, path, port)
}

async fn moment() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_borrowed_port_without_a_good_signature_is_given_back_after_90_seconds() {
    let (_folder, path, port) = fifo();
    let (end, ()) = with_session(port, true, async |service, _| {
        let mut host = File::options().write(true).open(&path).unwrap();
        host.write_all(b"nonsense\n").unwrap();
        service.attached().await;
        assert_eq!(service.line().await, ("nonsense".into(), true));
        tokio::time::sleep(SILENCE - Duration::from_secs(1)).await;
        assert!(!service.lines.is_closed(), "it was given back too early");
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(service.lines.is_closed(), "it is held for longer");
    })
    .await;
    assert!(matches!(end, Some(End::Silent)), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn each_host_on_a_borrowed_port_proves_itself() {
    let (_folder, path, port) = fifo();
    let (end, ()) = with_session(port, true, async |service, _| {
        let mut host = File::options().write(true).open(&path).unwrap();
        host.write_all(b"signed\n").unwrap();
        service.attached().await;
        service.line().await;
        service.directions.send_replace(Directions { verified: 1, pause_reading: false });
        moment().await;
        tokio::time::sleep(SILENCE * 40).await;
        drop(host);
        service.detached().await;
        tokio::time::sleep(SILENCE * 40).await;
        let mut next = File::options().write(true).open(&path).unwrap();
        next.write_all(b"another\n").unwrap();
        service.attached().await;
        service.line().await;
        tokio::time::sleep(SILENCE - Duration::from_secs(1)).await;
        assert!(!service.lines.is_closed(), "the next host got too little time");
        tokio::time::sleep(Duration::from_secs(2)).await;
    })
    .await;
    assert!(matches!(end, Some(End::Silent)), "{end:?}");
}

#[tokio::test]
async fn a_port_that_is_not_to_be_read_still_tells_that_its_host_left() {
    let master = pty();
    let port = master.try_clone().unwrap();
    with_session(port, false, async |service, _| {
        service.directions.send_replace(Directions { verified: 0, pause_reading: true });
        let mut host = host(&master);
        host.write_all(b"last words\n").unwrap();
        service.attached().await;
        drop(host);
        assert_eq!(service.line().await.0, "last words");
        service.detached().await;
    })
    .await;
}

#[tokio::test]
async fn on_a_borrowed_port_an_answer_waits_until_the_next_host_has_proved_itself() {
    let master = pty();
    let port = master.try_clone().unwrap();
    let verified = |attachment| Directions { verified: attachment, pause_reading: false };
    with_session(port, true, async |service, _| {
        let mut first = host(&master);
        first.write_all(b"signed\n").unwrap();
        service.attached().await;
        service.line().await;
        service.directions.send_replace(verified(1));
        drop(first);
        service.detached().await;
        service.send(Lane::Answer, 1, b"answer\n");

        let mut second = host(&master);
        second.write_all(b"who knows\n").unwrap();
        service.attached().await;
        service.line().await;
        second.write_all(b"signed\n").unwrap();
        service.line().await;
        assert_eq!(service.lines.capacity(), 0, "the answer was taken for a host that nobody knows");
        service.directions.send_replace(verified(2));
        let mut text = [0; 8];
        let read = tokio::task::spawn_blocking(move || second.read_exact(&mut text).map(|()| (text, second)));
        assert_eq!(&read.await.unwrap().unwrap().0, b"\nanswer\n");
    })
    .await;
}
