//! `[[permissions.raw_rule]]` and `[[permissions.script_rule]]`: the raw commands and scripts that may run under `raw = "rules"`.

use std::path::{Path, PathBuf};

use regex_lite::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use super::request::{AGENT_USER, Setting};

/// A program that a raw command may run, without a shell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRule {
    /// What its author calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The program.
    pub program: AbsolutePath,
    /// One pattern for each argument.
    #[serde(default)]
    pub arguments: Vec<Pattern>,
    /// As whom.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub run_as: Vec<String>,
    /// Where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub working_dir: Vec<AbsolutePath>,
}

/// Scripts that may run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptRule {
    /// What its author calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The SHA-256 of each script's text.
    pub sha256: Vec<Sha256Hex>,
    /// The shell: one text can mean two things to two shells.
    pub shell: String,
    /// As whom.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub run_as: Vec<String>,
    /// Where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub working_dir: Vec<AbsolutePath>,
}

impl RawRule {
    /// Whether the rule is about this program with these arguments.
    #[must_use]
    pub fn is_about(&self, program: &str, arguments: &[String]) -> bool {
        self.program.as_path().as_os_str() == program
            && self.arguments.len() == arguments.len()
            && self.arguments.iter().zip(arguments).all(|(pattern, argument)| pattern.matches(argument))
    }

    /// Why the rule does not let it run like this.
    pub(super) fn objection(&self, setting: &Setting<'_>) -> Option<String> {
        objection(&self.run_as, &self.working_dir, setting)
    }
}

impl ScriptRule {
    /// Whether the rule is about this script.
    #[must_use]
    pub fn is_about(&self, sha256: &[u8; 32]) -> bool {
        self.sha256.iter().any(|listed| listed.0 == *sha256)
    }

    /// Why the rule does not let it run like this.
    pub(super) fn objection(&self, shell: &str, setting: &Setting<'_>) -> Option<String> {
        if !self.shell.eq_ignore_ascii_case(shell) {
            return Some(format!("the rule is for the shell {:?}, not for {shell:?}", self.shell));
        }
        objection(&self.run_as, &self.working_dir, setting)
    }
}

/// A rule that lists users or directories means one of them: what the host leaves out is the agent's own user and `/`, and these must be
/// listed like any other.
fn objection(users: &[String], directories: &[AbsolutePath], setting: &Setting<'_>) -> Option<String> {
    if !is_listed(users.iter().map(String::as_str), setting.run_as, AGENT_USER) {
        let user = setting.run_as.unwrap_or(AGENT_USER);
        return Some(format!("the rule does not list the user {user:?} in run_as"));
    }
    if !is_listed(directories.iter().map(AbsolutePath::as_str), setting.working_dir, "/") {
        let directory = setting.working_dir.unwrap_or("/");
        return Some(format!("the rule does not list the directory {directory:?} in working_dir"));
    }
    None
}

fn is_listed<'a>(mut listed: impl ExactSizeIterator<Item = &'a str>, asked: Option<&str>, default: &str) -> bool {
    match asked {
        None if listed.len() == 0 => true,
        asked => listed.any(|one| one == asked.unwrap_or(default)),
    }
}

/// A regular expression for a whole argument.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    text: String,
    whole: Regex,
}

/// Why a text is no pattern.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPattern {
    /// It is no regular expression, or too large a one.
    #[error("{0:?} is no pattern: {1}")]
    Syntax(String, regex_lite::Error),
    /// Root's systems have no such path.
    #[error("{0:?} is not an absolute path without \".\", \"..\" and empty parts")]
    Path(String),
    /// It is no hash.
    #[error("{0:?} is not a SHA-256: 64 hex digits, as sha256sum prints them")]
    Sha256(String),
}

/// A pattern's program may be that large. It bounds, with the length of a line, what matching costs.
const MOST_PROGRAM_BYTES: usize = 64 << 10;

impl Pattern {
    /// Whether the whole argument fits.
    #[must_use]
    pub fn matches(&self, argument: &str) -> bool {
        self.whole.is_match(argument)
    }
}

impl TryFrom<String> for Pattern {
    type Error = InvalidPattern;

    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        let build = |pattern: &str| {
            let built = RegexBuilder::new(pattern).size_limit(MOST_PROGRAM_BYTES).build();
            built.map_err(|error| InvalidPattern::Syntax(text.clone(), error))
        };
        // Alone first: `a)|(b` would only become an expression, and one that is not anchored, between the parentheses below.
        build(&text)?;
        let whole = build(&format!(r"\A(?:{text})\z"))?;
        Ok(Self { text, whole })
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.text
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// An absolute path that names one file in one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AbsolutePath(String);

impl AbsolutePath {
    /// The path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// The path's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path, to keep.
    #[must_use]
    pub fn to_path_buf(&self) -> PathBuf {
        self.as_path().to_owned()
    }
}

impl TryFrom<String> for AbsolutePath {
    type Error = InvalidPattern;

    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        let is_plain = |rest: &str| rest.split('/').all(|part| !matches!(part, "" | "." | ".."));
        match text.strip_prefix('/') {
            Some(rest) if !text.contains('\0') && (rest.is_empty() || is_plain(rest)) => Ok(Self(text)),
            _ => Err(InvalidPattern::Path(text)),
        }
    }
}

impl From<AbsolutePath> for String {
    fn from(path: AbsolutePath) -> Self {
        path.0
    }
}

/// A SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256Hex([u8; 32]);

impl TryFrom<String> for Sha256Hex {
    type Error = InvalidPattern;

    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        let mut bytes = [0; 32];
        let is_hex = text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
            let digits = text.get(at..at + 2).filter(|_| is_hex);
            let value = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            *byte = value.ok_or_else(|| InvalidPattern::Sha256(text.clone()))?;
        }
        Ok(Self(bytes))
    }
}

impl From<Sha256Hex> for String {
    fn from(hash: Sha256Hex) -> Self {
        hash.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
