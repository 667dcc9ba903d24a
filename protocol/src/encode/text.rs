//! Cutting text by what it takes on the wire, never inside a character.

use crate::Text;

/// How many bytes serde_json makes of each byte of a string.
static ESCAPED: [u8; 256] = {
    let mut bytes = [1; 256];
    let mut control = 0;
    while control < 0x20 {
        bytes[control] = 6;
        control += 1;
    }
    // \b \t \n \f \r \" \\ have short forms.
    let short = [0x08, b'\t', b'\n', 0x0c, b'\r', b'"', b'\\'];
    let mut index = 0;
    while index < short.len() {
        bytes[short[index] as usize] = 2;
        index += 1;
    }
    bytes
};

fn escaped_byte(byte: u8) -> usize {
    usize::from(ESCAPED[usize::from(byte)])
}

/// How many bytes a text takes in JSON, between its quotes.
#[must_use]
pub fn escaped_bytes(text: &str) -> usize {
    text.bytes().map(escaped_byte).sum()
}

/// Takes amounts from a budget; false, and nothing taken, where one is more than what is left.
pub(super) fn spender(budget: usize) -> impl FnMut(usize) -> bool {
    let mut left = budget;
    move |amount| {
        let rest = left.checked_sub(amount);
        left = rest.unwrap_or(left);
        rest.is_some()
    }
}

/// The longest beginning of a text that takes at most `budget` bytes in JSON.
#[must_use]
pub fn head(text: &str, budget: usize) -> &str {
    let mut spend = spender(budget);
    let end = text.bytes().position(|byte| !spend(escaped_byte(byte)));
    &text[..text.floor_char_boundary(end.unwrap_or(text.len()))]
}

/// The longest end that takes at most `budget` bytes escaped.
fn tail(text: &str, budget: usize) -> &str {
    let mut spend = spender(budget);
    let before = text.bytes().rposition(|byte| !spend(escaped_byte(byte)));
    &text[text.ceil_char_boundary(before.map_or(0, |index| index + 1))..]
}

/// Keeps the beginning of a text, at most `budget` bytes escaped.
pub(super) fn keep_head(text: &mut String, budget: usize) {
    let kept = head(text, budget).len();
    text.truncate(kept);
}

/// Keeps the beginning and the end of a text with a note between them, at most `budget` bytes escaped in all. Says whether it
/// had to.
pub(super) fn keep_ends(text: &mut String, budget: usize) -> bool {
    // The common case needs no count: no byte takes more than six.
    if text.len() <= budget / 6 || escaped_bytes(text) <= budget {
        return false;
    }
    let note = |bytes: usize| format!("\n[... {bytes} bytes left out ...]\n");
    let room = budget.saturating_sub(escaped_bytes(&note(text.len())));
    if room == 0 {
        keep_head(text, budget);
        return true;
    }
    let start = head(text, room / 2).len();
    let end = text.len() - tail(text, room - room / 2).len();
    text.replace_range(start..end, &note(end - start));
    true
}

/// Keeps at most `bytes` bytes of a shared text, before escaping.
pub(super) fn shorten(text: &mut Text, bytes: usize) {
    if text.len() > bytes {
        *text = text[..text.floor_char_boundary(bytes)].into();
    }
}

/// The most that each of several wishes may get so that together they stay within the budget: small wishes are met in full, and
/// what they leave is shared evenly among the others.
pub(super) fn fair_level(wishes: &[usize], budget: usize) -> usize {
    let mut ascending = wishes.to_vec();
    ascending.sort_unstable();
    let mut left = budget;
    for (index, wish) in ascending.iter().enumerate() {
        let level = left / (ascending.len() - index);
        if *wish > level {
            return level;
        }
        left -= wish;
    }
    usize::MAX
}

/// How many entries of these sizes, from the first on, stay within the budget.
pub(super) fn kept_entries(sizes: &[usize], budget: usize) -> usize {
    let mut spend = spender(budget);
    sizes.iter().take_while(|size| spend(**size)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_what_serde_json_does() {
        for code in 0..0x800 {
            let Some(character) = char::from_u32(code) else { continue };
            let text = character.to_string();
            let written = serde_json::to_string(&text).unwrap().len() - 2;
            assert_eq!(escaped_bytes(&text), written, "U+{code:04X}");
        }
    }

    #[test]
    fn both_ends_stay_and_the_note_counts_the_middle() {
        let mut text = "a".repeat(500) + &"z".repeat(500);
        assert!(keep_ends(&mut text, 100));
        // The note is counted as if it told of all thousand bytes.
        assert!((99..=100).contains(&escaped_bytes(&text)), "{text}");
        let kept = text.matches(['a', 'z']).count();
        assert!(text.starts_with("aaa") && text.ends_with("zzz"), "{text}");
        // The note's own letters: none is an a or a z.
        assert!(text.contains(&format!("[... {} bytes left out ...]", 1000 - kept)), "{text}");
    }

    #[test]
    fn characters_stay_whole() {
        for budget in 0..80 {
            let mut text = "é\u{1}日本語🦀\n".repeat(20);
            keep_ends(&mut text, budget);
            assert!(escaped_bytes(&text) <= budget, "{budget}: {text:?}");
            let mut text = "🦀é".repeat(20);
            keep_head(&mut text, budget);
            assert!(text.len() <= budget && text.len() + 4 > budget, "{budget}: {text:?}");
        }
    }

    #[test]
    fn what_fits_is_left_alone() {
        let mut text = "\u{1}".repeat(10);
        assert!(!keep_ends(&mut text, 60));
        assert_eq!(text.len(), 10);
    }

    #[test]
    fn the_small_get_all_and_the_large_share() {
        assert_eq!(fair_level(&[10, 20], 30), usize::MAX);
        assert_eq!(fair_level(&[10, 1000, 500], 110), 50);
        assert_eq!(fair_level(&[1000, 30], 100), 70);
        assert_eq!(fair_level(&[5, 5], 0), 0);
        assert_eq!(fair_level(&[], 7), usize::MAX);
    }
}
