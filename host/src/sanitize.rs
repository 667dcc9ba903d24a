//! Text of a guest on its way to a terminal.
//!
//! A process may call itself anything, an escape sequence that rewrites the screen or types into it included. [`sanitize`] puts
//! a visible sign in the place of each character that a terminal acts on or that hides or turns the text around it.

use std::borrow::Cow;

/// Stands for a character that has no picture of its own.
const REPLACEMENT: char = '\u{FFFD}';

/// The text with every control and format character replaced by one visible character: ESC becomes `␛`, a line feed `␊`.
///
/// ```
/// # use infinihost::sanitize::sanitize;
/// assert_eq!(sanitize("plain"), "plain");
/// assert_eq!(sanitize("a\u{1b}[2Jb\n"), "a␛[2Jb␊");
/// ```
#[must_use]
pub fn sanitize(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_dangerous) { text.chars().map(picture).collect::<String>().into() } else { text.into() }
}

/// [`sanitize`], of at most `limit` characters; what is cut ends in `…`.
#[must_use]
pub fn excerpt(text: &str, limit: usize) -> String {
    let mut chars = text.chars().map(picture);
    let mut kept: String = chars.by_ref().take(limit).collect();
    if chars.next().is_some() {
        kept.pop();
        kept.push('…');
    }
    kept
}

/// A program's output on its way to a terminal: lines, tabs and colours stay as they are, everything else that [`sanitize`] replaces
/// is replaced here, too. Where there were colours they end with the text.
///
/// ```
/// # use infinihost::sanitize::output;
/// assert_eq!(output("a\tb\r\n\u{1b}[2Jc"), "a\tb\n␛[2Jc");
/// assert_eq!(output("\u{1b}[1;31mred"), "\u{1b}[1;31mred\u{1b}[0m");
/// ```
#[must_use]
pub fn output(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| is_dangerous(c) && c != '\n' && c != '\t') {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    let (mut rest, mut coloured) = (text, false);
    while let Some(c) = rest.chars().next() {
        let colour = colour(rest);
        coloured |= colour > 0;
        shown.push_str(&rest[..colour]);
        rest = &rest[colour..];
        if colour > 0 {
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match c {
            '\n' | '\t' => shown.push(c),
            // The end of a line on a terminal or on Windows; alone it would write over the line.
            '\r' if rest.starts_with('\n') => {}
            c => shown.push(picture(c)),
        }
    }
    if coloured {
        shown.push_str("\u{1b}[0m");
    }
    shown.into()
}

/// How many bytes at the start of the text set colours (SGR of ECMA-48): `ESC [`, numbers, `m`.
fn colour(text: &str) -> usize {
    let Some(sequence) = text.strip_prefix("\u{1b}[") else { return 0 };
    let numbers =
        sequence.bytes().take(LONGEST_COLOUR).take_while(|byte| matches!(byte, b'0'..=b'9' | b';' | b':')).count();
    if sequence.as_bytes().get(numbers) == Some(&b'm') { numbers + 3 } else { 0 }
}

/// The most characters of numbers in a colour: two colours of three numbers each and some attributes.
const LONGEST_COLOUR: usize = 64;

/// Whether a terminal acts on the character, or shows nothing or something else in its place.
#[must_use]
pub const fn is_dangerous(c: char) -> bool {
    matches!(c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        // Soft hyphen, Arabic letter mark, Mongolian vowel separator: invisible.
        | '\u{ad}' | '\u{61c}' | '\u{180e}'
        // Zero-width characters, marks and overrides of the writing direction, line and paragraph separators.
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        // Tags: invisible letters.
        | '\u{e0000}'..='\u{e0fff}'
    )
}

fn picture(c: char) -> char {
    match c {
        // Unicode has a picture for each of the first controls, in their order, and one for DEL.
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(REPLACEMENT),
        '\u{7f}' => '\u{2421}',
        c if is_dangerous(c) => REPLACEMENT,
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_lose_their_power() {
        let title = "\u{1b}]0;owned\u{7}\u{9b}31m\u{7f}";
        assert_eq!(sanitize(title), "␛]0;owned␇\u{FFFD}31m␡");
    }

    #[test]
    fn no_dangerous_character_is_left() {
        let all: String = (0..=0x10_ffff).filter_map(char::from_u32).collect();
        let left: Vec<char> = sanitize(&all).chars().filter(|&c| is_dangerous(c) || c.is_control()).collect();
        assert!(left.is_empty(), "these reach the terminal: {left:?}");
    }

    #[test]
    fn text_cannot_be_turned_around() {
        assert_eq!(sanitize("gpj.\u{202e}exe"), "gpj.\u{FFFD}exe");
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        for text in ["", "/usr/bin/café --name=日本語", "│ ok │"] {
            assert!(matches!(sanitize(text), Cow::Borrowed(same) if same == text), "{text:?} was changed");
        }
    }

    #[test]
    fn output_keeps_lines_and_colours_and_nothing_else() {
        for (text, shown) in [
            ("plain\n\ttext\n", "plain\n\ttext\n"),
            ("\u{1b}[31mred\u{1b}[0m\n", "\u{1b}[31mred\u{1b}[0m\n\u{1b}[0m"),
            ("\u{1b}[38;5;1m\u{1b}[mx", "\u{1b}[38;5;1m\u{1b}[mx\u{1b}[0m"),
            ("ok\rno", "ok␍no"),
            ("\u{1b}]0;title\u{7}\u{1b}[5n\u{1b}[1;1H\u{8}", "␛]0;title␇␛[5n␛[1;1H␈"),
            ("\u{1b}[31", "␛[31"),
            ("\u{1b}[?1m\u{9b}31m\u{1b}", "␛[?1m\u{FFFD}31m␛"),
            ("gpj.\u{202e}exe", "gpj.\u{FFFD}exe"),
        ] {
            assert_eq!(output(text), shown, "{text:?}");
        }
        let endless = format!("\u{1b}[{}m", "1;".repeat(LONGEST_COLOUR));
        assert!(output(&endless).starts_with('␛'), "a sequence of any length reaches the terminal");
    }

    #[test]
    fn an_excerpt_says_that_it_is_one() {
        assert_eq!(excerpt("abcdef", 6), "abcdef");
        assert_eq!(excerpt("abcdefg", 6), "abcde…");
        assert_eq!(excerpt("\n\n", 5), "␊␊");
    }
}
