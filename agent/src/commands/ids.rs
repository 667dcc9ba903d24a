//! Which commands of this boot were started: the last 10,000 by id, so that none runs twice, and as many of their answers as fit.

mod answers;
mod file;
mod records;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;

use infini_protocol::agent::AgentBody;
use sha2::{Digest as _, Sha256};

use crate::half_hash::{self, HalfHash};
use answers::Answers;
use file::IdFile;
use records::Records;

/// The file's name in the state directory.
pub const FILE: &str = "ids";

/// How many ids are remembered.
pub const CAPACITY: usize = 10_000;

/// The SHA-256 of a payload.
pub type Digest = [u8; 32];

/// The SHA-256 of a text.
#[must_use]
pub fn digest(text: &[u8]) -> Digest {
    Sha256::digest(text).into()
}

/// One id and what it stood for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Of the id.
    pub id: HalfHash,
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

/// The memory of ids.
#[derive(Debug)]
pub struct Ids {
    records: Records,
    /// What runs or waits, and whether it is in the file.
    underway: HashMap<HalfHash, bool>,
    answers: Answers,
    file: Option<IdFile>,
}

impl Ids {
    /// A memory that ends with the process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { records: Records::new(), underway: HashMap::new(), answers: Answers::default(), file: None }
    }

    /// A memory that lasts as long as the boot: what an earlier process of this boot started is known, its answers are not.
    ///
    /// # Errors
    /// Where the file can be neither read nor made.
    pub fn open(path: &Path, boot_id: &str) -> io::Result<Self> {
        let (file, records) = IdFile::open(path, boot_id)?;
        let mut ids = Self::in_memory();
        for record in latest(records) {
            ids.records.insert(record);
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
        let id = half_hash::of(id);
        let Some(record) = self.records.get(&id) else { return Known::New };
        if record.payload != *payload {
            return Known::Other;
        }
        if self.underway.contains_key(&id) {
            return Known::Underway;
        }
        self.answers.get(&id).map_or(Known::Forgotten, |body| Known::Answered(Box::new(body)))
    }

    /// A command was taken and has not begun: only this process knows of it.
    pub fn accepted(&mut self, id: &str, payload: Digest) {
        let record = Record { id: half_hash::of(id), payload };
        // One that was begun by an earlier process has come with the file.
        if self.records.get(&record.id).is_none() {
            self.spare_underway();
            self.records.insert(record);
        }
        self.underway.insert(record.id, false);
    }

    /// It begins: from now on no process of this boot runs it again.
    pub fn started(&mut self, id: &str) {
        self.settle(half_hash::of(id));
    }

    fn settle(&mut self, id: HalfHash) {
        if let Some(is_written @ false) = self.underway.get_mut(&id) {
            *is_written = true;
            self.write_down(id);
        }
    }

    /// What only waits is not for the file: after a restart it would pass for one that has run.
    fn write_down(&mut self, id: HalfHash) {
        let Self { records, underway, file: Some(file), .. } = self else { return };
        let Some(record) = records.get(&id) else { return };
        let only_waits = |record: &Record| underway.get(&record.id) == Some(&false);
        file.take(*record, || records.iter().filter(|record| !only_waits(record)).copied());
    }

    /// It never began and may come again.
    pub fn withdrawn(&mut self, id: &str) {
        let id = half_hash::of(id);
        self.records.remove(&id);
        self.underway.remove(&id);
    }

    /// It was answered, whether it had begun or not: no process of this boot runs it any more.
    pub fn answered(&mut self, id: &str, body: &AgentBody) {
        let id = half_hash::of(id);
        self.settle(id);
        if self.underway.remove(&id).is_some() {
            self.answers.keep(id, body);
        }
    }

    /// What is underway and would have to leave next becomes the youngest instead, in the file as well: a long command must not run a
    /// second time because many short ones came behind it. At most some thousand run or wait, so one turn finds others.
    fn spare_underway(&mut self) {
        for _ in 0..CAPACITY {
            let Some(&Record { id, .. }) = self.records.oldest() else { return };
            let Some(&is_written) = self.underway.get(&id) else { return };
            self.records.keep_oldest();
            if is_written {
                self.write_down(id);
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

#[cfg(test)]
mod tests;
