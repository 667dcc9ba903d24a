//! An agent that says what a test tells it to, behind a socket like QEMU's.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use infini_protocol::agent::{AgentBody, AgentMessage, ErrorDetails, ErrorMessage, Handshake, KeepAlive, Metrics};
use infini_protocol::envelope::{self, Key};
use infini_protocol::host::HostMessage;
use infini_protocol::metrics::MetricsData;
use infini_protocol::{ErrorCode, Timestamp};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, spawn_blocking};

/// The secret that both sides share.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A bound for what should happen at once: a test that waits longer has failed.
pub const SOON: Duration = Duration::from_secs(20);

/// The key of [`SECRET`].
pub fn key() -> Key {
    Key::new(SECRET).unwrap()
}

/// The socket, and who listens on it.
pub struct FakeAgent {
    dir: TempDir,
    listener: UnixListener,
}

impl FakeAgent {
    /// Listens in a directory of its own.
    pub fn listen() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("vm.sock")).unwrap();
        Self { dir, listener }
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("vm.sock")
    }

    /// A directory that goes away with the agent.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The next client.
    pub async fn accept(&self) -> Peer {
        Peer::new(self.listener.accept().await.unwrap().0)
    }

    /// Sends this to the first client again and again until told to stop, and gives whether it was told in time. On a thread of its own: what
    /// is tried is whether the test's own gets a turn.
    pub fn flood(&self, text: String, stop: Arc<AtomicBool>) -> JoinHandle<bool> {
        let listener = std::os::unix::net::UnixListener::from(self.listener.as_fd().try_clone_to_owned().unwrap());
        listener.set_nonblocking(false).unwrap();
        spawn_blocking(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let start = Instant::now();
            while start.elapsed() < SOON && !stop.load(Ordering::Relaxed) && stream.write_all(text.as_bytes()).is_ok() {
            }
            start.elapsed() < SOON
        })
    }

    /// Goes away with its socket file and comes back under the same name when called again.
    pub fn vanish(self) -> Gone {
        std::fs::remove_file(self.socket()).unwrap();
        Gone { dir: self.dir }
    }
}

/// What is left of an agent whose socket vanished.
pub struct Gone {
    dir: TempDir,
}

impl Gone {
    /// Listens again.
    pub fn listen(self) -> FakeAgent {
        let listener = UnixListener::bind(self.dir.path().join("vm.sock")).unwrap();
        FakeAgent { dir: self.dir, listener }
    }
}

/// One connection as the agent sees it.
pub struct Peer {
    lines: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    key: Key,
    clock_offset_ms: i64,
}

/// A host's message and the time that it was signed with.
#[derive(Debug)]
pub struct Signed {
    /// The signer's clock.
    pub ts: u64,
    /// Unique.
    pub nonce: String,
    /// What was signed.
    pub payload: String,
    /// The same, read.
    pub message: HostMessage,
}

impl Peer {
    fn new(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self { lines: BufReader::new(reader), writer, key: key(), clock_offset_ms: 0 }
    }

    /// With a clock that is off by this much.
    pub fn with_clock_off(self, offset_ms: i64) -> Self {
        Self { clock_offset_ms: offset_ms, ..self }
    }

    /// The guest's clock.
    pub fn now(&self) -> Timestamp {
        let host = Timestamp::from_system_time(SystemTime::now()).unix_ms();
        Timestamp::from_unix_ms(host.saturating_add_signed(self.clock_offset_ms))
    }

    /// Says something.
    pub async fn say(&mut self, body: AgentBody) {
        let message = AgentMessage { timestamp: self.now(), body };
        let mut line = serde_json::to_vec(&message).unwrap();
        line.push(b'\n');
        self.raw(&line).await;
    }

    /// Writes bytes as they are.
    pub async fn raw(&mut self, bytes: &[u8]) {
        tokio::time::timeout(SOON, self.writer.write_all(bytes)).await.expect("the host does not read").unwrap();
    }

    /// What the host says next, as it comes; nothing where it has left.
    pub async fn bytes(&mut self) -> Vec<u8> {
        let read = tokio::time::timeout(SOON, self.lines.fill_buf()).await.expect("the host says nothing");
        let bytes = read.unwrap().to_vec();
        self.lines.consume(bytes.len());
        bytes
    }

    /// The host's next line that is not blank, whose signature must be good.
    pub async fn hear(&mut self) -> Signed {
        let mut line = String::new();
        while line.trim_end().is_empty() {
            line.clear();
            let read = tokio::time::timeout(SOON, self.lines.read_line(&mut line)).await;
            assert!(read.expect("the host says nothing").unwrap() > 0, "the host closed the connection");
        }
        let opened = envelope::open(&self.key, line.trim_end().as_bytes()).unwrap_or_else(|e| panic!("{e}: {line}"));
        let message = HostMessage::parse(opened.payload.as_bytes()).unwrap();
        Signed { ts: opened.ts, nonce: opened.nonce.into_owned(), payload: opened.payload.into_owned(), message }
    }

    /// The host's next line that asks for a sample.
    pub async fn hear_request(&mut self) -> Signed {
        loop {
            let signed = self.hear().await;
            if signed.message == (HostMessage::Metrics {}) {
                return signed;
            }
        }
    }

    /// The same, after having answered whether somebody is there: an agent that knows the secret.
    pub async fn take_request(&mut self) -> Signed {
        loop {
            let signed = self.hear().await;
            match &signed.message {
                HostMessage::Metrics {} => return signed,
                HostMessage::KeepAliveRequest(request) => {
                    let sequence_number = request.sequence_number;
                    self.say(AgentBody::KeepAlive(KeepAlive { sequence_number })).await;
                }
                _ => {}
            }
        }
    }

    /// The host's next command, raw or safe, or the next line that takes one back or brings scripts, after having done with all before
    /// it what an agent does: answered whether somebody is there, and greeted.
    pub async fn hear_order(&mut self, greeting: &Handshake) -> Signed {
        loop {
            let signed = self.hear().await;
            match &signed.message {
                HostMessage::Hello(_) => self.say(AgentBody::Handshake(greeting.clone())).await,
                HostMessage::KeepAliveRequest(request) => {
                    let sequence_number = request.sequence_number;
                    self.say(AgentBody::KeepAlive(KeepAlive { sequence_number })).await;
                }
                HostMessage::Metrics {} | HostMessage::HandshakeAck(_) | HostMessage::KeepAliveResponse(_) => {}
                _ => return signed,
            }
        }
    }

    /// Waits until the host closes the connection, reading and dropping what it still says.
    pub async fn closed(&mut self) {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(SOON, self.lines.read_to_end(&mut rest)).await;
        // A reset is an end, too: unread bytes on the other side make one.
        drop(read.expect("the host does not leave"));
    }
}

/// A handshake of a machine with this id.
pub fn handshake(vm_id: &str) -> AgentBody {
    AgentBody::Handshake(greeting(vm_id))
}

/// What is in it.
pub fn greeting(vm_id: &str) -> Handshake {
    Handshake {
        vm_id: vm_id.to_owned(),
        version: "0.1.0".to_owned(),
        platform: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        hostname: "guest".to_owned(),
        boot_id: "boot".to_owned(),
        session_id: "session".to_owned(),
        protocol_version: 2,
        capabilities: Vec::new(),
    }
}

/// A sample.
pub fn metrics(data: MetricsData) -> AgentBody {
    AgentBody::Metrics(Box::new(Metrics { data }))
}

/// A line of the host is not believed.
pub fn refused(why: &str) -> ErrorMessage {
    ErrorMessage {
        error: "refused".to_owned(),
        details: ErrorDetails {
            component: "auth".to_owned(),
            error_code: ErrorCode::AuthFailed,
            message: why.to_owned(),
            dropped: None,
        },
    }
}
