//! Why there is no usable configuration.

use std::io;
use std::path::PathBuf;

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}; {}", path.display(), advice(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser says, with line and column.
        reason: String,
    },
    /// Values that make no sense, each with its place.
    #[error("{}", .0.join("\n"))]
    Values(Vec<String>),
}

/// What to do about a file that cannot be read.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "run this as root, or name a file that this user may read with --config",
        io::ErrorKind::NotFound => "name another one with --config, or leave that out",
        _ => "mend or remove the file, or name another one with --config",
    }
}
