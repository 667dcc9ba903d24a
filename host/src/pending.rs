use std::collections::HashMap;
use std::hash::Hash;

use tokio::sync::oneshot;

/// What this side asked and the guest has not answered. Its names are made here; a name of the guest's is only looked up.
#[derive(Debug)]
pub struct Pending<K, T> {
    waiting: HashMap<K, oneshot::Sender<T>>,
}

/// The most questions that are open at a time: the agent's own queue is far shorter.
const MAX_PENDING: usize = 1024;

impl<K: Eq + Hash, T> Pending<K, T> {
    pub fn new() -> Self {
        Self { waiting: HashMap::new() }
    }

    /// Remembers who waits; gives the sender back where too many do already.
    pub fn insert(&mut self, id: K, waiter: oneshot::Sender<T>) -> Result<(), oneshot::Sender<T>> {
        self.waiting.retain(|_, waiter| !waiter.is_closed());
        if self.waiting.len() >= MAX_PENDING {
            return Err(waiter);
        }
        self.waiting.insert(id, waiter);
        Ok(())
    }

    /// Whether somebody still waits for this.
    pub fn is_waiting<Q>(&self, id: &Q) -> bool
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.waiting.get(id).is_some_and(|waiter| !waiter.is_closed())
    }

    /// Hands the answer on; `false` where nobody waits for it (any more).
    pub fn answer<Q>(&mut self, id: &Q, answer: T) -> bool
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.waiting.remove(id).is_some_and(|waiter| waiter.send(answer).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reaches_who_asked_and_only_once() {
        let mut pending = Pending::new();
        let (sender, mut receiver) = oneshot::channel();
        pending.insert("ours".to_owned(), sender).unwrap();
        assert!(!pending.answer("theirs", 1));
        assert!(pending.answer("ours", 2));
        assert!(!pending.answer("ours", 3));
        assert_eq!(receiver.try_recv(), Ok(2));
    }

    #[test]
    fn those_who_left_make_room() {
        let mut pending = Pending::<usize, ()>::new();
        let kept: Vec<_> = (0..MAX_PENDING)
            .map(|id| {
                let (sender, receiver) = oneshot::channel();
                pending.insert(id, sender).unwrap();
                receiver
            })
            .collect();
        assert!(pending.insert(MAX_PENDING, oneshot::channel().0).is_err(), "there is no bound");
        drop(kept);
        assert!(pending.insert(MAX_PENDING, oneshot::channel().0).is_ok(), "nobody made room");
    }
}
