//! What is searched for.

use serde::Deserialize;

/// One to eight words, each of which a package's name or description must hold. Managers take a search for a regular expression, a
/// pattern or an option, so words have letters, digits and what package names have, and start with a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SearchWords(Vec<String>);

/// Why a text cannot be searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a query is one to eight words of letters, digits and _ - . + that start with a letter or a digit, 100 bytes in all"
)]
pub struct NoWords;

const MOST_BYTES: usize = 100;
const MOST_WORDS: usize = 8;

impl SearchWords {
    /// The words.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.0
    }

    /// The words as regular expressions that match nothing but themselves.
    #[must_use]
    pub fn escaped(&self) -> Vec<String> {
        self.0.iter().map(|word| word.replace('.', r"\.").replace('+', r"\+")).collect()
    }

    /// Whether all words are in a text, in any case.
    #[must_use]
    pub fn are_in(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.0.iter().all(|word| text.contains(&word.to_lowercase()))
    }
}

impl TryFrom<String> for SearchWords {
    type Error = NoWords;

    fn try_from(text: String) -> Result<Self, NoWords> {
        let words: Vec<String> = text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let bounded = text.len() <= MOST_BYTES && (1..=MOST_WORDS).contains(&words.len());
        if bounded && words.iter().all(|word| is_word(word)) { Ok(Self(words)) } else { Err(NoWords) }
    }
}

fn is_word(word: &str) -> bool {
    word.starts_with(char::is_alphanumeric)
        && word.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_words_are_searched_for() {
        let words = SearchWords::try_from("  g++ lib.so ".to_owned()).unwrap();
        assert_eq!(words.words(), ["g++", "lib.so"]);
        assert_eq!(words.escaped(), [r"g\+\+", r"lib\.so"]);
        assert!(words.are_in("GNU G++ and lib.so.6") && !words.are_in("g++"));
        let long = "a".repeat(101);
        for wrong in
            ["", " ", "-a", "--help", "a*", "^a", "a;b", "a\nb", "a\0", "$(id)", "/etc/*", "a|b", "[a]", "'", &long]
        {
            assert_eq!(SearchWords::try_from(wrong.to_owned()), Err(NoWords), "{wrong:?}");
        }
    }
}
