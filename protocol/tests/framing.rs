//! Lines out of a stream, however it is cut.

#[path = "support/properties.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod properties;

use infini_protocol::framing::{Frame, LineDecoder};
use properties::{Kept, frames, plain_frames};
use proptest::prelude::*;

fn line(text: &str) -> Kept {
    Kept::Line(text.as_bytes().to_vec())
}

#[test]
fn endings_and_blank_lines() {
    let stream = b"{\"a\":1}\n\r\n\n  \t\r\n{\"b\":2}\r\n{\"c\":3}";
    assert_eq!(frames(64, [&stream[..]]), [line("{\"a\":1}"), line("{\"b\":2}")]);
    // Only one \r belongs to the ending.
    assert_eq!(frames(64, [&b"a\r\r\n"[..]]), [line("a\r")]);
}

#[test]
fn a_line_of_exactly_the_limit_is_a_line() {
    for ending in ["\n", "\r\n"] {
        for (length, expected) in [(8, line("xxxxxxxx")), (9, Kept::TooLong(9)), (30, Kept::TooLong(30))] {
            let stream = "x".repeat(length) + ending;
            for cut in 1..stream.len() {
                let frames = frames(8, stream.as_bytes().chunks(cut));
                assert_eq!(frames, std::slice::from_ref(&expected), "{length} bytes cut by {cut}");
            }
        }
    }
}

#[test]
fn the_stream_goes_on_after_a_line_that_is_too_long() {
    let stream = ["x".repeat(1000), "{\"a\":1}".to_owned(), String::new()].join("\n");
    for cut in [1, 7, 999, 1000, 1001, 2000] {
        assert_eq!(frames(8, stream.as_bytes().chunks(cut)), [Kept::TooLong(1000), line("{\"a\":1}")], "cut by {cut}");
    }
}

#[test]
fn a_line_without_end_costs_no_memory() {
    let mut decoder = LineDecoder::new(1 << 20);
    let read = vec![b'x'; 64 << 10];
    let mut most = 0;
    for _ in 0..160 {
        decoder.feed(&read, |frame| panic!("{frame:?}"));
        most = most.max(decoder.buffered());
    }
    assert!(most <= (1 << 20) + 1 && decoder.buffered() == 0, "{most} bytes, then {}", decoder.buffered());
    let mut told = None;
    decoder.feed(b"\n", |frame| told = Some(Kept::from(frame)));
    assert_eq!(told, Some(Kept::TooLong(160 * (64 << 10))));
}

#[test]
fn a_new_connection_begins_a_new_line() {
    let mut decoder = LineDecoder::new(64);
    for half in [&b"{\"half\":"[..], &[b'x'; 100]] {
        decoder.feed(half, |frame| panic!("{frame:?}"));
        decoder.reset();
        assert_eq!(decoder.buffered(), 0);
        let mut lines = Vec::new();
        decoder.feed(b"{}\n", |frame| lines.push(frame == Frame::Line(b"{}")));
        assert_eq!(lines, [true]);
    }
}

/// Bytes that are interesting to a framer: endings, blanks, and runs around a small limit.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b" \t".to_vec()),
        (1..40usize).prop_map(|count| vec![b'x'; count]),
        prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_frames(
        stream in stream(),
        limit in 0..40usize,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let reads = cuts.windows(2).map(|ends| &stream[ends[0]..ends[1]]);
        prop_assert_eq!(frames(limit, reads), plain_frames(limit, &stream));
    }
}
