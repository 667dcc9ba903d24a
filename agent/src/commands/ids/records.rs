//! The last [`CAPACITY`] records, in memory that is taken with the first of them and never moved.

use hashbrown::HashTable;

use super::{CAPACITY, Record};
use crate::half_hash::{HalfHash, spread};

/// Records by age and by id.
#[derive(Debug)]
pub struct Records {
    /// The oldest is at `next`, once all places are taken. Empty until the first comes: an agent that is only asked for samples needs none.
    ring: Vec<Record>,
    next: usize,
    /// Where each id's record is. What is in the ring and not here was never put there or was taken out.
    places: HashTable<u16>,
}

/// Written into all places at first, so that what the agent holds does not grow with how much it is asked.
const EMPTY: Record = Record { id: [0xff; 16], payload: [0xff; 32] };

impl Records {
    /// None yet.
    pub fn new() -> Self {
        Self { ring: Vec::new(), next: 0, places: HashTable::with_capacity(CAPACITY) }
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// The record of an id.
    pub fn get(&self, id: &HalfHash) -> Option<&Record> {
        let place = self.places.find(spread(id), |&place| self.ring[usize::from(place)].id == *id)?;
        Some(&self.ring[usize::from(*place)])
    }

    /// From the oldest to the youngest.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        let (young, old) = self.ring.split_at(self.next);
        let places = (self.next..).zip(old).chain((0..).zip(young));
        places.filter(|(place, record)| self.is_there(*place, record)).map(|(_, record)| record)
    }

    /// Takes a record out. Its place stays empty until its turn comes.
    pub fn remove(&mut self, id: &HalfHash) {
        let ring = &self.ring;
        if let Ok(found) = self.places.find_entry(spread(id), |&place| ring[usize::from(place)].id == *id) {
            found.remove();
        }
    }

    /// Takes in a record whose id is not there; the oldest leaves for it, where all places are taken.
    pub fn insert(&mut self, record: Record) {
        if self.ring.is_empty() {
            self.ring = vec![EMPTY; CAPACITY];
        }
        if let Some(&Record { id, .. }) = self.oldest() {
            self.remove(&id);
        }
        let Self { ring, next, places } = self;
        ring[*next] = record;
        if let Ok(place) = u16::try_from(*next) {
            places.insert_unique(spread(&record.id), place, |&place| spread(&ring[usize::from(place)].id));
        }
        self.advance();
    }

    /// The one that has to leave for the next one.
    pub fn oldest(&self) -> Option<&Record> {
        self.ring.get(self.next).filter(|record| self.is_there(self.next, record))
    }

    /// Makes the oldest the youngest.
    pub fn keep_oldest(&mut self) {
        self.advance();
    }

    fn advance(&mut self) {
        self.next = (self.next + 1) % CAPACITY;
    }

    fn is_there(&self, place: usize, record: &Record) -> bool {
        self.places.find(spread(&record.id), |&found| usize::from(found) == place).is_some()
    }
}
