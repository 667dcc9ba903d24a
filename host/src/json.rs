//! A sample as one JSON object a line:
//!
//! ```json
//! {"vm":"web","timestamp":"2026-01-31T12:00:00.123Z","received":"2026-01-31T12:00:00.125Z","data":{"system":{}}}
//! ```
//!
//! `vm` is the name or path that the user gave, `timestamp` the guest's clock, `received` the host's, `data` that of the
//! protocol's `metrics` message, written anew from typed values. Characters that a terminal acts on are written as `\u` escapes,
//! which changes nothing for whoever reads the JSON.

use std::io;

use infini_protocol::Timestamp;
use infini_protocol::metrics::MetricsData;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};

use crate::sanitize::is_dangerous;
use crate::vm::Sample;

#[derive(Serialize)]
struct Line<'a> {
    vm: &'a str,
    timestamp: Timestamp,
    received: Timestamp,
    data: &'a MetricsData,
}

/// The sample as a line with its `\n`.
///
/// # Errors
/// Where a value cannot be written as JSON; none of a sample's can fail.
pub fn line(vm: &str, sample: &Sample) -> serde_json::Result<Vec<u8>> {
    any_line(&Line { vm, timestamp: sample.timestamp, received: sample.received, data: &sample.data })
}

/// Anything as a line with its `\n`, with the characters that a terminal acts on escaped as in [`line()`].
///
/// # Errors
/// Where a value cannot be written as JSON.
pub fn any_line(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(4 << 10);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, TerminalSafe))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Compact JSON in which no character is left that a terminal acts on.
struct TerminalSafe;

impl Formatter for TerminalSafe {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if !fragment.contains(is_dangerous) {
            return CompactFormatter.write_string_fragment(writer, fragment);
        }
        for c in fragment.chars() {
            if is_dangerous(c) {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            } else {
                write!(writer, "{c}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use infini_protocol::ErrorCode;
    use infini_protocol::metrics::CollectError;

    use super::*;

    #[test]
    fn a_line_is_safe_to_print_and_means_the_same() {
        let hostile = "a\u{1b}[2J\u{9b}31m\u{202e}\u{e0041}\u{7f}\n\"\\é";
        let error =
            CollectError { component: "cpu".into(), error_code: ErrorCode::Internal, message: hostile.to_owned() };
        let data = MetricsData { errors: vec![error], ..MetricsData::default() };
        let at = Timestamp::from_unix_ms(0);
        let line = String::from_utf8(line("web", &Sample { timestamp: at, received: at, data }).unwrap()).unwrap();
        assert!(!line.trim_end_matches('\n').contains(is_dangerous), "{line:?}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["data"]["errors"][0]["message"], hostile);
        assert_eq!((&value["vm"], &value["timestamp"]), (&"web".into(), &"1970-01-01T00:00:00.000Z".into()));
    }
}
