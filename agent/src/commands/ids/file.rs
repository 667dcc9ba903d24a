//! The file that carries the memory of ids over a restart of the agent. Another boot begins it anew.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::{CAPACITY, Digest, Record, digest};
use crate::half_hash::HalfHash;

/// Names the layout.
const MAGIC: &[u8; 16] = b"infiniservice-i1";

/// The layout's name and the SHA-256 of the boot's id.
const HEAD_BYTES: usize = 16 + 32;

/// Hash of the id, hash of the payload.
const RECORD_BYTES: usize = 16 + 32;

/// The file is written anew once it holds this many records; then at least half of them are forgotten ones.
const COMPACT_AT: usize = CAPACITY * 2;

/// The file, open for more.
#[derive(Debug)]
pub struct IdFile {
    file: File,
    head: [u8; HEAD_BYTES],
    records: usize,
    /// The user knows that it cannot be written.
    told: bool,
}

impl IdFile {
    /// Opens the file, and gives what it knows of this boot, oldest first.
    pub fn open(path: &Path, boot_id: &str) -> io::Result<(Self, Vec<Record>)> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mut head = [0; HEAD_BYTES];
        head[..16].copy_from_slice(MAGIC);
        head[16..].copy_from_slice(&digest(boot_id.as_bytes()));
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let records: Vec<Record> = match bytes.strip_prefix(&head) {
            Some(records) => records.chunks_exact(RECORD_BYTES).map(decode).collect(),
            None => Vec::new(),
        };
        let mut this = Self { file, head, records: 0, told: false };
        if bytes.starts_with(&head) {
            this.records = records.len();
            this.end_after_records()?;
        } else {
            this.rewrite(std::iter::empty())?;
        }
        Ok((this, records))
    }

    /// Writes a record down; `all` are those to keep, with this one, where the file has become too long. What cannot be written is
    /// told once and missed after a restart.
    pub fn take<I: Iterator<Item = Record>>(&mut self, record: Record, all: impl FnOnce() -> I) {
        let written = if self.records >= COMPACT_AT { self.rewrite(all()) } else { self.append(record) };
        match written {
            Ok(()) => self.told = false,
            Err(error) if !std::mem::replace(&mut self.told, true) => tracing::warn!(
                %error,
                "cannot write down which commands have run: after a restart of the agent some might run again; is the disk full?"
            ),
            Err(_) => {}
        }
    }

    fn append(&mut self, record: Record) -> io::Result<()> {
        let written = self.file.write_all(&encode(record));
        if written.is_ok() {
            self.records += 1;
        } else {
            // Behind half a record all others would be read askew.
            self.end_after_records()?;
        }
        written
    }

    /// In place and without a copy beside: the file only has to outlive the process, not the machine.
    fn rewrite(&mut self, records: impl Iterator<Item = Record>) -> io::Result<()> {
        let mut bytes = self.head.to_vec();
        records.for_each(|record| bytes.extend(encode(record)));
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&bytes)?;
        self.records = (bytes.len() - HEAD_BYTES) / RECORD_BYTES;
        self.end_after_records()
    }

    fn end_after_records(&mut self) -> io::Result<()> {
        let end = (HEAD_BYTES + self.records * RECORD_BYTES) as u64;
        self.file.set_len(end)?;
        self.file.seek(SeekFrom::Start(end)).map(drop)
    }
}

fn encode(record: Record) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..16].copy_from_slice(&record.id);
    bytes[16..].copy_from_slice(&record.payload);
    bytes
}

fn decode(bytes: &[u8]) -> Record {
    let (mut id, mut payload) = (HalfHash::default(), Digest::default());
    id.copy_from_slice(&bytes[..16]);
    payload.copy_from_slice(&bytes[16..]);
    Record { id, payload }
}
