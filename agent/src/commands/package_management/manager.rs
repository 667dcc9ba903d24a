//! What every package manager can be asked and told.

use std::path::Path;
use std::time::Duration;

use infini_protocol::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::query::Query;
use super::words::SearchWords;
use crate::commands::process_runner::Program;
use crate::commands::validation::PackageName;

/// A package, installed or to be had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// The installed version; of one that is not installed, the newest.
    pub version: String,
    /// One line about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// It is installed.
    pub installed: bool,
    /// Who packaged it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// The manager that knows it.
    pub source: &'static str,
    /// In bytes, installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// How much an update matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Importance {
    /// An update of which the manager says that it is nothing more.
    Low,
    /// What is not known, too.
    #[default]
    Moderate,
    /// A security update of which nothing more is said, too.
    Important,
    /// The worst flaws.
    Critical,
}

impl Importance {
    /// The word that advisories use, however it is written; those of dnf5's tables may be cut.
    #[must_use]
    pub fn of(word: &str, security: bool) -> Self {
        match word.get(..3).map(str::to_ascii_lowercase).as_deref() {
            Some("cri") => Self::Critical,
            Some("imp") => Self::Important,
            Some("mod") => Self::Moderate,
            Some("low") => Self::Low,
            _ => Self::plain(security),
        }
    }

    /// Where the manager only tells security updates from others.
    #[must_use]
    pub const fn plain(security: bool) -> Self {
        if security { Self::Important } else { Self::Low }
    }
}

/// An update that can be had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PendingUpdate {
    /// What it is, for people.
    pub title: String,
    /// The package's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The installed version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_version: Option<String>,
    /// The version that it brings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_version: Option<String>,
    /// It mends a flaw that can be attacked.
    pub security: bool,
    /// How much it matters.
    pub importance: Importance,
    /// In bytes, to be fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

impl PendingUpdate {
    /// An update of a package, with a title made of it.
    #[must_use]
    pub fn of(name: &str, from: Option<&str>, to: &str) -> Self {
        Self {
            title: from.map_or_else(|| format!("{name} {to}"), |from| format!("{name} {from} -> {to}")),
            name: Some(name.to_owned()),
            current_version: from.map(str::to_owned),
            new_version: Some(to.to_owned()),
            ..Self::default()
        }
    }
}

/// How an update ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UpdateResult {
    /// It is installed.
    Succeeded,
    /// It is not.
    Failed,
    /// The log does not say.
    Unknown,
}

/// An update of the past.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PastUpdate {
    /// What it was, for people.
    pub title: String,
    /// When.
    pub date: Timestamp,
    /// How it ended.
    pub result: UpdateResult,
    /// The version that it brought.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// What the log files hold: of each base name all files that are kept.
pub type LogTexts = [Vec<String>];

/// Where a manager keeps its past.
pub enum History {
    /// In log files below the root, each with its rotated ones; times without a zone are in the machine's.
    Logs(&'static [&'static str], fn(&LogTexts, &TimeZone) -> Vec<PastUpdate>),
    /// It answers itself.
    Asked(Query<Vec<PastUpdate>>),
    /// Nowhere.
    None,
}

/// A change of packages.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Change {
    /// Installs one that is not there.
    Install(PackageName),
    /// Removes one that is there.
    Remove(PackageName),
    /// Brings one that is there to its newest version.
    Update(PackageName),
    /// Brings all to their newest versions.
    UpdateAll,
    /// Ends what a change that was cut off has left half done.
    Repair,
}

impl Change {
    /// The package, where it is one.
    #[must_use]
    pub const fn package(&self) -> Option<&PackageName> {
        match self {
            Self::Install(name) | Self::Remove(name) | Self::Update(name) => Some(name),
            Self::UpdateAll | Self::Repair => None,
        }
    }
}

/// How long a package manager that has to end may take: long enough for the script of a package that it is in the middle of.
pub const GRACE: Duration = Duration::from_secs(60);

/// The program of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The program.
    pub program: Program,
    /// The exit codes of success.
    pub fine: &'static [i32],
}

impl Step {
    /// A step that ends with 0. A package's script may start a daemon, which stays.
    pub fn new(path: &str, arguments: impl IntoIterator<Item = impl Into<std::ffi::OsString>>) -> Self {
        let program = Program { leaves_daemon: true, grace: GRACE, ..Program::new(path, arguments) };
        Self { program, fine: &[0] }
    }

    /// The same with something in its environment.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.program.environment.push((name.into(), value.into()));
        self
    }
}

/// A package manager: which programs answer and change, and how their output is read. It starts none itself.
pub trait PackageManager: Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// All that is installed.
    fn list(&self) -> Query<Vec<Package>>;
    /// What can be had and has all these words in its name or description.
    fn search(&self, words: &SearchWords) -> Query<Vec<Package>>;
    /// Whether the index has a package of exactly this name.
    fn exists(&self, name: &PackageName) -> Query<bool>;
    /// The installed version of a package.
    fn installed(&self, name: &PackageName) -> Query<Option<String>>;
    /// What can be updated, by the index as it is.
    fn updates(&self) -> Query<Vec<PendingUpdate>>;
    /// Whether the machine must boot anew; `None` inside: it cannot tell.
    fn reboot(&self) -> Option<Query<Option<bool>>> {
        None
    }
    /// Its past.
    fn history(&self) -> History;
    /// What brings the index up to date before a change, where the change does not do it itself.
    fn refresh(&self, _: &Change) -> Option<Program> {
        None
    }
    /// The program of a change.
    fn change(&self, change: &Change) -> Step;
    /// What puts its database right after it was killed.
    fn repair(&self) -> Step;
}

/// Whether a program is there, below a root.
#[must_use]
pub fn is_installed(root: &Path, program: &str) -> bool {
    root.join(program.trim_start_matches('/')).is_file()
}
