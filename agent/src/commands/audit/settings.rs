//! What can be set about the audit.

use std::path::{Path, PathBuf};

/// What becomes of commands while the audit cannot be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// They run; what is missing is counted and told.
    #[default]
    Continue,
    /// They are refused.
    Stop,
}

/// The section `[audit]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditSettings {
    /// What becomes of commands while the audit cannot be written.
    pub when_full: WhenFull,
    /// A file that would get longer than this is followed by a new one.
    pub file_bytes: usize,
    /// How many files are kept, the one being written included.
    pub files: usize,
}

impl Default for AuditSettings {
    /// Two entries of a typical command are 1 KB: 16 MiB hold the last 16,000 commands.
    fn default() -> Self {
        Self { when_full: WhenFull::Continue, file_bytes: 4 << 20, files: 4 }
    }
}

impl AuditSettings {
    /// A file holds the longest entry and more.
    pub const LEAST_FILE_BYTES: usize = 2 << 20;
    /// A file that `verify` still reads within seconds.
    pub const MOST_FILE_BYTES: usize = 1 << 30;
    /// One is written, and one tells of the time before.
    pub const LEAST_FILES: usize = 2;
    /// A bound, no more.
    pub const MOST_FILES: usize = 1000;
}

/// Where the audit is below the state directory.
#[must_use]
pub fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("audit")
}
