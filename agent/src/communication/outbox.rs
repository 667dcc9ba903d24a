//! What waits to be written: what the session needs first, then answers, then metrics; each lane bounded.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::receipt::{Delivery, Receipt};

/// Which queue a line waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Goes first, and means something only to the host that is there now: handshakes, keep-alives. Gone with that host.
    Session,
    /// Never dropped, kept for the next host if need be: answers to commands.
    Answer,
    /// Dropped when the host is away or too slow, oldest first.
    Metrics,
}

/// What the lane of one host's session holds. A few hundred bytes a connection are used; a host that asks for more than this without
/// reading any of it gets no more.
const SESSION_BYTES: usize = 256 << 10;

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Bytes of waiting answers, those that are promised room included.
    pub answer_bytes: usize,
    /// How many of these bytes are never promised, and kept from requests that are still to be read: for the answers to what was read
    /// already, to what waits in the queue, and for events.
    pub answer_reserve_bytes: usize,
    /// Bytes of waiting metrics.
    pub metrics_bytes: usize,
    /// Lines of waiting metrics.
    pub metrics_lines: usize,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        // When reading stops, up to four batches of 16 KiB are on their way to the executor: some hundred lines, each answered by some
        // hundred bytes. A hundred commands and a thousand scripts may be given up in the queue besides.
        let answer_reserve_bytes = 1 << 20;
        Self { answer_bytes: 16 << 20, answer_reserve_bytes, metrics_bytes: 4 << 20, metrics_lines: 16 }
    }
}

/// The three lanes. Holds no lock and knows no clock; a line that was taken out is no longer counted.
#[derive(Debug)]
pub struct Outbox {
    limits: OutboxLimits,
    session: VecDeque<Vec<u8>>,
    session_bytes: usize,
    answers: VecDeque<(Vec<u8>, Option<Delivery>)>,
    answer_bytes: usize,
    promised: Arc<AtomicUsize>,
    metrics: VecDeque<Vec<u8>>,
    metrics_bytes: usize,
    dropped: u64,
    gap: u64,
}

/// A line that nobody has written yet.
#[derive(Debug)]
pub struct Unwritten {
    /// The lane that it waited in.
    pub lane: Lane,
    /// The line with its `\n`.
    pub line: Vec<u8>,
    /// To be told when it is written; absent where nobody wants to hear of that.
    pub delivery: Option<Delivery>,
}

/// Room in the answers lane that nobody else gets. Dropping it gives the room back.
#[derive(Debug)]
#[must_use = "dropping a reservation gives its room back"]
pub struct Reservation {
    room: Promise,
    delivery: Delivery,
}

/// Bytes among those that are promised.
#[derive(Debug)]
struct Promise {
    bytes: usize,
    promised: Arc<AtomicUsize>,
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.promised.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Reservation {
    /// How much room it holds.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.room.bytes
    }

    /// What hears when the answer that takes this room has left.
    #[must_use]
    pub fn receipt(&self) -> Receipt {
        self.delivery.receipt()
    }
}

impl Outbox {
    /// An empty outbox.
    #[must_use]
    pub fn new(limits: OutboxLimits) -> Self {
        Self {
            limits,
            session: VecDeque::new(),
            session_bytes: 0,
            answers: VecDeque::new(),
            answer_bytes: 0,
            promised: Arc::default(),
            metrics: VecDeque::new(),
            metrics_bytes: 0,
            dropped: 0,
            gap: 0,
        }
    }

    /// Sets room aside for an answer to come, before the work that makes it starts. The reserve is not for this.
    pub fn reserve(&mut self, bytes: usize) -> Option<Reservation> {
        if !self.can_reserve(bytes) {
            return None;
        }
        self.promised.fetch_add(bytes, Ordering::Relaxed);
        let room = Promise { bytes, promised: Arc::clone(&self.promised) };
        Some(Reservation { room, delivery: Delivery::default() })
    }

    /// Whether so many bytes can be promised.
    #[must_use]
    pub fn can_reserve(&self, bytes: usize) -> bool {
        bytes <= self.room().saturating_sub(self.limits.answer_reserve_bytes)
    }

    /// Bytes of answers that can still be taken.
    #[must_use]
    pub fn room(&self) -> usize {
        self.limits.answer_bytes.saturating_sub(self.answer_bytes + self.promised.load(Ordering::Relaxed))
    }

    /// Takes an answer for which nothing was reserved.
    ///
    /// # Errors
    /// The line itself where there is no room.
    pub fn push_answer(&mut self, line: Vec<u8>) -> Result<(), Vec<u8>> {
        self.push(line, None)
    }

    fn push(&mut self, line: Vec<u8>, delivery: Option<Delivery>) -> Result<(), Vec<u8>> {
        if line.len() > self.room() {
            return Err(line);
        }
        self.answer_bytes += line.len();
        self.answers.push_back((line, delivery));
        Ok(())
    }

    /// Takes the answer that `reservation` was made for, and gives back what it did not need.
    ///
    /// # Errors
    /// The line itself where it is longer than what was reserved and the rest does not fit.
    pub fn push_reserved(&mut self, reservation: Reservation, line: Vec<u8>) -> Result<(), Vec<u8>> {
        let Reservation { room, delivery } = reservation;
        drop(room);
        self.push(line, Some(delivery))
    }

    /// Takes a metrics line, at the cost of the oldest ones where the lane is full. A line longer than the lane is dropped itself.
    pub fn push_metrics(&mut self, line: Vec<u8>) {
        self.metrics_bytes += line.len();
        self.metrics.push_back(line);
        while self.metrics_bytes > self.limits.metrics_bytes || self.metrics.len() > self.limits.metrics_lines {
            let Some(oldest) = self.metrics.pop_front() else { break };
            self.metrics_bytes -= oldest.len();
            self.dropped += 1;
            self.gap += 1;
        }
    }

    /// Takes a line for the host that is there now; drops it where that host has left too many such lines unread.
    pub fn push_session(&mut self, line: Vec<u8>) {
        if self.session_bytes + line.len() <= SESSION_BYTES {
            self.session_bytes += line.len();
            self.session.push_back(line);
        }
    }

    /// The next line to write.
    pub fn pop(&mut self) -> Option<Unwritten> {
        if let Some(line) = self.session.pop_front() {
            self.session_bytes -= line.len();
            return Some(Unwritten { lane: Lane::Session, line, delivery: None });
        }
        if let Some((line, delivery)) = self.answers.pop_front() {
            self.answer_bytes -= line.len();
            return Some(Unwritten { lane: Lane::Answer, line, delivery });
        }
        let line = self.metrics.pop_front()?;
        self.metrics_bytes -= line.len();
        Some(Unwritten { lane: Lane::Metrics, line, delivery: None })
    }

    /// Whether so many answers wait, or have room promised, that no further requests should be read: the reserve is being spent. Then
    /// something waits to be written, for all is never promised.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.room() < self.limits.answer_reserve_bytes
    }

    /// Throws everything away but the answers: the host left, and what was meant for it misleads the next one. Such samples do not
    /// count as dropped.
    pub fn host_left(&mut self) {
        self.session.clear();
        self.session_bytes = 0;
        self.metrics.clear();
        self.metrics_bytes = 0;
        self.gap = 0;
    }

    /// How many metrics lines were dropped for space since the last call.
    pub const fn take_gap(&mut self) -> u64 {
        std::mem::replace(&mut self.gap, 0)
    }

    /// How many metrics lines were dropped for space in all.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether samples wait: the host has not even read those before.
    #[must_use]
    pub fn has_metrics(&self) -> bool {
        !self.metrics.is_empty()
    }

    /// How many lines wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.session.len() + self.answers.len() + self.metrics.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes wait, in all lanes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.session_bytes + self.answer_bytes + self.metrics_bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SMALL: OutboxLimits =
        OutboxLimits { answer_bytes: 120, answer_reserve_bytes: 20, metrics_bytes: 60, metrics_lines: 3 };

    fn pop(outbox: &mut Outbox) -> Option<(Lane, Vec<u8>)> {
        outbox.pop().map(|Unwritten { lane, line, .. }| (lane, line))
    }

    #[test]
    fn answers_overtake_metrics() {
        let mut outbox = Outbox::new(SMALL);
        outbox.push_metrics(b"m".to_vec());
        outbox.push_answer(b"a".to_vec()).unwrap();
        let order: Vec<_> = std::iter::from_fn(|| pop(&mut outbox)).collect();
        assert_eq!(order, [(Lane::Answer, b"a".to_vec()), (Lane::Metrics, b"m".to_vec())]);
    }

    #[test]
    fn a_greeting_goes_before_answers_that_an_earlier_host_left_and_ends_with_its_own() {
        let mut outbox = Outbox::new(SMALL);
        outbox.push_answer(b"kept".to_vec()).unwrap();
        outbox.push_session(b"handshake".to_vec());
        outbox.host_left();
        outbox.push_session(b"handshake 2".to_vec());
        let order: Vec<_> = std::iter::from_fn(|| pop(&mut outbox)).collect();
        assert_eq!(order, [(Lane::Session, b"handshake 2".to_vec()), (Lane::Answer, b"kept".to_vec())]);
        outbox.push_session(vec![0; SESSION_BYTES]);
        outbox.push_session(vec![0]);
        assert_eq!(outbox.len(), 1, "a host that reads nothing is told no more");
    }

    #[test]
    fn the_oldest_metrics_go_first_and_are_counted() {
        let mut outbox = Outbox::new(SMALL);
        for sample in 0..5 {
            outbox.push_metrics(vec![sample]);
        }
        assert_eq!((outbox.take_gap(), outbox.take_gap(), outbox.dropped()), (2, 0, 2));
        assert!(outbox.has_metrics());
        assert_eq!(pop(&mut outbox), Some((Lane::Metrics, vec![2])));
        outbox.push_metrics(vec![0; 61]);
        assert_eq!((outbox.len(), outbox.bytes()), (0, 0), "a line longer than the lane leaves nothing");
    }

    #[test]
    fn reserved_room_is_nobody_elses_and_comes_back() {
        let mut outbox = Outbox::new(SMALL);
        let reservation = outbox.reserve(80).unwrap();
        assert!(outbox.reserve(21).is_none());
        assert_eq!(outbox.push_answer(vec![0; 41]), Err(vec![0; 41]));
        outbox.push_answer(vec![0; 40]).unwrap();
        outbox.push_reserved(reservation, vec![0; 30]).unwrap();
        assert_eq!(outbox.room(), 50);
        drop(outbox.reserve(30).unwrap());
        assert_eq!(outbox.room(), 50, "a dropped reservation gives its room back");
    }

    #[test]
    fn who_reads_on_until_it_is_congested_has_room_for_what_it_has_read() {
        const LINE: usize = 1 << 20;
        let limits = OutboxLimits::default();
        // The most that can be promised, the ten places of an agent that nobody has configured, none.
        for places in [15, 10, 0] {
            let mut outbox = Outbox::new(limits);
            let promised: Vec<_> = (0..places).map(|_| outbox.reserve(LINE).unwrap()).collect();
            assert!(!outbox.is_congested(), "{places} that run keep the host from cancelling them");
            while !outbox.is_congested() {
                outbox.push_answer(vec![b'r'; 300]).unwrap_or_else(|_| panic!("a refusal is lost beside {places}"));
            }
            assert!(outbox.reserve(1).is_none(), "{places}");
            let left = outbox.room();
            assert!(left + 300 >= limits.answer_reserve_bytes, "{left} bytes are left beside {places}");
            for room in promised {
                outbox.push_reserved(room, vec![b'a'; LINE]).unwrap_or_else(|_| panic!("a promise was broken"));
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Answer(u8),
        Metrics(u8),
        Reserve(u8),
        AnswerReserved(u8),
        Forget,
        Pop,
        Clear,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (1..50_u8).prop_map(Step::Answer),
            (1..80_u8).prop_map(Step::Metrics),
            (1..50_u8).prop_map(Step::Reserve),
            (1..50_u8).prop_map(Step::AnswerReserved),
            Just(Step::Forget),
            Just(Step::Pop),
            Just(Step::Clear),
        ];
        prop::collection::vec(step, 0..100)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// What was taken comes out in order, nothing else does, and the accounts agree with what is there.
        #[test]
        fn no_answer_is_lost_and_every_byte_is_accounted(steps in steps()) {
            let mut outbox = Outbox::new(SMALL);
            let mut expected = VecDeque::new();
            let mut reservations = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                let line = |length: u8| vec![number as u8; usize::from(length)];
                match step {
                    Step::Answer(length) => {
                        let fits = usize::from(length) <= outbox.room();
                        prop_assert_eq!(outbox.push_answer(line(length)).is_ok(), fits);
                        if fits { expected.push_back(line(length)); }
                    }
                    Step::Metrics(length) => outbox.push_metrics(line(length)),
                    Step::Reserve(bytes) => reservations.extend(outbox.reserve(usize::from(bytes))),
                    Step::AnswerReserved(length) => if let Some(reservation) = reservations.pop() {
                        let promised = usize::from(length) <= reservation.bytes();
                        let taken = outbox.push_reserved(reservation, line(length)).is_ok();
                        prop_assert!(taken || !promised, "a promise was broken");
                        if taken { expected.push_back(line(length)); }
                    },
                    Step::Forget => drop(reservations.pop()),
                    Step::Clear => outbox.host_left(),
                    Step::Pop => match pop(&mut outbox) {
                        Some((Lane::Answer, line)) => prop_assert_eq!(Some(line), expected.pop_front()),
                        Some((Lane::Session | Lane::Metrics, _)) | None => prop_assert!(expected.is_empty()),
                    },
                }
                let waiting: usize = expected.iter().map(Vec::len).sum();
                let promised: usize = reservations.iter().map(Reservation::bytes).sum();
                prop_assert_eq!(outbox.room(), SMALL.answer_bytes - waiting - promised);
                prop_assert!(promised + SMALL.answer_reserve_bytes <= SMALL.answer_bytes);
                prop_assert!(waiting > 0 || !outbox.is_congested());
                prop_assert!(outbox.bytes() - waiting <= SMALL.metrics_bytes);
                prop_assert!(outbox.len() - expected.len() <= SMALL.metrics_lines);
            }
        }
    }
}
