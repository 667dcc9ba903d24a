//! The file that carries the memory of nonces over a restart of the agent.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{CAPACITY, Entry, NonceWindow};
use crate::half_hash::HalfHash;

/// One line of the file: the time and the nonce's hash. A record with an all-zero hash sets the floor.
const RECORD_BYTES: usize = 8 + 16;
const FLOOR_MARK: HalfHash = [0; 16];

/// The file is written anew once it holds this many records: then at least three of four are forgotten ones.
const COMPACT_AT: usize = CAPACITY * 4;

/// Where the file could not be written it is written anew only so many entries later: on a full disk each attempt is some 400 KB for
/// nothing.
const RETRY_AFTER: usize = 1024;

/// However long writing it anew fails, the file gets no longer than this, 6 MiB.
const MOST_RECORDS: usize = COMPACT_AT * 4;

/// The file, open for more.
#[derive(Debug)]
pub struct JournalFile {
    path: PathBuf,
    file: File,
    records: usize,
    /// Something that was seen is not in the file: it is to be written anew.
    incomplete: bool,
    /// How many entries are still let pass before the next attempt to write it anew.
    wait: usize,
    /// The user knows that it cannot be written.
    told: bool,
}

impl JournalFile {
    /// Reads the file into `window` and goes on with it.
    pub fn open(path: &Path, window: &mut NonceWindow) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.len() - bytes.len() % RECORD_BYTES;
        if whole != bytes.len() {
            file.set_len(whole as u64)?;
        }
        for record in bytes[..whole].chunks_exact(RECORD_BYTES) {
            let (ts, hash) = decode(record);
            if hash == FLOOR_MARK {
                window.floor = window.floor.max(ts);
            } else {
                window.remember(hash, ts);
            }
        }
        Ok(Self::new(path, file, whole / RECORD_BYTES))
    }

    fn new(path: &Path, file: File, records: usize) -> Self {
        Self { path: path.to_owned(), file, records, incomplete: false, wait: 0, told: false }
    }

    /// Writes down what `window` remembers since a moment ago.
    pub fn take(&mut self, ts: u64, hash: &HalfHash, window: &NonceWindow) {
        self.wait = self.wait.saturating_sub(1);
        if self.wait == 0 && (self.incomplete || self.records >= COMPACT_AT) {
            match Self::rewrite(&self.path, window) {
                Ok(anew) => {
                    if self.told {
                        tracing::info!("which commands were seen is written down again, without a gap");
                    }
                    *self = anew;
                    return;
                }
                Err(error) => self.failed(&error),
            }
        }
        if let Err(error) = self.append(&encode(ts, hash)) {
            self.incomplete = true;
            self.failed(&error);
        }
    }

    fn failed(&mut self, error: &io::Error) {
        if self.wait == 0 {
            self.wait = RETRY_AFTER;
        }
        if std::mem::replace(&mut self.told, true) {
            return tracing::debug!(%error, "still cannot write down which commands were seen");
        }
        let path = self.path.display();
        tracing::warn!(
            %path, %error,
            "cannot write down which commands were seen: until that works again, a restart of the agent may forget some; is the disk full?"
        );
    }

    /// Writes one record, or none of it: behind half a record all others would be read askew.
    fn append(&mut self, record: &[u8; RECORD_BYTES]) -> io::Result<()> {
        if self.records >= MOST_RECORDS {
            return Err(io::Error::other("the file is as long as it may get and cannot be written anew"));
        }
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
        let mut bytes = Vec::with_capacity((window.iter().len() + 1) * RECORD_BYTES);
        bytes.extend(encode(window.floor, &FLOOR_MARK));
        for Entry { hash, ts } in window.iter() {
            bytes.extend(encode(ts, &hash));
        }
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = Self::put(&bytes, &beside, path).inspect_err(|_| {
            // Half a file would keep the room that the next records need. Where it cannot be removed, the next attempt says so.
            let _ = fs::remove_file(&beside);
        })?;
        Ok(Self::new(path, file, bytes.len() / RECORD_BYTES))
    }

    fn put(bytes: &[u8], beside: &Path, path: &Path) -> io::Result<File> {
        let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(beside)?;
        file.write_all(bytes)?;
        fs::rename(beside, path)?;
        Ok(file)
    }
}

fn encode(ts: u64, hash: &HalfHash) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[..8].copy_from_slice(&ts.to_le_bytes());
    record[8..].copy_from_slice(hash);
    record
}

fn decode(record: &[u8]) -> (u64, HalfHash) {
    let (mut ts, mut hash) = ([0; 8], HalfHash::default());
    ts.copy_from_slice(&record[..8]);
    hash.copy_from_slice(&record[8..]);
    (u64::from_le_bytes(ts), hash)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::{NonceJournal, Seen};
    use super::*;
    use crate::logging::logged;

    #[test]
    fn restarts_refuse_exactly_what_was_seen_of_20_000_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nonces");
        for start in 0..4 {
            let mut journal = NonceJournal::open(&path).unwrap();
            for n in start * 5000 + 1..=(start + 1) * 5000 {
                assert_eq!(journal.admit(&format!("n{n}"), n), Seen::New, "nonce {n}");
            }
        }
        let mut journal = NonceJournal::open(&path).unwrap();
        let floor = 20_000 - CAPACITY as u64;
        assert_eq!(journal.window.floor, floor);
        for n in 1..=20_000_u64 {
            let expected = if n <= floor { Seen::BelowFloor } else { Seen::Before };
            assert_eq!(journal.admit(&format!("n{n}"), n), expected, "nonce {n}");
        }
        assert_eq!(journal.admit("waited-in-the-port", floor + 1), Seen::New);
        assert_eq!(journal.admit("waited-too-long", floor), Seen::BelowFloor);
    }

    #[test]
    fn however_often_the_agent_restarts_the_file_stays_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nonces");
        drop(NonceJournal::open(&path).unwrap());
        // As if that many had come already, one or two in each of many starts.
        let came = COMPACT_AT as u64 - 2;
        let records: Vec<u8> = (1..=came).flat_map(|n| encode(n, &crate::half_hash::of(&format!("n{n}")))).collect();
        fs::write(&path, records).unwrap();
        let mut most = 0;
        for n in came + 1..=came + 4 {
            let mut journal = NonceJournal::open(&path).unwrap();
            assert_eq!(journal.admit(&format!("n{n}"), n), Seen::New);
            assert_eq!(journal.admit(&format!("n{came}"), came), Seen::Before);
            most = most.max(fs::metadata(&path).unwrap().len() as usize / RECORD_BYTES);
        }
        assert_eq!(most, COMPACT_AT);
        let facts = fs::metadata(&path).unwrap();
        assert!(facts.len() as usize / RECORD_BYTES < CAPACITY + 10, "it was never written anew: {facts:?}");
        assert_eq!(facts.permissions().mode() & 0o777, 0o600);
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

    #[test]
    fn where_the_file_cannot_be_written_anew_it_grows_for_a_while_and_forgets_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nonces");
        let mut journal = NonceJournal::open(&path).unwrap();
        let mut last = 0;
        let mut admit = |journal: &mut NonceJournal, count: usize| {
            for _ in 0..count {
                last += 1;
                assert_eq!(journal.admit(&format!("n{last}"), last), Seen::New);
            }
            last
        };
        let records = || fs::metadata(&path).unwrap().len() as usize / RECORD_BYTES;
        admit(&mut journal, COMPACT_AT);
        // In the way of the new file, and not removed as a file would be.
        let in_the_way = path.with_extension("new");
        fs::create_dir(&in_the_way).unwrap();
        let log = logged(|| {
            admit(&mut journal, 2 * RETRY_AFTER);
        });
        let warnings = log.lines().filter(|line| line.contains("WARN")).count();
        assert_eq!((warnings, log.lines().count()), (1, 2), "one warning, and one attempt more:\n{log}");
        assert_eq!(records(), COMPACT_AT + 2 * RETRY_AFTER);

        fs::remove_dir(&in_the_way).unwrap();
        let last = admit(&mut journal, 1);
        drop(journal);
        assert!(records() <= CAPACITY + 1, "{} records: it was not written anew when that was possible", records());
        let mut journal = NonceJournal::open(&path).unwrap();
        let remembered =
            (last - CAPACITY as u64 + 1..=last).filter(|n| journal.admit(&format!("n{n}"), *n) == Seen::Before);
        assert_eq!(remembered.count(), CAPACITY);
        assert_eq!(journal.window.floor, last - CAPACITY as u64);
    }

    #[test]
    fn a_file_that_can_never_be_written_anew_stays_bounded_and_the_memory_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nonces");
        let mut journal = NonceJournal::open(&path).unwrap();
        fs::create_dir(path.with_extension("new")).unwrap();
        // As if that many had come already.
        journal.file.as_mut().unwrap().records = MOST_RECORDS - 1;
        for n in 1..=10 {
            journal.admit(&format!("n{n}"), n);
        }
        assert_eq!(fs::metadata(&path).unwrap().len(), RECORD_BYTES as u64);
        for n in 1..=10 {
            assert_eq!(journal.admit(&format!("n{n}"), n), Seen::Before, "nonce {n}");
        }
    }
}
