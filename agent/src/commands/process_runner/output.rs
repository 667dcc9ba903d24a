//! Keeping a program's output in bounded memory.

use std::collections::VecDeque;

use infini_protocol::limits::{MAX_LINE_BYTES, RESPONSE_RESERVE_BYTES};

use super::Captured;

/// What is kept of a stream's beginning, and of its end again. One stream alone then just fills what a line gives to output; where both
/// are that long the encoder cuts on.
const END_BYTES: usize = (MAX_LINE_BYTES - RESPONSE_RESERVE_BYTES) / 2;

/// The beginning and the end of a stream of any length. Memory is taken as the stream grows, and no more than a line can carry.
#[derive(Debug, Default)]
pub(super) struct HeadTail {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    omitted: u64,
}

impl HeadTail {
    /// Takes in the next piece of the stream.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(END_BYTES - self.head.len()));
        self.head.extend_from_slice(head);
        let overflow = (self.tail.len() + rest.len()).saturating_sub(END_BYTES);
        let from_tail = overflow.min(self.tail.len());
        self.tail.drain(..from_tail);
        self.tail.extend(&rest[overflow - from_tail..]);
        self.omitted += overflow as u64;
    }

    /// The text of the stream.
    pub(super) fn finish(mut self) -> Captured {
        let tail = self.tail.make_contiguous();
        let mut bytes = self.head;
        let mut omitted = self.omitted;
        if omitted == 0 {
            bytes.extend_from_slice(tail);
        } else {
            // Halves of characters at the seam are no invalid UTF-8 of the program's.
            let tail_start = tail.iter().take(3).take_while(|&&byte| is_continuation(byte)).count();
            let head_end = whole_characters(&bytes);
            omitted += (tail_start + bytes.len() - head_end) as u64;
            bytes.truncate(head_end);
            bytes.extend_from_slice(format!("\n[... {omitted} bytes left out ...]\n").as_bytes());
            bytes.extend_from_slice(&tail[tail_start..]);
        }
        let text =
            String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        Captured { text, omitted }
    }
}

const fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// Where the last character ends that the bytes hold in full.
fn whole_characters(bytes: &[u8]) -> usize {
    let Some(back) = bytes.iter().rev().take(4).position(|&byte| !is_continuation(byte)) else { return bytes.len() };
    let start = bytes.len() - back - 1;
    let length = match bytes[start] {
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf7 => 4,
        _ => 1,
    };
    if back + 1 < length { start } else { bytes.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(pieces: &[&[u8]]) -> Captured {
        let mut output = HeadTail::default();
        pieces.iter().for_each(|piece| output.push(piece));
        output.finish()
    }

    #[test]
    fn what_fits_is_kept_as_it_is() {
        let long = "ä".repeat(END_BYTES);
        let (first, second) = long.as_bytes().split_at(END_BYTES + 1);
        let kept = captured(&[first, second]);
        assert!(kept.text == long && kept.omitted == 0, "{} bytes left out", kept.omitted);
        assert_eq!(captured(&[]), Captured::default());
    }

    #[test]
    fn the_ends_of_a_longer_stream_are_kept_whatever_the_pieces() {
        let total = 3 * END_BYTES + 12_345;
        let stream: Vec<u8> = (0..total).map(|index| b'a' + u8::try_from(index % 23).unwrap()).collect();
        for size in [1_000, 8_192, END_BYTES - 1, END_BYTES + 1, total] {
            let pieces: Vec<&[u8]> = stream.chunks(size).collect();
            let kept = captured(&pieces);
            let omitted = total - 2 * END_BYTES;
            let note = format!("\n[... {omitted} bytes left out ...]\n");
            let (head, tail) = kept.text.split_once(&note).unwrap();
            assert_eq!(kept.omitted, omitted as u64, "pieces of {size}");
            assert!(head.as_bytes() == &stream[..END_BYTES] && tail.as_bytes() == &stream[total - END_BYTES..]);
        }
    }

    #[test]
    fn a_character_at_the_seam_is_left_out_whole() {
        let mut stream = vec![b'x'; END_BYTES - 1];
        stream.extend("€".repeat(END_BYTES).bytes());
        let kept = captured(&[&stream]);
        assert!(!kept.text.contains(char::REPLACEMENT_CHARACTER), "half a character was kept");
        let note = format!("\n[... {} bytes left out ...]\n", kept.omitted);
        let (head, tail) = kept.text.split_once(&note).unwrap();
        assert_eq!(head.len() + tail.len() + usize::try_from(kept.omitted).unwrap(), stream.len());
    }

    #[test]
    fn memory_is_bounded() {
        let mut output = HeadTail::default();
        let piece = vec![b'x'; 64 << 10];
        for _ in 0..1_600 {
            output.push(&piece);
        }
        let taken = output.head.capacity() + output.tail.capacity();
        assert!(taken <= 4 * END_BYTES, "{taken} bytes for 100 MiB");
    }

    #[test]
    fn what_is_no_utf8_is_replaced() {
        assert_eq!(captured(&[b"a\xffb\xc3"]).text, "a\u{fffd}b\u{fffd}");
    }
}
