//! One open port, from opening to closing.

use std::io;
use std::time::Duration;

use infini_protocol::framing::{Frame, LineDecoder};
use tokio::time::Instant;

use super::LinkEvent;
use super::exchange::{Exchange, FromService};
use super::platform::{PortIo, Readiness, Ready, Watch};

/// The driver hands out at most a page a read; a chunk of this size is a batch of events that memory can bear.
const READ_BYTES: usize = 16 << 10;

/// How long a borrowed port may stay without a good signature.
pub const SILENCE: Duration = Duration::from_secs(90);

/// How long a host that has ended its own half of a connection is still written to after the last answer. A sample takes a second
/// where the machine is busy.
const QUIET: Duration = Duration::from_secs(2);

/// How long it is written to at most: the next host waits for its end.
const LINGER: Duration = Duration::from_secs(10);

/// Why a session ended.
#[derive(Debug)]
pub enum End {
    /// The service wants no link any more.
    Stopped,
    /// The other side closed, or the device vanished.
    Closed,
    /// The borrowed port brought no good signature in time.
    Silent,
    /// The folder of ports changed while the port is a borrowed one.
    PortsChanged,
    /// The system failed.
    Failed(io::Error),
}

/// An open port and what is known of its other side.
#[derive(Debug)]
pub struct Session<P> {
    port: P,
    readiness: Readiness,
    decoder: LineDecoder,
    buffer: Vec<u8>,
    attached: bool,
    readable: bool,
    writable: bool,
    hung_up: bool,
    /// A `\n` is due before the next line: what an agent or a host before us left half written must not spoil it.
    line_break_due: bool,
    first_line: bool,
    /// With a borrowed port, until when a host must have proved itself.
    silent_until: Option<Instant>,
    borrowed: bool,
    /// The host says nothing more but reads what it is still owed.
    last_answers: Option<LastAnswers>,
}

/// The time that is left for them.
#[derive(Clone, Copy, Debug)]
struct LastAnswers {
    quiet_until: Instant,
    end: Instant,
}

enum News {
    Port(io::Result<Ready>),
    Service(FromService),
    Silent,
    Answered,
    PortsChanged,
    More,
}

impl<P: PortIo> Session<P> {
    /// Begins with a port that was just opened.
    pub fn new(port: P, borrowed: bool, max_line_bytes: usize) -> io::Result<Self> {
        Ok(Self {
            readiness: Readiness::new(&port)?,
            port,
            decoder: LineDecoder::new(max_line_bytes),
            buffer: vec![0; READ_BYTES],
            attached: false,
            readable: false,
            writable: false,
            hung_up: false,
            line_break_due: false,
            first_line: true,
            silent_until: borrowed.then(|| Instant::now() + SILENCE),
            borrowed,
            last_answers: None,
        })
    }

    /// Carries lines both ways until the end. `ports` is watched while the port is a borrowed one.
    pub async fn run(&mut self, exchange: &mut Exchange, mut ports: Option<&mut Watch>) -> End {
        if !self.port.outlives_host() {
            self.attach(exchange);
        }
        loop {
            let more = match self.step(exchange) {
                Ok(more) => more,
                Err(end) => return end,
            };
            if exchange.is_finished() {
                return End::Stopped;
            }
            match self.wait(exchange, ports.as_deref_mut(), more).await {
                News::Port(Ok(ready)) => self.note(ready, exchange),
                News::Port(Err(error)) => return End::Failed(error),
                News::Service(FromService::Gone) => return End::Stopped,
                News::Service(FromService::Directed) if exchange.is_verified() => self.silent_until = None,
                News::Service(_) | News::More => {}
                News::Silent => return End::Silent,
                News::Answered => return End::Closed,
                News::PortsChanged => return End::PortsChanged,
            }
        }
    }

    async fn wait(&self, exchange: &mut Exchange, ports: Option<&mut Watch>, more: bool) -> News {
        let wants_lines = self.may_write(exchange);
        tokio::select! {
            news = exchange.next(wants_lines) => News::Service(news),
            ready = self.readiness.changed() => News::Port(ready),
            () = sleep_until(self.silent_until) => News::Silent,
            () = sleep_until(self.last_answers.map(LastAnswers::over_at)) => News::Answered,
            () = changed(ports) => News::PortsChanged,
            // A port that always has more must not keep the rest of the agent from running.
            () = tokio::task::yield_now(), if more => News::More,
        }
    }

    /// One read and one write, where they are possible. Says whether there may be more to do at once.
    fn step(&mut self, exchange: &mut Exchange) -> Result<bool, End> {
        if self.may_read(exchange) {
            self.read(exchange)?;
        }
        if self.may_write(exchange) {
            self.write(exchange)?;
        }
        let has_more = self.may_write(exchange) && exchange.outgoing().is_some();
        Ok(self.may_read(exchange) || has_more)
    }

    /// An answer that waits for the next host must not go to one that on a borrowed port has not proved itself.
    fn may_write(&self, exchange: &Exchange) -> bool {
        self.attached && self.writable && (!self.borrowed || exchange.is_verified())
    }

    /// What a host that left has still written is read in any case: its end, which comes behind it, must be seen.
    fn may_read(&self, exchange: &Exchange) -> bool {
        self.readable && (exchange.takes_lines() || self.hung_up && exchange.is_flushed())
    }

    fn note(&mut self, ready: Ready, exchange: &mut Exchange) {
        self.readable |= ready.readable;
        self.writable |= ready.writable;
        self.hung_up |= ready.hung_up;
        if !ready.hung_up && !self.attached {
            self.attach(exchange);
        }
    }

    fn read(&mut self, exchange: &mut Exchange) -> Result<(), End> {
        match self.port.read(&mut self.buffer) {
            Ok(0) => self.end_of_stream(exchange),
            Ok(count) => {
                self.decode(count, exchange);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                if std::mem::take(&mut self.hung_up) && self.attached && self.port.outlives_host() {
                    // The host left and another was there before we looked.
                    exchange.tell(LinkEvent::HostDetached);
                    self.attach(exchange);
                }
                Ok(())
            }
            Err(error) => interrupted(error),
        }
    }

    /// The driver says that no host is there. After hundreds of fast reconnects it may say so wrongly, because the hypervisor's
    /// notice of the last one was lost: lines then still arrive, nothing can be written, and the host's next reconnect mends it.
    fn end_of_stream(&mut self, exchange: &mut Exchange) -> Result<(), End> {
        self.readable = false;
        if !self.port.outlives_host() {
            return self.end_of_requests();
        }
        self.hung_up = false;
        if std::mem::take(&mut self.attached) {
            exchange.tell(LinkEvent::HostDetached);
        }
        Ok(())
    }

    /// A connection's host ends its half of it (shutdown(2)), and with a hang-up the other half, too: then nobody reads any more.
    fn end_of_requests(&mut self) -> Result<(), End> {
        if self.hung_up {
            return Err(End::Closed);
        }
        self.last_answers.get_or_insert_with(|| LastAnswers::from(Instant::now()));
        Ok(())
    }

    fn decode(&mut self, count: usize, exchange: &mut Exchange) {
        let first_line = &mut self.first_line;
        self.decoder.feed(&self.buffer[..count], |frame| {
            let first_after_attach = std::mem::take(first_line);
            exchange.tell(match frame {
                Frame::Line(line) => LinkEvent::Line { line: line.to_vec(), first_after_attach },
                Frame::TooLong { bytes } => LinkEvent::TooLong { bytes },
            });
        });
    }

    fn attach(&mut self, exchange: &mut Exchange) {
        self.attached = true;
        self.decoder.reset();
        self.first_line = true;
        self.line_break_due = self.port.outlives_host();
        if self.borrowed && self.silent_until.is_none() {
            self.silent_until = Some(Instant::now() + SILENCE);
        }
        exchange.tell(LinkEvent::HostAttached);
    }

    fn write(&mut self, exchange: &mut Exchange) -> Result<(), End> {
        let Some(line) = exchange.outgoing() else { return Ok(()) };
        let bytes = if self.line_break_due { b"\n" } else { line.rest() };
        match self.port.write(bytes) {
            Ok(_) if self.line_break_due => self.line_break_due = false,
            Ok(count) => {
                exchange.wrote(count);
                self.last_answers = self.last_answers.map(|last| last.answered_at(Instant::now()));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && self.last_answers.is_some() => {
                return Err(End::Closed);
            }
            // What the host wrote before it closed is still to be read; the end of the stream comes behind it.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.writable = false;
                self.readable = true;
            }
            Err(error) => return interrupted(error),
        }
        Ok(())
    }
}

impl LastAnswers {
    fn from(now: Instant) -> Self {
        Self { quiet_until: now + QUIET, end: now + LINGER }
    }

    fn answered_at(self, now: Instant) -> Self {
        Self { quiet_until: now + QUIET, ..self }
    }

    fn over_at(self) -> Instant {
        self.quiet_until.min(self.end)
    }
}

fn interrupted(error: io::Error) -> Result<(), End> {
    match error.kind() {
        io::ErrorKind::Interrupted => Ok(()),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Err(End::Closed),
        _ => match rustix::io::Errno::from_io_error(&error) {
            // ENODEV: a virtio port that was unplugged. EIO: a tty whose line or other end is gone.
            Some(rustix::io::Errno::NODEV | rustix::io::Errno::IO) => Err(End::Closed),
            _ => Err(End::Failed(error)),
        },
    }
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

async fn changed(ports: Option<&mut Watch>) {
    match ports {
        // A watch that failed tells nothing any more; the retry interval still finds the port.
        Some(ports) => match ports.changed().await {
            Ok(()) => {}
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
