//! One connection to one agent, through the socket of a QEMU character device.
//!
//! QEMU serves one client of such a socket at a time. Another one connects all the same and may send, but hears nothing until the
//! first has left. And a guest that has its port closed takes what it is sent into a buffer (about 233 kB) until nothing fits
//! any more. So silence is normal here, and sending never waits.

mod signer;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use infini_protocol::Timestamp;
use infini_protocol::agent::{AgentBody, AgentMessage};
use infini_protocol::envelope::{EnvelopeError, Key};
use infini_protocol::framing::{Frame, LineDecoder};
use infini_protocol::host::{HostMessage, Sessions};
use infini_protocol::limits::MAX_LINE_BYTES;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::task::coop::consume_budget;

use crate::bounds;
use crate::clock::GuestClock;
use crate::sanitize::excerpt;
use signer::Signer;
pub(crate) use signer::random_name;

/// What may wait for a guest that does not read: two of the longest lines.
const MAX_UNSENT_BYTES: usize = 2 * MAX_LINE_BYTES;

/// What one read takes at most.
const READ_BYTES: usize = 64 << 10;

/// How much of a guest's own words an error quotes, in characters.
const QUOTE: usize = 200;

/// What came out of the socket.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// A message. Its lists and texts are within [`bounds`].
    Message {
        /// What it says.
        message: Box<AgentMessage>,
        /// How long its line was.
        bytes: usize,
    },
    /// A line that is no message, with the reason fit for a terminal.
    Invalid(String),
    /// A line over the limit; it was skipped.
    TooLong {
        /// How long it was.
        bytes: u64,
    },
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No secret to sign with.
    #[error("there is no secret to sign with, and the agent takes nothing unsigned")]
    NoKey,
    /// Not connected now.
    #[error("the socket is not connected")]
    NotConnected,
    /// The guest has not read for so long that nothing more may wait.
    #[error("the guest does not read: {0} bytes wait for it already")]
    Congested(usize),
    /// The signed line would be over the protocol's limit.
    #[error("the message takes {0} bytes as a line, {MAX_LINE_BYTES} are allowed")]
    TooLong(usize),
    /// The message cannot be put into an envelope.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
}

/// A socket, the secret that belongs to it, what is known of the guest's clock, and the connection while there is one.
#[derive(Debug)]
pub struct Link {
    socket: PathBuf,
    signer: Option<Signer>,
    clock: GuestClock,
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    decoder: LineDecoder,
    /// Found in the last read and not handed out yet.
    found: VecDeque<Incoming>,
    unsent: VecDeque<u8>,
    heard_bytes: u64,
    /// Whether the next line may be the tail of one that another client got the beginning of.
    at_first_line: bool,
    /// A `\n` is due before the first line: a client before this one may have been killed in the middle of its own, and a guest that
    /// could not see the change would take both for one.
    line_break_due: bool,
}

impl Link {
    /// A link that is not connected yet. Without a key it can only listen.
    ///
    /// # Errors
    /// Where the system has no random numbers for nonces.
    pub fn new(socket: impl Into<PathBuf>, key: Option<Key>) -> Result<Self, getrandom::Error> {
        let signer = key.map(Signer::new).transpose()?;
        Ok(Self { socket: socket.into(), signer, clock: GuestClock::default(), connection: None })
    }

    /// The socket's path.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether messages can be signed.
    #[must_use]
    pub const fn has_key(&self) -> bool {
        self.signer.is_some()
    }

    /// What is known of the guest's clock; kept over connections.
    #[must_use]
    pub const fn clock(&self) -> GuestClock {
        self.clock
    }

    /// How many lines were ever signed.
    #[must_use]
    pub fn signed_lines(&self) -> u64 {
        self.signer.as_ref().map_or(0, Signer::count)
    }

    /// How many bytes came in this connection.
    #[must_use]
    pub fn heard_bytes(&self) -> u64 {
        self.connection.as_ref().map_or(0, |connection| connection.heard_bytes)
    }

    /// How many bytes wait to be sent.
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        self.connection.as_ref().map_or(0, |connection| connection.unsent.len())
    }

    /// Connects; a connection that was open is closed first.
    ///
    /// # Errors
    /// Those of `connect(2)`: the socket is missing, nobody listens, no permission.
    pub async fn connect(&mut self) -> io::Result<()> {
        self.connection = None;
        self.connection = Some(Connection::new(UnixStream::connect(&self.socket).await?));
        Ok(())
    }

    /// Signs a message in the guest's time and queues it. [`Link::next`] does the sending.
    ///
    /// # Errors
    /// Where there is no key or no connection, or where the guest has not read for long.
    pub fn send(&mut self, message: &HostMessage) -> Result<(), SendError> {
        self.send_in(&Sessions::default(), message)
    }

    /// The same, with the names of both sides' sessions in the payload, as everything carries that was negotiated.
    ///
    /// # Errors
    /// As with [`Link::send`].
    pub fn send_in(&mut self, sessions: &Sessions, message: &HostMessage) -> Result<(), SendError> {
        let connection = self.connection.as_mut().ok_or(SendError::NotConnected)?;
        let signer = self.signer.as_mut().ok_or(SendError::NoKey)?;
        let payload = sessions.payload(message).map_err(|error| EnvelopeError::Malformed(error.to_string()))?;
        let line = signer.seal(&payload, self.clock.now(host_now()))?;
        connection.queue(&line)
    }

    /// Sends what waits and gives what comes next. May be dropped at any time: nothing is lost.
    ///
    /// # Errors
    /// Where the connection ended, [`io::ErrorKind::UnexpectedEof`] when the other end closed it. It is gone then.
    pub async fn next(&mut self) -> io::Result<Incoming> {
        let connection = self.connection.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let incoming = match connection.next().await {
            Ok(incoming) => incoming,
            Err(error) => {
                self.connection = None;
                return Err(error);
            }
        };
        if let Incoming::Message { message, .. } = &incoming {
            self.clock.learn(message.timestamp, host_now());
        }
        Ok(incoming)
    }
}

impl Connection {
    fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            decoder: LineDecoder::new(MAX_LINE_BYTES),
            found: VecDeque::new(),
            unsent: VecDeque::new(),
            heard_bytes: 0,
            at_first_line: true,
            line_break_due: true,
        }
    }

    fn queue(&mut self, line: &[u8]) -> Result<(), SendError> {
        if line.len() > MAX_LINE_BYTES + 1 {
            return Err(SendError::TooLong(line.len() - 1));
        }
        if self.unsent.len() + line.len() > MAX_UNSENT_BYTES {
            return Err(SendError::Congested(self.unsent.len()));
        }
        if std::mem::take(&mut self.line_break_due) {
            self.unsent.push_back(b'\n');
        }
        self.unsent.extend(line);
        Ok(())
    }

    async fn next(&mut self) -> io::Result<Incoming> {
        loop {
            if let Some(incoming) = self.found.pop_front() {
                return Ok(incoming);
            }
            let interest =
                if self.unsent.is_empty() { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
            let ready = self.stream.ready(interest).await?;
            if ready.is_writable() {
                self.flush()?;
            }
            if ready.is_readable() {
                self.read()?;
                // A line without end gives nothing to return with, and must not keep others waiting either.
                consume_budget().await;
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.try_write(self.unsent.as_slices().0) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        let count = match self.stream.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        self.heard_bytes += count as u64;
        let Self { decoder, found, at_first_line, .. } = self;
        decoder.feed(&buffer[..count], |frame| {
            let first = std::mem::replace(at_first_line, false);
            match incoming(frame) {
                Incoming::Invalid(_) if first => {}
                incoming => found.push_back(incoming),
            }
        });
        Ok(())
    }
}

fn incoming(frame: Frame<'_>) -> Incoming {
    let line = match frame {
        Frame::TooLong { bytes } => return Incoming::TooLong { bytes },
        Frame::Line(line) => line,
    };
    match AgentMessage::parse(line) {
        Ok(mut message) => {
            if let AgentBody::Metrics(metrics) = &mut message.body {
                // The errors that say what was filled must be read before the list of them is cut.
                metrics.data = std::mem::take(&mut metrics.data).without_filled();
            }
            bounds::bound(&mut message.body);
            Incoming::Message { message: Box::new(message), bytes: line.len() }
        }
        Err(error) => Incoming::Invalid(excerpt(&error.to_string(), QUOTE)),
    }
}

/// The host's clock.
pub(crate) fn host_now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}
