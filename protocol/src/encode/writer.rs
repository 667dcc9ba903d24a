//! Where serde_json writes to: a line that refuses to outgrow its limit, and a counter that keeps nothing.

use std::io::{self, Write};

use serde::Serialize;

/// A line under construction. The write that would take it over the limit fails, so a message of any size costs no more memory
/// than a line.
pub(super) struct LineWriter {
    line: Vec<u8>,
    limit: usize,
}

impl LineWriter {
    pub(super) fn new(limit: usize) -> Self {
        Self { line: Vec::with_capacity(limit.min(1 << 10)), limit }
    }

    /// The line with its `\n`.
    pub(super) fn into_line(mut self) -> Vec<u8> {
        self.line.push(b'\n');
        self.line
    }
}

impl Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > self.limit - self.line.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Counter(usize);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How many bytes something takes as JSON.
pub(super) fn json_bytes(value: &(impl Serialize + ?Sized)) -> Result<usize, serde_json::Error> {
    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, value)?;
    Ok(counter.0)
}
