//! What holds for any bytes. The fuzz targets run these with inputs that grow by coverage, the corpus test with those that were kept,
//! the property tests with random ones.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use infini_protocol::envelope::{self, EnvelopeError, Key};
use infini_protocol::framing::{Frame, LineDecoder};
use infini_protocol::host::HostMessage;

/// A frame that outlives the decoder's buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Kept {
    Line(Vec<u8>),
    TooLong(u64),
}

impl From<Frame<'_>> for Kept {
    fn from(frame: Frame<'_>) -> Self {
        match frame {
            Frame::Line(line) => Self::Line(line.to_vec()),
            Frame::TooLong { bytes } => Self::TooLong(bytes),
        }
    }
}

/// The frames of reads that come one after another.
pub fn frames<'a>(limit: usize, reads: impl IntoIterator<Item = &'a [u8]>) -> Vec<Kept> {
    let mut decoder = LineDecoder::new(limit);
    let mut frames = Vec::new();
    for read in reads {
        decoder.feed(read, |frame| frames.push(frame.into()));
        assert!(decoder.buffered() <= limit + 1, "{} bytes kept, the limit is {limit}", decoder.buffered());
    }
    frames
}

/// The frames as the protocol's words put them: slow, with all lines in memory.
pub fn plain_frames(limit: usize, stream: &[u8]) -> Vec<Kept> {
    let Some(end) = stream.iter().rposition(|&byte| byte == b'\n') else { return Vec::new() };
    let lines = stream[..end].split(|&byte| byte == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines
        .filter_map(|line| match line {
            line if line.len() > limit => Some(Kept::TooLong(line.len() as u64)),
            line if line.iter().all(u8::is_ascii_whitespace) => None,
            line => Some(Kept::Line(line.to_vec())),
        })
        .collect()
}

/// The first bytes say how to cut the rest into reads; any cut gives the same frames.
pub fn framer(input: &[u8]) {
    let Some(([limit, cut], stream)) = input.split_first_chunk() else { return };
    let (limit, cut) = (usize::from(*limit), usize::from(*cut) + 1);
    let expected = plain_frames(limit, stream);
    assert_eq!(frames(limit, [stream]), expected, "in one read");
    assert_eq!(frames(limit, stream.chunks(cut)), expected, "in reads of {cut}");
    assert_eq!(frames(limit, stream.chunks(1)), expected, "byte by byte");
}

/// No line opens by chance, whatever it holds; and any text that is sealed opens again.
pub fn sealed(input: &[u8]) {
    let key = Key::new("0123456789abcdef").unwrap();
    if let Ok(opened) = envelope::open(&key, input) {
        // Possible only where the input was signed with this key. Its content then signs to an envelope that opens alike.
        let again = envelope::seal(&key, opened.ts, &opened.nonce, &opened.payload).unwrap();
        assert_eq!(envelope::open(&key, again.as_bytes()).unwrap(), opened);
    }
    let payload = String::from_utf8_lossy(input);
    let line = envelope::seal(&key, input.len() as u64, "n-1", &payload).unwrap();
    assert!(!line.contains('\n'));
    let opened = envelope::open(&key, line.as_bytes()).unwrap();
    assert_eq!((opened.ts, &*opened.nonce, &*opened.payload), (input.len() as u64, "n-1", &*payload));
    let other = Key::new("0123456789abcdeF").unwrap();
    assert!(matches!(envelope::open(&other, line.as_bytes()), Err(EnvelopeError::WrongSignature)));
}

/// What parses says the same when it is written and read again; a command keeps its id.
pub fn host_message(input: &[u8]) {
    let name = HostMessage::command(input);
    let Ok(message) = HostMessage::parse(input) else { return };
    let written = serde_json::to_vec(&message).unwrap();
    assert_eq!(HostMessage::parse(&written).unwrap(), message);
    let own = match message {
        HostMessage::SafeCommand(command) => Some((command.id, command.command_type.action)),
        HostMessage::UnsafeCommand(command) => Some((command.id, "unsafe".to_owned())),
        _ => None,
    };
    assert_eq!(name.map(|name| (name.id, name.command_type)), own);
}
