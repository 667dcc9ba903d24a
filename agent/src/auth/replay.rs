//! Which signed lines were seen already, across restarts of the agent.
//!
//! A nonce leaves the memory for space only, never by the clock, so that a clock that is set cannot reopen a door. What had to
//! leave raises the floor: nothing at or below its time is taken any more.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// How many nonces are remembered.
const CAPACITY: usize = 16_384;

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

/// One line of the file: the time and the nonce's hash. A record with an all-zero hash sets the floor.
const RECORD_BYTES: usize = 8 + 16;
const FLOOR_MARK: NonceHash = [0; 16];

/// The file is written anew once it holds this many records: then at least three of four are forgotten ones.
const COMPACT_AT: usize = CAPACITY * 4;

/// The memory of nonces and the file that carries it over a restart of the agent.
#[derive(Debug)]
pub struct NonceJournal {
    window: NonceWindow,
    file: Option<JournalFile>,
}

#[derive(Debug)]
struct JournalFile {
    path: PathBuf,
    file: File,
    records: usize,
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
        let mut bytes = Vec::new();
        let options = || {
            let mut options = OpenOptions::new();
            options.read(true).append(true).create(true).mode(0o600);
            options
        };
        let mut file = options().open(path)?;
        file.read_to_end(&mut bytes)?;
        let whole = bytes.len() - bytes.len() % RECORD_BYTES;
        if whole != bytes.len() {
            file.set_len(whole as u64)?;
        }
        let mut window = NonceWindow::default();
        for record in bytes[..whole].chunks_exact(RECORD_BYTES) {
            let (ts, hash) = decode(record);
            if hash == FLOOR_MARK {
                window.floor = window.floor.max(ts);
            } else {
                window.remember(hash, ts);
            }
        }
        let records = whole / RECORD_BYTES;
        Ok(Self { window, file: Some(JournalFile { path: path.to_owned(), file, records }) })
    }

    /// Looks a nonce up and, where it is new, remembers it: in the file first, so that no restart forgets what was handed on.
    pub fn admit(&mut self, nonce: &str, ts: u64) -> Seen {
        let hash = digest(nonce);
        let seen = self.window.look(&hash, ts);
        if seen == Seen::New {
            self.window.remember(hash, ts);
            if let Err(error) = self.append(ts, &hash) {
                // Without its file the memory still holds until the agent ends; refusing all commands for a full disk would
                // take away the means to clear it.
                tracing::warn!(%error, "cannot write down which commands were seen; a restart of the agent forgets this one");
            }
        }
        seen
    }

    fn append(&mut self, ts: u64, hash: &NonceHash) -> io::Result<()> {
        let Some(journal) = &mut self.file else { return Ok(()) };
        if journal.records >= COMPACT_AT {
            *journal = JournalFile::rewrite(&journal.path, &self.window)?;
            return Ok(());
        }
        journal.append(&encode(ts, hash))
    }
}

impl JournalFile {
    /// Writes one record, or none of it: behind half a record all others would be read askew.
    fn append(&mut self, record: &[u8; RECORD_BYTES]) -> io::Result<()> {
        let written = self.file.write_all(record);
        if written.is_err() {
            self.file.set_len((self.records * RECORD_BYTES) as u64)?;
        } else {
            self.records += 1;
        }
        written
    }

    /// Writes what is remembered beside the file and puts it in the file's place.
    fn rewrite(path: &Path, window: &NonceWindow) -> io::Result<Self> {
        let beside = path.with_extension("new");
        let mut bytes = Vec::with_capacity((window.known.len() + 1) * RECORD_BYTES);
        bytes.extend(encode(window.floor, &FLOOR_MARK));
        for Reverse((ts, hash)) in &window.by_time {
            bytes.extend(encode(*ts, hash));
        }
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(&bytes)?;
        fs::rename(&beside, path)?;
        Ok(Self { path: path.to_owned(), file, records: bytes.len() / RECORD_BYTES })
    }
}

fn digest(nonce: &str) -> NonceHash {
    let mut hash = NonceHash::default();
    hash.copy_from_slice(&Sha256::digest(nonce.as_bytes())[..16]);
    hash
}

fn encode(ts: u64, hash: &NonceHash) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[..8].copy_from_slice(&ts.to_le_bytes());
    record[8..].copy_from_slice(hash);
    record
}

fn decode(record: &[u8]) -> (u64, NonceHash) {
    let (mut ts, mut hash) = ([0; 8], NonceHash::default());
    ts.copy_from_slice(&record[..8]);
    hash.copy_from_slice(&record[8..]);
    (u64::from_le_bytes(ts), hash)
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

    #[test]
    fn a_restart_refuses_exactly_what_was_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nonces");
        let mut first = NonceJournal::open(&path).unwrap();
        for n in 1..=20_000_u64 {
            first.admit(&format!("n{n}"), n);
        }
        drop(first);
        let mut second = NonceJournal::open(&path).unwrap();
        assert_eq!(second.window.floor, 20_000 - CAPACITY as u64);
        assert_eq!(second.admit("n20000", 20_000), Seen::Before);
        assert_eq!(second.admit("n1", 1), Seen::BelowFloor);
        assert_eq!(second.admit("waited-in-the-port", 20_000), Seen::New);
    }

    #[test]
    fn a_record_cut_by_a_crash_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nonces");
        let mut journal = NonceJournal::open(&path).unwrap();
        journal.admit("whole", 5);
        journal.admit("cut", 6);
        drop(journal);
        OpenOptions::new().write(true).open(&path).unwrap().set_len(RECORD_BYTES as u64 + 7).unwrap();
        let mut journal = NonceJournal::open(&path).unwrap();
        assert_eq!(journal.admit("whole", 5), Seen::Before);
        assert_eq!(journal.admit("cut", 6), Seen::New);
        drop(journal);
        assert_eq!(fs::metadata(&path).unwrap().len(), 2 * RECORD_BYTES as u64);
    }

    #[test]
    fn the_file_stays_small_and_says_the_same_after_it_was_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nonces");
        let mut journal = NonceJournal::open(&path).unwrap();
        let last = COMPACT_AT as u64 + 10;
        for n in 1..=last {
            journal.admit(&format!("n{n}"), n);
        }
        drop(journal);
        let records = fs::metadata(&path).unwrap().len() as usize / RECORD_BYTES;
        assert!(records < CAPACITY + 20, "{records} records are left");
        let mut journal = NonceJournal::open(&path).unwrap();
        assert_eq!(journal.admit(&format!("n{last}"), last), Seen::Before);
        assert_eq!(journal.window.floor, last - CAPACITY as u64);
    }
}
