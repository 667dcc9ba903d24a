//! Cuts a raw line into words without a shell.
//!
//! The words are those that a POSIX shell would make of a line that needs nothing of a shell: blanks, quotes and backslashes. Whatever
//! a shell would do something about is refused, so the line cannot mean another thing to its author than it does here.

use std::str::Chars;

/// Longer lines are refused: it bounds what matching them may cost, and no command that a rule can describe needs more.
const MOST_BYTES: usize = 8 << 10;

/// Why a line is not a plain list of words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPlain {
    /// There is no word.
    #[error("the line is empty")]
    Empty,
    /// It is too long.
    #[error("the line has {0} bytes, under rules at most {MOST_BYTES}")]
    TooLong(usize),
    /// A line break or another control character.
    #[error("the line holds the control character {0:?}")]
    Control(char),
    /// Something that a shell would act on.
    #[error(
        "{0:?} means something to a shell, and under rules there is none; put it in single quotes if it is meant as it is"
    )]
    Syntax(char),
    /// A variable before the program.
    #[error("a variable is set before the program, which takes a shell")]
    Assignment,
    /// A quote is not closed.
    #[error("the quote {0} is not closed")]
    OpenQuote(char),
    /// There is nothing behind a backslash.
    #[error("there is nothing behind the backslash at the end")]
    OpenBackslash,
}

/// The words of a line.
///
/// # Errors
/// Where a shell would do more with the line than to cut it.
pub fn split(line: &str) -> Result<Vec<String>, NotPlain> {
    if line.len() > MOST_BYTES {
        return Err(NotPlain::TooLong(line.len()));
    }
    if let Some(control) = line.chars().find(|&c| c.is_control() && c != '\t') {
        return Err(NotPlain::Control(control));
    }
    let (mut words, mut word) = (Vec::new(), None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' => words.extend(word.take()),
            '\'' => single(&mut chars, word.get_or_insert_default())?,
            '"' => double(&mut chars, word.get_or_insert_default())?,
            '\\' => word.get_or_insert_default().push(chars.next().ok_or(NotPlain::OpenBackslash)?),
            c => {
                check(c, word.as_deref(), words.is_empty())?;
                word.get_or_insert_default().push(c);
            }
        }
    }
    words.extend(word);
    if words.is_empty() { Err(NotPlain::Empty) } else { Ok(words) }
}

/// Whether a character without quotes is itself. `word` is what stands before it without a blank between.
fn check(c: char, word: Option<&str>, is_first: bool) -> Result<(), NotPlain> {
    match c {
        ';' | '&' | '|' | '<' | '>' | '(' | ')' | '$' | '`' | '*' | '?' | '[' | ']' | '{' | '}' => {
            Err(NotPlain::Syntax(c))
        }
        '#' if word.is_none() => Err(NotPlain::Syntax(c)),
        // Behind `=` and `:` a tilde is a home directory to some shells, too.
        '~' if word.is_none_or(|word| word.ends_with(['=', ':'])) => Err(NotPlain::Syntax(c)),
        '=' if is_first => Err(NotPlain::Assignment),
        _ => Ok(()),
    }
}

/// The rest of a text in single quotes: every character is itself.
fn single(chars: &mut Chars<'_>, word: &mut String) -> Result<(), NotPlain> {
    loop {
        match chars.next() {
            Some('\'') => return Ok(()),
            Some(c) => word.push(c),
            None => return Err(NotPlain::OpenQuote('\'')),
        }
    }
}

/// The rest of a text in double quotes, where `$` and the backquote keep their meaning and a backslash only quotes what has one.
fn double(chars: &mut Chars<'_>, word: &mut String) -> Result<(), NotPlain> {
    let open = NotPlain::OpenQuote('"');
    loop {
        match chars.next() {
            Some('"') => return Ok(()),
            Some(c @ ('$' | '`')) => return Err(NotPlain::Syntax(c)),
            Some('\\') => match chars.next() {
                Some(c @ ('$' | '`' | '"' | '\\')) => word.push(c),
                Some(c) => word.extend(['\\', c]),
                None => return Err(open),
            },
            Some(c) => word.push(c),
            None => return Err(open),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_lines_become_words() {
        for (line, words) in [
            ("/bin/ls", &["/bin/ls"][..]),
            ("  /bin/ls \t -l  ", &["/bin/ls", "-l"]),
            ("/bin/echo 'a b' \"c d\" e\\ f", &["/bin/echo", "a b", "c d", "e f"]),
            ("/bin/echo a'b'\"c\"d", &["/bin/echo", "abcd"]),
            ("/bin/echo '' \"\"", &["/bin/echo", "", ""]),
            ("/bin/echo '$HOME `id` * \\' \\$ \\' \\\"", &["/bin/echo", "$HOME `id` * \\", "$", "'", "\""]),
            (r#"/bin/echo "a\$b\`c\"d\\e\f""#, &["/bin/echo", "a$b`c\"d\\e\\f"]),
            ("/bin/echo a#b a~ --x=y 'a=~'", &["/bin/echo", "a#b", "a~", "--x=y", "a=~"]),
            ("/bin/echo ''# \\~ \\#", &["/bin/echo", "#", "~", "#"]),
            ("/bin/echo a!b -- ^ % , @ + é", &["/bin/echo", "a!b", "--", "^", "%", ",", "@", "+", "é"]),
            ("'/bin/a=b' c=d", &["/bin/a=b", "c=d"]),
            ("/bin/echo a\u{a0}b", &["/bin/echo", "a\u{a0}b"]),
        ] {
            let found = split(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(found, words, "{line}");
        }
    }

    #[test]
    fn a_long_line_is_refused() {
        assert_eq!(split(&"a".repeat(MOST_BYTES + 1)), Err(NotPlain::TooLong(MOST_BYTES + 1)));
        assert!(split(&"a".repeat(MOST_BYTES)).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        /// What is not refused is what the system's shell would hand to the program.
        #[test]
        fn a_shell_makes_the_same_words(rest in r#"[ab \t'"\\#~=:!$`*?;&|<>()\[\]{}é^%-]{0,14}"#) {
            let line = format!("/usr/bin/printf '%s\\000' x {rest}");
            if let Ok(words) = split(&line) {
                let output = Command::new("/bin/sh").args(["-c", &line]).env_clear().output().unwrap();
                let printed = String::from_utf8(output.stdout).unwrap();
                let printed: Vec<_> = printed.split_terminator('\0').collect();
                prop_assert_eq!(&words[2..], printed, "{}", line);
            }
        }
    }
}
