//! The files with the chain in them: goes on where it ended, begins new files, removes old ones.

use std::io;

use infini_protocol::Timestamp;

use super::chain::{Head, Link, MAX_LINE_BYTES, sha256};
use super::entry::Body;
use super::storage::{Ends, Storage};

/// The end of the last file: what is needed to go on.
#[derive(Debug)]
pub(super) struct Journal {
    pub head: Head,
    file: u64,
    /// The oldest file that is kept.
    oldest: u64,
    /// How long the file is up to its last whole line.
    bytes: u64,
    /// Part of a line may be behind that.
    is_torn: bool,
    /// What the start mended and no line tells yet.
    repaired: Option<Body>,
}

/// How long a file may get and how many are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub file_bytes: u64,
    pub files: u64,
}

impl Journal {
    /// Finds the end of the chain by reading the last file's ends. What somebody changed in it is for `verify` to find.
    pub fn resume(files: &mut dyn Storage) -> io::Result<Self> {
        let numbers = files.numbers()?;
        let mut torn = Vec::new();
        for &number in numbers.iter().rev() {
            let ends = ends_with_a_line(files, number)?;
            files.resume(number)?;
            let Some(end) = ends.last.iter().rposition(|&byte| byte == b'\n') else {
                // The power went while the file's first line was written.
                torn.extend(ends.last);
                files.remove(number)?;
                continue;
            };
            let (whole, rest) = ends.last.split_at(end + 1);
            torn.splice(0..0, rest.iter().copied());
            let bytes = ends.bytes - rest.len() as u64;
            if !rest.is_empty() {
                files.truncate(bytes)?;
            }
            let oldest = first_line(&ends.first).and_then(|link| link.oldest).unwrap_or(numbers[0]);
            let repaired = repaired(&torn);
            return Ok(Self { head: last_head(whole), file: number, oldest, bytes, is_torn: false, repaired });
        }
        let head = Head::start();
        Ok(Self { head, file: 0, oldest: 1, bytes: 0, is_torn: false, repaired: repaired(&torn) })
    }

    /// Appends one entry, after what must stand before it. What failed left nothing behind and can be tried again.
    pub fn append(&mut self, files: &mut dyn Storage, bounds: Bounds, now: Timestamp, body: &Body) -> io::Result<()> {
        if self.is_torn {
            files.truncate(self.bytes)?;
            self.is_torn = false;
        }
        if let Some(repaired) = self.repaired.take() {
            self.put(files, bounds, now, &repaired).inspect_err(|_| self.repaired = Some(repaired.clone()))?;
        }
        self.put(files, bounds, now, body)
    }

    fn put(&mut self, files: &mut dyn Storage, bounds: Bounds, now: Timestamp, body: &Body) -> io::Result<()> {
        let (line, head) = self.head.next(now, body)?;
        if self.file == 0 || self.bytes + line.len() as u64 > bounds.file_bytes {
            self.rotate(files, bounds, now)?;
            return self.put_line(files, now, body);
        }
        match self.write(files, &line, head) {
            // Somebody moved the files away. The chain goes on in a new one, which says what should be there before it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.begin(files, bounds, now)?;
                self.put_line(files, now, body)
            }
            other => other,
        }
    }

    fn put_line(&mut self, files: &mut dyn Storage, now: Timestamp, body: &Body) -> io::Result<()> {
        let (line, head) = self.head.next(now, body)?;
        self.write(files, &line, head)
    }

    fn write(&mut self, files: &mut dyn Storage, line: &[u8], head: Head) -> io::Result<()> {
        files.append(line).inspect_err(|_| self.is_torn = files.truncate(self.bytes).is_err())?;
        self.bytes += line.len() as u64;
        self.head = head;
        Ok(())
    }

    /// The disk is not waited for: whoever writes the audit has other things to do. An old file goes when the new one is on the disk.
    fn rotate(&mut self, files: &mut dyn Storage, bounds: Bounds, now: Timestamp) -> io::Result<()> {
        self.begin(files, bounds, now)?;
        files.settle(files.numbers()?.into_iter().take_while(|&number| number < self.oldest).collect());
        Ok(())
    }

    fn begin(&mut self, files: &mut dyn Storage, bounds: Bounds, now: Timestamp) -> io::Result<()> {
        let highest = files.numbers()?.last().copied().unwrap_or(0);
        let file = self.file.max(highest) + 1;
        let oldest = self.oldest.max((file + 1).saturating_sub(bounds.files));
        let (line, head) = self.head.next(now, &Body::File { file, oldest })?;
        files.begin(file)?;
        if let Err(error) = files.append(&line) {
            // The file before is still the last one.
            files.remove(file)?;
            if self.file > 0 {
                let _ = files.resume(self.file);
            }
            return Err(error);
        }
        *self = Self { head, file, oldest, bytes: line.len() as u64, is_torn: false, repaired: self.repaired.take() };
        Ok(())
    }
}

/// The ends of a file, so much of them that a whole line is in the last one where the file has any. After a power loss some file systems
/// leave zeros where the last blocks should be, more of them than a line is long.
fn ends_with_a_line(files: &dyn Storage, number: u64) -> io::Result<Ends> {
    let mut most = 2 * MAX_LINE_BYTES;
    loop {
        let ends = files.ends(number, most)?;
        if ends.last.contains(&b'\n') || ends.last.len() as u64 >= ends.bytes {
            return Ok(ends);
        }
        most *= 2;
    }
}

fn repaired(torn: &[u8]) -> Option<Body> {
    (!torn.is_empty()).then(|| Body::Repaired { dropped_bytes: torn.len(), dropped_sha256: sha256(torn) })
}

fn first_line(bytes: &[u8]) -> Option<Link> {
    bytes.split_inclusive(|&byte| byte == b'\n').next().and_then(Link::read)
}

/// The head that the last of these lines makes. A line that cannot be read is counted from the last one that can.
fn last_head(lines: &[u8]) -> Head {
    let mut backwards = lines.split_inclusive(|&byte| byte == b'\n').rev().peekable();
    let hash = backwards.peek().map_or_else(|| Head::start().hash, |line| sha256(line));
    let found = backwards.enumerate().find_map(|(after, line)| Some((after as u64, Link::read(line)?.line)));
    Head { line: found.map_or(0, |(after, line)| line.saturating_add(after)), hash }
}
