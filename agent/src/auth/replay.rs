//! Which signed lines were seen already, across restarts of the agent.
//!
//! A nonce leaves the memory for space only, never by the clock, so that a clock that is set cannot reopen a door. What had to
//! leave raises the floor: nothing at or below its time is taken any more.

mod file;

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use hashbrown::HashTable;

use crate::half_hash::{self, HalfHash, spread};
use file::JournalFile;

/// The file's name in the state directory, and that of the one that takes its place when it is written anew.
pub const FILES: [&str; 2] = ["nonces", "nonces.new"];

/// How many nonces are remembered.
pub(super) const CAPACITY: usize = 16_384;

/// What the memory says of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Not yet; it is remembered now.
    New,
    /// It came before.
    Before,
    /// Its time is too old for the memory to tell.
    BelowFloor,
}

/// The set of nonces and the floor, without a file, in memory that is never moved.
#[derive(Debug)]
struct NonceWindow {
    /// In the first places, as many as there are in `by_time`.
    entries: Vec<Entry>,
    /// Where each nonce's entry is.
    places: HashTable<u16>,
    /// The same, lowest time first. Lines come about in the order of their times, so a new one's place is near the end.
    by_time: VecDeque<u16>,
    floor: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: HalfHash,
    ts: u64,
}

/// What stands in a place before its nonce.
const EMPTY: Entry = Entry { hash: [0xff; 16], ts: u64::MAX };

impl NonceWindow {
    fn new() -> Self {
        Self {
            entries: Vec::with_capacity(CAPACITY),
            places: HashTable::with_capacity(CAPACITY),
            by_time: VecDeque::with_capacity(CAPACITY),
            floor: 0,
        }
    }

    /// Writes into all of its memory, so that the system gives it now.
    fn take_memory(&mut self) {
        self.entries.resize(CAPACITY, EMPTY);
    }

    /// From the lowest time to the highest.
    fn iter(&self) -> impl ExactSizeIterator<Item = Entry> {
        self.by_time.iter().map(|&place| self.entries[usize::from(place)])
    }

    fn is_known(&self, hash: &HalfHash) -> bool {
        self.places.find(spread(hash), |&place| self.entries[usize::from(place)].hash == *hash).is_some()
    }

    fn look(&self, hash: &HalfHash, ts: u64) -> Seen {
        if self.is_known(hash) {
            Seen::Before
        } else if ts <= self.floor {
            Seen::BelowFloor
        } else {
            Seen::New
        }
    }

    fn remember(&mut self, hash: HalfHash, ts: u64) {
        if self.is_known(&hash) {
            return;
        }
        let Some(place) = self.place_for(ts) else { return };
        let Self { entries, places, by_time, .. } = self;
        if entries.len() == usize::from(place) {
            entries.push(EMPTY);
        }
        entries[usize::from(place)] = Entry { hash, ts };
        places.insert_unique(spread(&hash), place, |&place| spread(&entries[usize::from(place)].hash));
        by_time.insert(by_time.partition_point(|&other| entries[usize::from(other)].ts <= ts), place);
    }

    /// Where a nonce of this time goes: the next place, or where the one with the lowest time was, which raises the floor. Nowhere
    /// where its own time is the lowest.
    fn place_for(&mut self, ts: u64) -> Option<u16> {
        if self.by_time.len() < CAPACITY {
            return u16::try_from(self.by_time.len()).ok();
        }
        let lowest = *self.by_time.front()?;
        let entry = self.entries[usize::from(lowest)];
        self.floor = self.floor.max(entry.ts.min(ts));
        if ts < entry.ts {
            return None;
        }
        self.by_time.pop_front();
        if let Ok(found) = self.places.find_entry(spread(&entry.hash), |&place| place == lowest) {
            found.remove();
        }
        Some(lowest)
    }
}

/// The memory of nonces and the file that carries it over a restart of the agent.
#[derive(Debug)]
pub struct NonceJournal {
    window: NonceWindow,
    file: Option<JournalFile>,
}

impl NonceJournal {
    /// A memory that ends with the process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { window: NonceWindow::new(), file: None }
    }

    /// Reads the file and goes on with it. A last record that was cut by a crash is dropped: its line was not handed on.
    ///
    /// # Errors
    /// Where the file can be neither read nor created.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut window = NonceWindow::new();
        let file = JournalFile::open(path, &mut window)?;
        Ok(Self { window, file: Some(file) })
    }

    /// Takes all the memory that nonces can ever need here.
    pub fn take_memory(&mut self) {
        self.window.take_memory();
    }

    /// Remembers only in memory from now on.
    pub fn stop_writing(&mut self) {
        self.file = None;
    }

    /// Looks a nonce up and, where it is new, remembers it: in the file first, so that no restart forgets what was handed on.
    pub fn admit(&mut self, nonce: &str, ts: u64) -> Seen {
        let hash = half_hash::of(nonce);
        let seen = self.window.look(&hash, ts);
        if seen == Seen::New {
            self.window.remember(hash, ts);
            // Without its file the memory still holds until the agent ends; refusing all commands for a full disk would take away the
            // means to clear it.
            if let Some(file) = &mut self.file {
                file.take(ts, &hash, &self.window);
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_for_space_raises_the_floor() {
        let mut journal = NonceJournal::in_memory();
        for n in 1..=20_000_u64 {
            assert_eq!(journal.admit(&format!("n{n}"), n), Seen::New, "nonce {n}");
        }
        let forgotten = 20_000 - CAPACITY as u64;
        assert_eq!(journal.window.floor, forgotten);
        assert_eq!(journal.admit("n1", 1), Seen::BelowFloor);
        assert_eq!(journal.admit(&format!("n{}", forgotten + 1), forgotten + 1), Seen::Before);
        assert_eq!(journal.admit("another", forgotten), Seen::BelowFloor);
        assert_eq!(journal.admit("another", forgotten + 1), Seen::New);
    }

    #[test]
    fn the_lowest_time_leaves_first_whatever_came_first() {
        let mut journal = NonceJournal::in_memory();
        journal.admit("late", u64::MAX);
        for n in 1..=CAPACITY as u64 {
            journal.admit(&format!("n{n}"), n);
        }
        assert_eq!(journal.admit("late", u64::MAX), Seen::Before);
        assert_eq!(journal.window.floor, 1);
    }
}
