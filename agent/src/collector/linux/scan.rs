//! Taking the kernel's text apart as bytes: no UTF-8 check, no copy, no float where an integer does.

use infini_protocol::Text;

/// The lines of a text, without their ends; no empty one after the last.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let mut start = 0;
    let ends = memchr::memchr_iter(b'\n', text).chain(std::iter::once(text.len()));
    ends.map(move |end| &text[std::mem::replace(&mut start, end + 1)..end])
}

/// The fields of a line, which any number of spaces or tabs separate.
pub fn fields(line: &[u8]) -> Fields<'_> {
    Fields { rest: line }
}

/// See [`fields`].
#[derive(Clone, Debug)]
pub struct Fields<'t> {
    rest: &'t [u8],
}

impl<'t> Fields<'t> {
    /// The next field as a decimal number; `None` where there is no further field or it is not a number.
    pub fn decimal(&mut self) -> Option<u64> {
        decimal(self.next()?)
    }
}

impl<'t> Iterator for Fields<'t> {
    type Item = &'t [u8];

    fn next(&mut self) -> Option<&'t [u8]> {
        let start = self.rest.iter().position(|byte| !is_blank(*byte))?;
        let field = &self.rest[start..];
        let end = field.iter().position(|byte| is_blank(*byte)).unwrap_or(field.len());
        self.rest = &field[end..];
        Some(&field[..end])
    }
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// A text of decimal digits and nothing else, as a number; `None` for other text and what a `u64` cannot hold.
pub fn decimal(text: &[u8]) -> Option<u64> {
    number::<10>(text)
}

/// A text of hexadecimal digits and nothing else, as a number.
pub fn hexadecimal(text: &[u8]) -> Option<u64> {
    number::<16>(text)
}

/// The radix is a constant, so that each kind of number gets a loop of its own without a division of cases in it.
fn number<const RADIX: u32>(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |value, byte| {
        let digit = char::from(*byte).to_digit(RADIX)?;
        value.checked_mul(RADIX.into())?.checked_add(digit.into())
    })
}

/// A decimal number with exactly two places (`0.25`, `12.00`: load averages, pressure, uptime) in hundredths.
pub fn hundredths(text: &[u8]) -> Option<u64> {
    let point = text.len().checked_sub(3)?;
    if text[point] != b'.' {
        return None;
    }
    decimal(&text[..point])?.checked_mul(100)?.checked_add(decimal(&text[point + 1..])?)
}

/// Text of the kernel's for people: what is not UTF-8 becomes U+FFFD.
pub fn text(bytes: &[u8]) -> Text {
    String::from_utf8_lossy(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_need_no_last_newline() {
        let expected: [&[u8]; 3] = [b"a", b"", b"b"];
        assert_eq!(lines(b"a\n\nb\n").collect::<Vec<_>>(), expected);
        assert_eq!(lines(b"a\n\nb").collect::<Vec<_>>(), expected);
    }

    #[test]
    fn fields_are_separated_by_any_blanks() {
        let mut fields = fields(b"  eth0: 12\t\t7  the rest ");
        assert_eq!(fields.next(), Some(&b"eth0:"[..]));
        assert_eq!(fields.decimal(), Some(12));
        assert_eq!(fields.clone().decimal(), Some(7));
        assert_eq!(fields.nth(2), Some(&b"rest"[..]));
        assert_eq!(fields.next(), None);
    }

    #[test]
    fn numbers_are_digits_and_fit() {
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(hexadecimal(b"0A00020f"), Some(0x0a00_020f));
        for wrong in [&b""[..], b"18446744073709551616", b"-1", b"1 ", b"0x1", b"1a"] {
            assert_eq!(decimal(wrong), None, "{:?}", text(wrong));
        }
    }

    #[test]
    fn two_places_are_hundredths() {
        assert_eq!(hundredths(b"0.00"), Some(0));
        assert_eq!(hundredths(b"12.34"), Some(1234));
        for wrong in [&b""[..], b"1", b".5", b".50", b"1.5", b"1.555", b"1,55"] {
            assert_eq!(hundredths(wrong), None, "{:?}", text(wrong));
        }
    }
}
