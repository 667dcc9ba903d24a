//! Words for a guest's shell.
//!
//! A raw command is one line that the guest's shell reads. [`line()`] makes of a list of arguments the line that the shell reads as
//! exactly these arguments, whatever is in them.

/// Which rules a shell reads by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `sh`, `bash`, `zsh`.
    Posix,
    /// Windows PowerShell (`powershell`), which hands quotes on to programs wrongly.
    WindowsPowerShell,
    /// PowerShell 7.3 and later (`pwsh`).
    PowerShell,
}

/// Why arguments cannot be written as a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// The shell has no way of writing any argument safely.
    #[error(
        "{0} has no way of quoting that holds for every argument; write the line yourself with: infinihost sh --shell {0}"
    )]
    Shell(String),
    /// The shell would hand this argument on as another one.
    #[error("Windows PowerShell would not hand {0:?} on as it is; write the line yourself with: infinihost sh")]
    Argument(String),
}

impl Dialect {
    /// The rules of a shell by its name on the wire; without one, those of the platform's own: `sh`, on Windows `powershell`.
    ///
    /// # Errors
    /// Where the shell's rules cannot keep arguments apart: `cmd` leaves it to each program.
    pub fn of(shell: Option<&str>, platform: Option<&str>) -> Result<Self, QuoteError> {
        match (shell, platform) {
            (Some("sh" | "bash" | "zsh"), _) => Ok(Self::Posix),
            (Some("pwsh"), _) => Ok(Self::PowerShell),
            (Some("powershell"), _) | (None, Some("windows")) => Ok(Self::WindowsPowerShell),
            (Some(other), _) => Err(QuoteError::Shell(other.to_owned())),
            (None, _) => Ok(Self::Posix),
        }
    }
}

/// The line that a shell reads as these arguments, the first of which is the program.
///
/// ```
/// # use infinihost::quote::{Dialect, line};
/// let words = ["grep", "-r", "it's", "/etc"].map(String::from);
/// assert_eq!(line(Dialect::Posix, &words).unwrap(), r"grep -r 'it'\''s' /etc");
/// ```
///
/// # Errors
/// Where the shell cannot hand an argument on.
pub fn line(dialect: Dialect, words: &[String]) -> Result<String, QuoteError> {
    let quoted: Result<Vec<String>, QuoteError> = match dialect {
        Dialect::Posix => Ok(words.iter().enumerate().map(|(index, word)| posix(word, index == 0)).collect()),
        Dialect::WindowsPowerShell => words.iter().map(|word| windows_powershell(word)).collect(),
        Dialect::PowerShell => Ok(words.iter().map(|word| powershell(word)).collect()),
    };
    let line = quoted?.join(" ");
    Ok(if dialect == Dialect::Posix { line } else { format!("& {line}") })
}

/// Words that a POSIX shell, bash or zsh takes for its grammar where a program's name is expected. `time` and the like are programs
/// as well: quoting them means those.
const RESERVED: [&str; 21] = [
    "case",
    "coproc",
    "do",
    "done",
    "elif",
    "else",
    "end",
    "esac",
    "fi",
    "for",
    "foreach",
    "function",
    "if",
    "in",
    "nocorrect",
    "repeat",
    "select",
    "then",
    "time",
    "until",
    "while",
];

fn posix(word: &str, is_program: bool) -> String {
    // What means nothing to any of these shells in any place of a word.
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+:,./-".contains(c);
    // An assignment, a word of the grammar, and what would be an option of the shell itself. At a word's start `=` is zsh's.
    let means_more = is_program && (word.contains('=') || word.starts_with(['-', '+']) || RESERVED.contains(&word));
    let is_plain = word.chars().all(|c| plain(c) || c == '=') && !word.starts_with('=') && !word.is_empty();
    if is_plain && !means_more {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A string without expansion. PowerShell takes the typographic quotes for the plain one.
fn powershell(word: &str) -> String {
    let mut quoted = String::from("'");
    for c in word.chars() {
        if matches!(c, '\'' | '\u{2018}'..='\u{201b}') {
            quoted.push(c);
        }
        quoted.push(c);
    }
    quoted + "'"
}

/// Windows PowerShell puts arguments with spaces between double quotes and leaves those that they hold, and a backslash before the
/// last one, as they are; empty ones it drops.
fn windows_powershell(word: &str) -> Result<String, QuoteError> {
    let ends_in_backslash = word.ends_with('\\') && word.contains(char::is_whitespace);
    if word.is_empty() || word.contains('"') || ends_in_backslash {
        return Err(QuoteError::Argument(word.to_owned()));
    }
    Ok(powershell(word))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn hostile() -> Vec<String> {
        let mut hostile: Vec<String> = (1..=0x7f).map(char::from).map(String::from).collect();
        hostile.extend((1..=0x7f).map(char::from).map(|c| format!("a{c}{c}b'{c}")));
        hostile.extend(words(&[
            "", " ", "'", "''", "'\\''", "\\", "\\'", "a b", "$HOME", "${HOME}", "$(id)", "`id`", "a\nb", "\n", "*",
            "?", "[a-z]*", "~", "~root", "=ls", "a=b", "{a,b}", "!!", "!x", "#x", "a#b", ";id", "&&", "|", ">x", "<x",
            "2>&1", "-n", "--", "é日本", "\u{202e}", "\\n", "%s", "$'a'", "$\"a\"", "(a)", "a\r\nb", "\u{2019}",
        ]));
        hostile
    }

    /// What each of these shells, where the machine has it, makes of the line.
    #[test]
    fn a_shell_reads_the_arguments_that_were_meant() {
        for shell in ["sh", "bash", "dash", "zsh"] {
            let mut meant = words(&["printf", "%s\\0"]);
            meant.extend(hostile());
            let line = line(Dialect::Posix, &meant).unwrap();
            let Ok(output) = Command::new(shell).arg("-c").arg(&line).output() else { continue };
            let read: Vec<_> = output.stdout.split(|&byte| byte == 0).map(String::from_utf8_lossy).collect();
            assert_eq!(read[..read.len() - 1], meant[2..], "{shell}: {output:?}");
        }
    }

    /// A program of any name is looked for: 127 says that there is none, another code that the shell took the word for its own.
    #[test]
    fn a_programs_name_means_a_program() {
        for name in
            hostile().iter().map(String::as_str).chain(RESERVED).chain(["-c", "+x", "a=b", "{", "}", "!", "[[", "]]"])
        {
            // Programs that the shell has in itself, and a directory.
            if matches!(name, "." | ":" | "[" | "/") {
                continue;
            }
            let line = line(Dialect::Posix, &words(&[name, "x"])).unwrap();
            let output = Command::new("/bin/sh").arg("-c").arg(&line).env("PATH", "/nonexistent").output().unwrap();
            assert_eq!(output.status.code(), Some(127), "{name:?} as {line:?}: {output:?}");
        }
    }

    #[test]
    fn ordinary_words_stay_as_they_are() {
        let plain = words(&["/bin/ls", "-l", "--color=never", "a@b:c,d%e+f_g.h"]);
        assert_eq!(line(Dialect::Posix, &plain).unwrap(), plain.join(" "));
        assert_eq!(line(Dialect::Posix, &words(&["A=b", "A=b"])).unwrap(), "'A=b' A=b");
    }

    #[test]
    fn powershell_strings_expand_nothing() {
        let hostile = words(&["Get-Item", "it's", "\u{2019};rm", "$env:X `n"]);
        let expected = "& 'Get-Item' 'it''s' '\u{2019}\u{2019};rm' '$env:X `n'";
        assert_eq!(line(Dialect::PowerShell, &hostile).unwrap(), expected);
        assert_eq!(line(Dialect::WindowsPowerShell, &hostile).unwrap(), expected);
        for lost in ["", "a\"b", "C:\\Program Files\\"] {
            let refused = line(Dialect::WindowsPowerShell, &words(&["x", lost]));
            assert_eq!(refused, Err(QuoteError::Argument(lost.to_owned())));
            assert!(line(Dialect::PowerShell, &words(&["x", lost])).is_ok());
        }
    }

    #[test]
    fn the_shell_or_the_platform_says_how_to_quote() {
        for (shell, platform, dialect) in [
            (None, None, Dialect::Posix),
            (None, Some("linux"), Dialect::Posix),
            (None, Some("windows"), Dialect::WindowsPowerShell),
            (Some("pwsh"), Some("linux"), Dialect::PowerShell),
            (Some("bash"), Some("windows"), Dialect::Posix),
        ] {
            assert_eq!(Dialect::of(shell, platform), Ok(dialect), "{shell:?} on {platform:?}");
        }
        let cmd = Dialect::of(Some("cmd"), None).unwrap_err().to_string();
        assert!(cmd.contains("infinihost sh --shell cmd"), "{cmd}");
    }
}
