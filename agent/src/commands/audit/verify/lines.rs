//! Reads lines without ever holding more than one.

use std::io::{self, BufRead, BufReader, Read};

use crate::commands::audit::chain::MAX_LINE_BYTES;

/// Fewer and larger reads cost less; this much fits a processor's cache.
const BUFFER_BYTES: usize = 128 << 10;

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// A line, with its `\n`.
    Line(&'a [u8]),
    /// A line that is longer than any may be. Its bytes are not kept.
    TooLong,
    /// The file ends within a line, after so many bytes of it. More may come: then the next call gives the line.
    Half(u64),
    /// The file ends with the end of a line.
    End,
}

/// The lines of a file.
#[derive(Debug)]
pub struct Lines<R> {
    source: BufReader<R>,
    /// The line so far; its further bytes are only counted once it is too long.
    line: Vec<u8>,
    /// How long the line is so far.
    bytes: u64,
    /// The line was handed out and gives way to the next.
    is_over: bool,
}

impl<R: Read> Lines<R> {
    /// The lines that this gives.
    pub fn new(source: R) -> Self {
        Self { source: BufReader::with_capacity(BUFFER_BYTES, source), line: Vec::new(), bytes: 0, is_over: false }
    }

    /// Reads on.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn next(&mut self) -> io::Result<Next<'_>> {
        if std::mem::take(&mut self.is_over) {
            self.line.clear();
            self.bytes = 0;
        }
        while !self.is_over {
            let read = self.source.fill_buf()?;
            if read.is_empty() {
                return Ok(if self.bytes == 0 { Next::End } else { Next::Half(self.bytes) });
            }
            let end = memchr::memchr(b'\n', read);
            let part = &read[..end.map_or(read.len(), |end| end + 1)];
            if self.line.len() + part.len() <= MAX_LINE_BYTES {
                self.line.extend_from_slice(part);
            }
            self.bytes += part.len() as u64;
            self.is_over = end.is_some();
            let length = part.len();
            self.source.consume(length);
        }
        Ok(if self.bytes > MAX_LINE_BYTES as u64 { Next::TooLong } else { Next::Line(&self.line) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_whole_whatever_pieces_it_is_read_in() {
        let text = b"one\n\nthree\nhal";
        for size in 1..=text.len() {
            let mut lines = Lines::new(Pieces(text, size));
            for line in [&b"one\n"[..], b"\n", b"three\n"] {
                assert_eq!(lines.next().unwrap(), Next::Line(line), "{size} bytes a piece");
            }
            assert_eq!(lines.next().unwrap(), Next::Half(3));
            assert_eq!(lines.next().unwrap(), Next::Half(3), "nothing more came");
        }
        assert_eq!(Lines::new(&b""[..]).next().unwrap(), Next::End);
    }

    #[test]
    fn half_a_line_is_whole_once_the_rest_has_come() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |text: &str| std::io::Write::write_all(&mut file.as_file(), text.as_bytes()).unwrap();
        write("ha");
        let mut lines = Lines::new(file.reopen().unwrap());
        assert_eq!(lines.next().unwrap(), Next::Half(2));
        write("lf\n");
        assert_eq!(lines.next().unwrap(), Next::Line(b"half\n"));
        assert_eq!(lines.next().unwrap(), Next::End);
    }

    #[test]
    fn an_endless_line_takes_no_more_memory_than_one_may() {
        let mut text = vec![b'x'; MAX_LINE_BYTES - 1];
        text.push(b'\n');
        text.extend(std::iter::repeat_n(b'y', 5 * MAX_LINE_BYTES));
        text.extend_from_slice(b"\nlast\n");
        let mut lines = Lines::new(&text[..]);
        assert!(matches!(lines.next().unwrap(), Next::Line(line) if line.len() == MAX_LINE_BYTES));
        assert_eq!(lines.next().unwrap(), Next::TooLong);
        assert!(lines.line.capacity() <= 2 * MAX_LINE_BYTES, "{} bytes", lines.line.capacity());
        assert_eq!(lines.next().unwrap(), Next::Line(b"last\n"));
    }

    /// Gives so many bytes at a time.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(self.1).min(self.0.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }
}
