//! Patterns for names: `*` is any text, `?` one character, everything else is itself.

use std::str::Chars;

use serde::{Deserialize, Serialize};

/// Longer than any name that it could be for.
const MOST_BYTES: usize = 256;

/// A pattern for a whole name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Glob(String);

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGlob {
    /// It would match nothing.
    #[error("a pattern is not empty")]
    Empty,
    /// It is too long.
    #[error("a pattern has at most {MOST_BYTES} bytes, not {0}")]
    TooLong(usize),
    /// It means something elsewhere and nothing here, so it would not do what its author thinks.
    #[error("{0:?} is no pattern for names because of {1:?}: only * (any text) and ? (one character) are special")]
    Character(String, char),
}

impl Glob {
    /// Whether the whole name fits. Takes at most the pattern's length times the name's.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (mut pattern, mut rest) = (self.0.chars(), name.chars());
        // Where to go on when what stands behind the last star did not fit. Earlier stars need no second try: whatever they would
        // take more, the last one can take.
        let mut retry: Option<(Chars<'_>, Chars<'_>)> = None;
        loop {
            let wanted = pattern.next();
            if wanted == Some('*') {
                retry = Some((pattern.clone(), rest.clone()));
                continue;
            }
            match (wanted, rest.next()) {
                (None, None) => return true,
                (Some('?'), Some(_)) => {}
                (Some(wanted), Some(found)) if wanted == found => {}
                _ => {
                    let Some((behind_star, from)) = &mut retry else { return false };
                    if from.next().is_none() {
                        return false;
                    }
                    (pattern, rest) = (behind_star.clone(), from.clone());
                }
            }
        }
    }

    /// Whether it fits every name.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.0.bytes().all(|byte| byte == b'*')
    }

    /// The pattern's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Glob {
    type Error = InvalidGlob;

    fn try_from(text: String) -> Result<Self, InvalidGlob> {
        let special = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '[' | ']' | '{' | '}' | '\\');
        match text.chars().find(|&c| special(c)) {
            _ if text.is_empty() => Err(InvalidGlob::Empty),
            _ if text.len() > MOST_BYTES => Err(InvalidGlob::TooLong(text.len())),
            Some(wrong) => Err(InvalidGlob::Character(text, wrong)),
            None => Ok(Self(text)),
        }
    }
}

impl From<Glob> for String {
    fn from(glob: Glob) -> Self {
        glob.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn glob(text: &str) -> Glob {
        Glob::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn whole_names_match() {
        for (pattern, names, others) in [
            ("nginx", &["nginx"][..], &["nginx2", "nginy", "ngin", "", "Nginx", "a nginx"][..]),
            ("*", &["", "a", "a.b", "ü"], &[]),
            ("?", &["a", "ü", "*"], &["", "ab"]),
            ("a*", &["a", "ab", "a*"], &["", "ba"]),
            ("*a", &["a", "ba", "aa"], &["ab", ""]),
            ("a*b", &["ab", "axb", "abab", "a*b"], &["a", "b", "abc", "ba"]),
            ("a*b*c", &["abc", "axbxc", "abbcc", "abcbc"], &["acb", "ab", "bc"]),
            ("*ab*", &["ab", "aab", "xaby"], &["a", "ba", "axb"]),
            ("a?c", &["abc", "aüc"], &["ac", "abbc"]),
            ("**", &["", "x"], &[]),
            ("getty@*.service", &["getty@tty1.service"], &["getty@tty1", "getty.service"]),
            ("?*", &["a", "ab"], &[""]),
            ("a.c", &["a.c"], &["abc"]),
        ] {
            let glob = glob(pattern);
            for name in names {
                assert!(glob.matches(name), "{pattern:?} does not match {name:?}");
            }
            for name in others {
                assert!(!glob.matches(name), "{pattern:?} matches {name:?}");
            }
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        let name = "a".repeat(100_000);
        let patterns = ["*a".repeat(120) + "b", "a*".repeat(127) + "b", "*".repeat(255) + "b", "?*".repeat(127) + "b"];
        let start = Instant::now();
        for pattern in patterns {
            assert!(!glob(&pattern).matches(&name), "{pattern}");
        }
        // Trying every way to share the name out among the stars would take longer than the machine lasts.
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }

    #[test]
    fn what_would_not_do_what_it_looks_like_is_no_pattern() {
        for text in ["", "[ab]", "{a,b}", "a b", "a\\*", "a\n", "\0", "a\u{a0}b"] {
            assert!(Glob::try_from(text.to_owned()).is_err(), "{text:?} was taken");
        }
        assert_eq!(Glob::try_from("a".repeat(257)), Err(InvalidGlob::TooLong(257)));
    }

    /// The meaning of a pattern, word for word: slow.
    fn plain(pattern: &[char], name: &[char]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some(('*', rest)) => (0..=name.len()).any(|taken| plain(rest, &name[taken..])),
            Some(('?', rest)) => !name.is_empty() && plain(rest, &name[1..]),
            Some((wanted, rest)) => name.first() == Some(wanted) && plain(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn it_is_the_plain_meaning(pattern in "[ab*?]{1,8}", name in "[abü]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(glob(&pattern).matches(&name), plain(&chars(&pattern), &chars(&name)));
        }
    }
}
