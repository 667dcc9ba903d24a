use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::broadcast::{self, Receiver, Sender, WeakSender};

use super::VmEvent;

/// How many events a slow listener may be behind before it loses the oldest.
const MOST_EVENTS: usize = 256;

/// How much may wait for the slowest listener, in bytes of the lines that the events came in. That is dozens of large samples, and
/// what a guest that means harm can make a host keep.
const MOST_BYTES: usize = 8 << 20;

/// Everything that happens to a machine, for one listener.
#[derive(Debug)]
pub struct Events(Receiver<Weak<VmEvent>>);

impl Events {
    /// Waits for the next event.
    ///
    /// # Errors
    /// Where this listener was so slow that it lost events, and once the machine is not followed any more.
    pub async fn recv(&mut self) -> Result<VmEvent, RecvError> {
        let event = self.0.recv().await?;
        event.upgrade().map(Arc::unwrap_or_clone).ok_or(RecvError::Lagged(1))
    }

    /// The next event, where there is one.
    ///
    /// # Errors
    /// As with [`Events::recv`], and where there is none.
    pub fn try_recv(&mut self) -> Result<VmEvent, TryRecvError> {
        let event = self.0.try_recv()?;
        event.upgrade().map(Arc::unwrap_or_clone).ok_or(TryRecvError::Lagged(1))
    }
}

/// Where listeners come from. It keeps nothing alive.
#[derive(Clone, Debug)]
pub struct Listeners(WeakSender<Weak<VmEvent>>);

impl Listeners {
    /// One that hears everything from now on.
    pub fn add(&self) -> Events {
        // A task that is over has no events: a channel without a sender says just that.
        Events(self.0.upgrade().map_or_else(|| broadcast::channel(1).1, |sender| sender.subscribe()))
    }
}

/// Tells every listener what happens. The channel bounds how many events wait; what they hold is kept here, where it can be counted.
#[derive(Debug)]
pub struct Teller {
    channel: Sender<Weak<VmEvent>>,
    waiting: VecDeque<(Arc<VmEvent>, usize)>,
    bytes: usize,
}

impl Teller {
    pub fn new() -> Self {
        Self { channel: broadcast::channel(MOST_EVENTS).0, waiting: VecDeque::new(), bytes: 0 }
    }

    /// For those who want to listen.
    pub fn listeners(&self) -> Listeners {
        Listeners(self.channel.downgrade())
    }

    /// Tells an event that came in a line of so many bytes, or in none.
    pub fn tell(&mut self, event: VmEvent, bytes: usize) {
        // What every listener has taken, or has lost already, waits for nobody.
        while self.waiting.len() > self.channel.len() {
            self.forget_oldest();
        }
        let event = Arc::new(event);
        if self.channel.send(Arc::downgrade(&event)).is_err() {
            // Nobody listens, and nobody has to.
            return;
        }
        self.waiting.push_back((event, bytes));
        self.bytes += bytes;
        while self.bytes > MOST_BYTES {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, bytes)) = self.waiting.pop_front() {
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(teller: &mut Teller, count: usize, bytes: usize) {
        for number in 0..count {
            teller.tell(VmEvent::InvalidLine(number.to_string()), bytes);
        }
    }

    /// The numbers of the events that come, and how often the listener was told that it lost some.
    fn heard(events: &mut Events) -> (Vec<usize>, usize) {
        let (mut numbers, mut lost) = (Vec::new(), 0);
        loop {
            match events.try_recv() {
                Ok(VmEvent::InvalidLine(number)) => numbers.push(number.parse().unwrap()),
                Ok(other) => panic!("{other:?}"),
                Err(TryRecvError::Lagged(_)) => lost += 1,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return (numbers, lost),
            }
        }
    }

    #[test]
    fn a_slow_listener_keeps_the_newest_of_large_events() {
        let mut teller = Teller::new();
        let mut events = teller.listeners().add();
        told(&mut teller, 100, 1 << 20);
        assert_eq!((teller.waiting.len(), teller.bytes), (8, MOST_BYTES));
        assert_eq!(heard(&mut events), ((92..100).collect(), 92));
        told(&mut teller, 1, 0);
        assert_eq!(teller.waiting.len(), 1, "what was heard is not kept");
    }

    #[test]
    fn small_events_are_bounded_by_their_number() {
        let mut teller = Teller::new();
        let mut events = teller.listeners().add();
        told(&mut teller, 10_000, 100);
        assert!(teller.waiting.len() <= MOST_EVENTS + 1, "{} wait", teller.waiting.len());
        assert_eq!(heard(&mut events), ((10_000 - MOST_EVENTS..10_000).collect(), 1));
    }

    #[test]
    fn without_a_listener_nothing_is_kept() {
        let mut teller = Teller::new();
        told(&mut teller, 10, 1 << 20);
        assert_eq!((teller.waiting.len(), teller.bytes), (0, 0));
        let events = teller.listeners().add();
        told(&mut teller, 2, 1 << 20);
        drop(events);
        told(&mut teller, 1, 1 << 20);
        assert_eq!((teller.waiting.len(), teller.bytes), (0, 0));
    }

    #[tokio::test]
    async fn the_end_is_told() {
        let teller = Teller::new();
        let listeners = teller.listeners();
        let mut events = listeners.add();
        drop(teller);
        assert!(matches!(events.recv().await, Err(RecvError::Closed)));
        assert!(matches!(listeners.add().recv().await, Err(RecvError::Closed)));
    }
}
