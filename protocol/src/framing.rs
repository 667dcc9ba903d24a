//! Lines out of a byte stream.
//!
//! A line ends with `\n`; a `\r` before it belongs to the ending. Blank lines are nobody's. A line over the limit is skipped up to
//! its ending without being kept, and reported; the stream goes on.

use memchr::memchr;

/// What the decoder found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A line without its ending.
    Line(&'a [u8]),
    /// The end of a line that was over the limit.
    TooLong {
        /// How long the line was.
        bytes: u64,
    },
}

/// Cuts a stream into lines, however the stream is cut into reads: any split of the same bytes gives the same frames.
#[derive(Debug)]
pub struct LineDecoder {
    limit: usize,
    /// The beginning of a line whose end has not come: never more than the limit and one byte for a `\r`.
    partial: Vec<u8>,
    skipped: Option<Skipped>,
}

#[derive(Debug)]
struct Skipped {
    bytes: u64,
    last: u8,
}

/// What a line's buffer may keep between lines; one long line should not cost memory for ever.
const KEEP_CAPACITY: usize = 64 << 10;

impl LineDecoder {
    /// A decoder for lines of at most `limit` bytes, the ending not counted.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, partial: Vec::new(), skipped: None }
    }

    /// Takes what was read and hands every frame that ends in it to `on_frame`, in order.
    pub fn feed(&mut self, mut input: &[u8], mut on_frame: impl FnMut(Frame<'_>)) {
        while let Some(end) = memchr(b'\n', input) {
            let (head, rest) = (&input[..end], &input[end + 1..]);
            input = rest;
            if self.partial.is_empty() && self.skipped.is_none() {
                emit(head, self.limit, &mut on_frame);
                continue;
            }
            self.hold(head);
            match self.skipped.take() {
                Some(skipped) => on_frame(skipped.frame()),
                None => emit(&self.partial, self.limit, &mut on_frame),
            }
            self.partial.clear();
            self.partial.shrink_to(KEEP_CAPACITY);
        }
        self.hold(input);
    }

    /// Forgets a half line: what follows comes from another connection.
    pub fn reset(&mut self) {
        self.partial = Vec::new();
        self.skipped = None;
    }

    /// How many bytes of an unfinished line are kept.
    #[must_use]
    pub const fn buffered(&self) -> usize {
        self.partial.len()
    }

    fn hold(&mut self, bytes: &[u8]) {
        let Some(&last) = bytes.last() else { return };
        if let Some(skipped) = &mut self.skipped {
            *skipped = Skipped { bytes: skipped.bytes + bytes.len() as u64, last };
        } else if self.partial.len() + bytes.len() > self.limit + 1 {
            self.skipped = Some(Skipped { bytes: (self.partial.len() + bytes.len()) as u64, last });
            self.partial = Vec::new();
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }
}

impl Skipped {
    fn frame(&self) -> Frame<'static> {
        Frame::TooLong { bytes: self.bytes - u64::from(self.last == b'\r') }
    }
}

fn emit(line: &[u8], limit: usize, on_frame: &mut impl FnMut(Frame<'_>)) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > limit {
        on_frame(Frame::TooLong { bytes: line.len() as u64 });
    } else if !line.iter().all(u8::is_ascii_whitespace) {
        on_frame(Frame::Line(line));
    }
}
