//! What the link's task and the service pass to each other, from the task's side.

use tokio::sync::{mpsc, watch};

use super::LinkEvent;
use super::outbox::{Lane, Unwritten};

/// What the service wants of the link besides lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directions {
    /// The attachment whose host has proved itself last.
    pub verified: u64,
    /// Nothing is to be read: the answers that wait already are as many as can be kept.
    pub pause_reading: bool,
}

/// A line on its way out.
#[derive(Debug)]
pub struct Outgoing {
    /// The line and the lane that it waited in.
    pub unwritten: Unwritten,
    /// The attachment of a host that it was meant for.
    pub attachment: u64,
}

/// A line that is being written.
#[derive(Debug)]
pub struct InFlight {
    outgoing: Outgoing,
    written: usize,
}

impl InFlight {
    /// What is left of it.
    pub fn rest(&self) -> &[u8] {
        &self.outgoing.unwritten.line[self.written..]
    }
}

/// The link's half of the channels. Events gather here and are handed over in batches, so that one full channel stops the reading
/// of the port and nothing else.
#[derive(Debug)]
pub struct Exchange {
    events: mpsc::Sender<Vec<LinkEvent>>,
    lines: mpsc::Receiver<Outgoing>,
    directions: watch::Receiver<Directions>,
    pending: Vec<LinkEvent>,
    in_flight: Option<InFlight>,
    /// Counts the hosts that came; the service counts the same events.
    attachment: u64,
    finishing: bool,
}

/// What the service did.
#[derive(Debug)]
pub enum FromService {
    /// It has a line to write, or none any more for ever.
    Line,
    /// It took the events.
    TookEvents,
    /// It accepted a signature, or wants reading to stop or go on.
    Directed,
    /// It is gone.
    Gone,
}

impl Exchange {
    /// The task's half.
    pub const fn new(
        events: mpsc::Sender<Vec<LinkEvent>>,
        lines: mpsc::Receiver<Outgoing>,
        directions: watch::Receiver<Directions>,
    ) -> Self {
        Self { events, lines, directions, pending: Vec::new(), in_flight: None, attachment: 0, finishing: false }
    }

    /// Tells the service, when it has room.
    pub fn tell(&mut self, event: LinkEvent) {
        if matches!(event, LinkEvent::HostAttached) {
            self.attach();
        }
        self.pending.push(event);
    }

    /// Whether the service has taken all that was told.
    pub fn is_flushed(&self) -> bool {
        self.pending.is_empty()
    }

    /// A host came. It has seen nothing of what was begun: an answer is written again from its start, metrics are out of date.
    fn attach(&mut self) {
        self.attachment += 1;
        match &mut self.in_flight {
            Some(line) if line.outgoing.unwritten.lane == Lane::Answer => line.written = 0,
            _ => self.in_flight = None,
        }
    }

    /// The line to write now, if there is one.
    pub fn outgoing(&mut self) -> Option<&InFlight> {
        while self.in_flight.is_none() {
            let outgoing = self.lines.try_recv().ok()?;
            self.start(outgoing);
        }
        self.in_flight.as_ref()
    }

    /// `bytes` of the line were written.
    pub fn wrote(&mut self, bytes: usize) {
        if let Some(line) = &mut self.in_flight {
            line.written += bytes;
        }
        if let Some(line) = self.in_flight.take_if(|line| line.rest().is_empty())
            && let Some(delivery) = line.outgoing.unwritten.delivery
        {
            delivery.written();
        }
    }

    fn start(&mut self, outgoing: Outgoing) {
        let stale = outgoing.unwritten.lane != Lane::Answer && outgoing.attachment != self.attachment;
        if !stale {
            self.in_flight = Some(InFlight { outgoing, written: 0 });
        }
    }

    /// Whether the service wants the link closed and everything that it handed over is written.
    pub fn is_finished(&self) -> bool {
        self.finishing && self.in_flight.is_none()
    }

    /// Whether the host that is there now has proved itself.
    pub fn is_verified(&self) -> bool {
        self.attachment > 0 && self.directions.borrow().verified == self.attachment
    }

    /// Whether lines may be read: the service has taken the last ones and has room for the answers to more.
    pub fn takes_lines(&self) -> bool {
        self.is_flushed() && !self.directions.borrow().pause_reading
    }

    /// Waits for the service. Lines are waited for only where they can be written (`wants_lines`). Nothing is lost when the future is
    /// dropped.
    pub async fn next(&mut self, wants_lines: bool) -> FromService {
        let wants_lines = wants_lines && self.in_flight.is_none() && !self.finishing;
        let line = tokio::select! {
            permit = self.events.reserve(), if !self.pending.is_empty() => {
                let Ok(permit) = permit else { return FromService::Gone };
                permit.send(std::mem::take(&mut self.pending));
                return FromService::TookEvents;
            }
            () = self.events.closed() => return FromService::Gone,
            changed = self.directions.changed() => {
                return if changed.is_ok() { FromService::Directed } else { FromService::Gone };
            }
            line = self.lines.recv(), if wants_lines => line,
        };
        match line {
            Some(outgoing) => self.start(outgoing),
            None => self.finishing = true,
        }
        FromService::Line
    }

    /// Waits for `work` while the service takes its events. `None`: the service is gone.
    pub async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                news = self.next(false) => if matches!(news, FromService::Gone) { return None },
            }
        }
    }

    /// Waits until the service has taken all events. `None`: the service is gone.
    pub async fn flush(&mut self) -> Option<()> {
        while !self.is_flushed() {
            if matches!(self.next(false).await, FromService::Gone) {
                return None;
            }
        }
        Some(())
    }
}
