//! Which signed lines were seen already, across restarts of the agent.
//!
//! A nonce leaves the memory for space only, never by the clock, so that a clock that is set cannot reopen a door. What had to
//! leave raises the floor: nothing at or below its time is taken any more.

mod file;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use file::JournalFile;

/// The file's name in the state directory, and that of the one that takes its place when it is written anew.
pub const FILES: [&str; 2] = ["nonces", "nonces.new"];

/// How many nonces are remembered.
pub(super) const CAPACITY: usize = 16_384;

/// Half of a SHA-256: no two nonces share it by chance, and nobody without the key can choose them.
type NonceHash = [u8; 16];

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

/// The set of nonces and the floor, without a file.
#[derive(Debug, Default)]
struct NonceWindow {
    known: HashSet<NonceHash>,
    by_time: BinaryHeap<Reverse<(u64, NonceHash)>>,
    floor: u64,
}

impl NonceWindow {
    fn look(&self, hash: &NonceHash, ts: u64) -> Seen {
        if self.known.contains(hash) {
            Seen::Before
        } else if ts <= self.floor {
            Seen::BelowFloor
        } else {
            Seen::New
        }
    }

    fn remember(&mut self, hash: NonceHash, ts: u64) {
        if !self.known.insert(hash) {
            return;
        }
        self.by_time.push(Reverse((ts, hash)));
        while self.known.len() > CAPACITY {
            let Some(Reverse((lowest, oldest))) = self.by_time.pop() else { return };
            self.known.remove(&oldest);
            self.floor = self.floor.max(lowest);
        }
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
        Self { window: NonceWindow::default(), file: None }
    }

    /// Reads the file and goes on with it. A last record that was cut by a crash is dropped: its line was not handed on.
    ///
    /// # Errors
    /// Where the file can be neither read nor created.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut window = NonceWindow::default();
        let file = JournalFile::open(path, &mut window)?;
        Ok(Self { window, file: Some(file) })
    }

    /// Remembers only in memory from now on.
    pub fn stop_writing(&mut self) {
        self.file = None;
    }

    /// Looks a nonce up and, where it is new, remembers it: in the file first, so that no restart forgets what was handed on.
    pub fn admit(&mut self, nonce: &str, ts: u64) -> Seen {
        let hash = digest(nonce);
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

fn digest(nonce: &str) -> NonceHash {
    let mut hash = NonceHash::default();
    hash.copy_from_slice(&Sha256::digest(nonce.as_bytes())[..16]);
    hash
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
