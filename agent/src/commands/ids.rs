//! Which commands of this boot were started: the last 10,000 by id, so that none runs twice, and as many of their answers as fit.

mod file;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::Path;

use infini_protocol::agent::AgentBody;
use sha2::{Digest as _, Sha256};

use file::IdFile;

/// The file's name in the state directory.
pub const FILE: &str = "ids";

/// How many ids are remembered.
pub const CAPACITY: usize = 10_000;

/// What the kept answers may take together. Most have some hundred bytes; one that is larger than all of this is not kept.
const KEPT_BYTES: usize = 256 << 10;

/// The SHA-256 of a payload.
pub type Digest = [u8; 32];

/// The SHA-256 of a text.
#[must_use]
pub fn digest(text: &[u8]) -> Digest {
    Sha256::digest(text).into()
}

/// Half of the SHA-256 of an id: an id may be long, and only this much of it is kept.
pub type IdHash = [u8; 16];

/// One id and what it stood for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Of the id.
    pub id: IdHash,
    /// Of the payload.
    pub payload: Digest,
}

/// What is known of an id.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// Nothing: it may run.
    New,
    /// It runs or waits; its one answer is still to come.
    Underway,
    /// It ran, and this was its answer.
    Answered(Box<AgentBody>),
    /// It ran, and its answer is not kept.
    Forgotten,
    /// Another command had this id.
    Other,
}

/// What became of a record.
#[derive(Debug)]
enum State {
    Underway { is_written: bool },
    Answered { body: Box<AgentBody>, bytes: usize },
    Forgotten,
}

/// The memory of ids.
#[derive(Debug)]
pub struct Ids {
    entries: HashMap<IdHash, (Digest, State)>,
    order: VecDeque<IdHash>,
    /// Ids whose answers are kept, oldest first.
    kept: VecDeque<IdHash>,
    kept_bytes: usize,
    file: Option<IdFile>,
}

impl Ids {
    /// A memory that ends with the process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), kept: VecDeque::new(), kept_bytes: 0, file: None }
    }

    /// A memory that lasts as long as the boot: what an earlier process of this boot started is known, its answers are not.
    ///
    /// # Errors
    /// Where the file can be neither read nor made.
    pub fn open(path: &Path, boot_id: &str) -> io::Result<Self> {
        let (file, records) = IdFile::open(path, boot_id)?;
        let mut ids = Self::in_memory();
        for record in latest(records) {
            ids.insert(record, State::Forgotten);
        }
        Ok(Self { file: Some(file), ..ids })
    }

    /// Remembers only in memory from now on.
    pub fn stop_writing(&mut self) {
        self.file = None;
    }

    /// What is known of a command.
    #[must_use]
    pub fn look_up(&self, id: &str, payload: &Digest) -> Known {
        match self.entries.get(&hash(id)) {
            None => Known::New,
            Some((known, _)) if known != payload => Known::Other,
            Some((_, State::Underway { .. })) => Known::Underway,
            Some((_, State::Answered { body, .. })) => Known::Answered(body.clone()),
            Some((_, State::Forgotten)) => Known::Forgotten,
        }
    }

    /// A command was taken and has not begun: only this process knows of it.
    pub fn accepted(&mut self, id: &str, payload: Digest) {
        self.insert(Record { id: hash(id), payload }, State::Underway { is_written: false });
    }

    /// It begins: from now on no process of this boot runs it again.
    pub fn started(&mut self, id: &str) {
        self.settle(hash(id));
    }

    fn settle(&mut self, id: IdHash) {
        if let Some((_, State::Underway { is_written: is_written @ false })) = self.entries.get_mut(&id) {
            *is_written = true;
            self.write_down(id);
        }
    }

    /// What only waits is not for the file: after a restart it would pass for one that has run.
    fn write_down(&mut self, id: IdHash) {
        let Self { entries, order, file: Some(file), .. } = self else { return };
        let Some((payload, _)) = entries.get(&id) else { return };
        let record = Record { id, payload: *payload };
        file.take(record, || {
            order.iter().filter_map(|id| match entries.get(id)? {
                (_, State::Underway { is_written: false }) => None,
                (payload, _) => Some(Record { id: *id, payload: *payload }),
            })
        });
    }

    /// It never began and may come again.
    pub fn withdrawn(&mut self, id: &str) {
        let id = hash(id);
        if self.entries.remove(&id).is_some() {
            self.order.retain(|known| *known != id);
        }
    }

    /// It was answered, whether it had begun or not: no process of this boot runs it any more.
    pub fn answered(&mut self, id: &str, body: &AgentBody, bytes: usize) {
        let id = hash(id);
        self.settle(id);
        let Some((_, state)) = self.entries.get_mut(&id) else { return };
        if bytes > KEPT_BYTES {
            *state = State::Forgotten;
            return;
        }
        *state = State::Answered { body: Box::new(body.clone()), bytes };
        self.kept.push_back(id);
        self.kept_bytes += bytes;
        while self.kept_bytes > KEPT_BYTES {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.forget_answer(&oldest);
        }
    }

    fn forget_answer(&mut self, id: &IdHash) {
        if let Some((_, state)) = self.entries.get_mut(id)
            && let State::Answered { bytes, .. } = state
        {
            self.kept_bytes -= *bytes;
            *state = State::Forgotten;
        }
    }

    fn insert(&mut self, record: Record, state: State) {
        if self.entries.insert(record.id, (record.payload, state)).is_none() {
            self.order.push_back(record.id);
        }
        self.make_room();
    }

    /// Forgets the oldest. What is still underway becomes the youngest instead, in the file as well: a long command must not run a second
    /// time because many short ones came behind it. At most some thousand run or wait, so one turn finds enough others.
    fn make_room(&mut self) {
        for _ in 0..self.order.len() {
            if self.order.len() <= CAPACITY {
                return;
            }
            let Some(oldest) = self.order.pop_front() else { return };
            if let Some((_, State::Underway { is_written })) = self.entries.get(&oldest) {
                let is_written = *is_written;
                self.order.push_back(oldest);
                if is_written {
                    self.write_down(oldest);
                }
                continue;
            }
            if let Some((_, State::Answered { bytes, .. })) = self.entries.remove(&oldest) {
                self.kept_bytes -= bytes;
                // Answers come about in the order of their commands, so it is not far.
                let index = self.kept.iter().position(|kept| *kept == oldest);
                index.map(|index| self.kept.remove(index));
            }
        }
    }
}

/// The last [`CAPACITY`] of a file that may hold an id twice: where it was written last is its place.
fn latest(records: Vec<Record>) -> Vec<Record> {
    let mut seen = HashSet::new();
    let mut latest: Vec<Record> = records.into_iter().rev().filter(|record| seen.insert(record.id)).collect();
    latest.truncate(CAPACITY);
    latest.reverse();
    latest
}

fn hash(id: &str) -> IdHash {
    let whole = digest(id.as_bytes());
    let mut half = IdHash::default();
    half.copy_from_slice(&whole[..16]);
    half
}

#[cfg(test)]
mod tests;
