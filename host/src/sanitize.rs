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
    fn an_excerpt_says_that_it_is_one() {
        assert_eq!(excerpt("abcdef", 6), "abcdef");
        assert_eq!(excerpt("abcdefg", 6), "abcde…");
        assert_eq!(excerpt("\n\n", 5), "␊␊");
    }
}
