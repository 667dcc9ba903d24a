//! The link with the host: one virtio-serial port (or what stands in for one), found, opened, watched and found again.
//!
//! [`VirtioSerial`] is the service's handle. A task of its own owns the port; the two pass each other events and one line at a time,
//! so a host that does not read, or a service that does not listen, holds up nothing but itself.
//!
//! - [`detect`]: which port is ours, and why the others are not
//! - [`outbox`]: what waits to be written; [`receipt`]: that it was
//! - `task`: finding, losing and finding a port again; `session`: one open port; `exchange`: the channels between
//! - `linux`: system calls

pub mod backoff;
pub mod detect;
mod endpoint;
mod error;
mod event;
mod exchange;
pub mod outbox;
pub mod receipt;
mod session;
mod task;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as platform;

use std::collections::VecDeque;
use std::time::Duration;

use infini_protocol::limits::MAX_LINE_BYTES;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub use detect::{BorrowPolicy, DeviceRoots};
pub use endpoint::{Endpoint, ParseEndpointError};
pub use error::{Holder, LinkError};
pub use event::{LinkEvent, NotSent, PortDescription};
pub use outbox::{Lane, Outbox, OutboxLimits, Reservation, Unwritten};
pub use receipt::{Delivery, Receipt};

use exchange::{Directions, Exchange, Outgoing};
use task::LinkTask;

/// Batches of events between the task and the service. A batch holds the lines of one read, at most one long line and 16 KiB of
/// short ones, so this bounds their bytes too.
const BATCHES: usize = 2;

/// How the link is to behave.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// Where the host is; `None` looks for a port.
    pub endpoint: Option<Endpoint>,
    /// Whether a port that is not named for this agent may be used.
    pub borrow: BorrowPolicy,
    /// The longest line, both ways, without its `\n`.
    pub max_line_bytes: usize,
    /// What may wait to be written.
    pub outbox: OutboxLimits,
    /// Where devices are found.
    pub roots: DeviceRoots,
}

impl Default for LinkSettings {
    fn default() -> Self {
        Self {
            endpoint: None,
            borrow: BorrowPolicy::default(),
            max_line_bytes: MAX_LINE_BYTES,
            outbox: OutboxLimits::default(),
            roots: DeviceRoots::default(),
        }
    }
}

/// The service's handle on the link.
#[derive(Debug)]
pub struct VirtioSerial {
    events: mpsc::Receiver<Vec<LinkEvent>>,
    lines: mpsc::Sender<Outgoing>,
    directions: watch::Sender<Directions>,
    task: JoinHandle<()>,
    outbox: Outbox,
    max_line_bytes: usize,
    arrived: VecDeque<LinkEvent>,
    /// Counts the hosts that came, as the task does: a line says which of them it is for.
    attachment: u64,
    /// Somebody waits for so much room in the answers lane.
    wanted_room: Option<usize>,
    attached: bool,
    borrowed: bool,
}

impl VirtioSerial {
    /// Starts the link's task on the current Tokio runtime.
    #[must_use]
    pub fn spawn(settings: LinkSettings) -> Self {
        let (outbox, max_line_bytes) = (settings.outbox, settings.max_line_bytes);
        Self::with_task(outbox, max_line_bytes, |exchange| tokio::spawn(LinkTask::new(settings, exchange).run()))
    }

    fn with_task(outbox: OutboxLimits, max_line_bytes: usize, start: impl FnOnce(Exchange) -> JoinHandle<()>) -> Self {
        let (event_sender, events) = mpsc::channel(BATCHES);
        let (lines, line_receiver) = mpsc::channel(1);
        let (directions, direction_receiver) = watch::channel(Directions::default());
        let task = start(Exchange::new(event_sender, line_receiver, direction_receiver));
        let outbox = Outbox::new(outbox);
        Self {
            events,
            lines,
            directions,
            task,
            outbox,
            max_line_bytes,
            arrived: VecDeque::new(),
            attachment: 0,
            wanted_room: None,
            attached: false,
            borrowed: false,
        }
    }

    /// A link on which these things happen, and then nothing more.
    #[cfg(test)]
    pub(crate) fn on_which(events: Vec<LinkEvent>) -> Self {
        let LinkSettings { outbox, max_line_bytes, .. } = LinkSettings::default();
        Self::with_task(outbox, max_line_bytes, |mut exchange| {
            events.into_iter().for_each(|event| exchange.tell(event));
            tokio::spawn(async move { exchange.meanwhile(std::future::pending()).await.unwrap_or_default() })
        })
    }

    /// Waits for the next event, and hands waiting lines over meanwhile. Nothing is lost when the future is dropped.
    pub async fn next_event(&mut self) -> LinkEvent {
        loop {
            if let Some(event) = self.arrived.pop_front() {
                self.note(&event);
                return event;
            }
            let speaks = self.may_speak() && !self.outbox.is_empty();
            tokio::select! {
                permit = self.lines.reserve(), if speaks && !self.lines.is_closed() => drop(permit),
                batch = self.events.recv() => match batch {
                    Some(batch) => self.arrived.extend(batch),
                    // The task ends only after this handle. Had it panicked, the process would have ended with it.
                    None => std::future::pending().await,
                },
            }
            self.hand_over();
        }
    }

    /// Takes a line with its `\n`. Never waits: it goes out when the host takes it.
    ///
    /// # Errors
    /// Where the line is not taken.
    pub fn send(&mut self, lane: Lane, line: Vec<u8>) -> Result<(), NotSent> {
        self.check_length(&line)?;
        match lane {
            Lane::Answer => self.outbox.push_answer(line).map_err(NotSent::Full)?,
            Lane::Session | Lane::Metrics if !self.may_speak() => return Err(NotSent::HostAway),
            Lane::Session => self.outbox.push_session(line),
            Lane::Metrics => self.outbox.push_metrics(line),
        }
        self.hand_over();
        Ok(())
    }

    /// Takes the answer that room was reserved for.
    ///
    /// # Errors
    /// Where the line is over the limit, or longer than what was reserved and the rest does not fit.
    pub fn send_reserved(&mut self, reservation: Reservation, line: Vec<u8>) -> Result<(), NotSent> {
        self.check_length(&line)?;
        self.outbox.push_reserved(reservation, line).map_err(NotSent::Full)?;
        self.hand_over();
        Ok(())
    }

    /// Sets room aside in the answers lane, before the work that makes the answer starts.
    pub fn reserve(&mut self, bytes: usize) -> Option<Reservation> {
        let reservation = self.outbox.reserve(bytes);
        self.steer();
        reservation
    }

    /// Has [`LinkEvent::Room`] come once so many bytes could be reserved; `None` wants it no more.
    pub fn tell_room(&mut self, bytes: Option<usize>) {
        self.wanted_room = bytes;
    }

    /// A line with a good signature came: a borrowed port may speak to the host that is there now.
    pub fn verified(&mut self) {
        if self.attached {
            self.directions.send_modify(|directions| directions.verified = self.attachment);
            self.hand_over();
        }
    }

    /// Whether a host is there that may be spoken to.
    #[must_use]
    pub fn may_speak(&self) -> bool {
        self.attached && (!self.borrowed || self.directions.borrow().verified == self.attachment)
    }

    /// What waits to be written.
    #[must_use]
    pub const fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Writes what the host takes until `deadline` is over, and closes the port.
    pub async fn shutdown(mut self, deadline: Duration) {
        // What is not written by then has no reader.
        let _ = tokio::time::timeout(deadline, self.flush()).await;
        let Self { events, lines, directions, task, .. } = self;
        drop((events, lines, directions));
        let abort = task.abort_handle();
        if tokio::time::timeout(Duration::from_secs(1), task).await.is_err() {
            abort.abort();
        }
    }

    /// Hands all lines over and waits until the task has written them, or the host left.
    async fn flush(&mut self) {
        self.note_arrived();
        while self.may_speak() && !self.outbox.is_empty() {
            let speaks = tokio::select! {
                permit = self.lines.reserve() => permit.is_ok(),
                batch = self.events.recv() => batch.map(|batch| self.arrived.extend(batch)).is_some(),
            };
            if !speaks {
                return;
            }
            self.hand_over();
            self.note_arrived();
        }
        // Dropping the sender tells the task that no line follows; it ends when the last one is written.
        let (closed, _) = mpsc::channel(1);
        self.lines = closed;
        while self.may_speak() {
            let Some(batch) = self.events.recv().await else { return };
            self.arrived.extend(batch);
            self.note_arrived();
        }
    }

    fn note_arrived(&mut self) {
        while let Some(event) = self.arrived.pop_front() {
            self.note(&event);
        }
    }

    fn check_length(&self, line: &[u8]) -> Result<(), NotSent> {
        let content = line.len() - usize::from(line.ends_with(b"\n"));
        if content > self.max_line_bytes { Err(NotSent::TooLong(content)) } else { Ok(()) }
    }

    fn note(&mut self, event: &LinkEvent) {
        match event {
            LinkEvent::Opened { port } => self.borrowed = port.borrowed,
            LinkEvent::HostAttached => {
                self.attached = true;
                self.attachment += 1;
            }
            LinkEvent::HostDetached | LinkEvent::Closed { .. } => {
                self.attached = false;
                self.outbox.host_left();
            }
            _ => {}
        }
        self.steer();
    }

    fn hand_over(&mut self) {
        self.pass_line();
        self.steer();
    }

    /// Has the port read only while there is room for answers. Where nobody may be answered, reading is what can change that.
    fn steer(&self) {
        let pause = self.outbox.is_congested() && self.may_speak();
        self.directions.send_if_modified(|directions| std::mem::replace(&mut directions.pause_reading, pause) != pause);
    }

    fn pass_line(&mut self) {
        if !self.may_speak() || self.outbox.is_empty() {
            return;
        }
        let Ok(permit) = self.lines.try_reserve() else { return };
        if let Some(unwritten) = self.outbox.pop() {
            permit.send(Outgoing { unwritten, attachment: self.attachment });
        }
        if self.wanted_room.is_some_and(|bytes| self.outbox.can_reserve(bytes)) {
            self.wanted_room = None;
            self.arrived.push_back(LinkEvent::Room);
        }
        let lines = self.outbox.take_gap();
        if lines > 0 {
            self.arrived.push_back(LinkEvent::Dropped { lines });
        }
    }
}
