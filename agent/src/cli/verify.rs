//! `infiniservice audit verify`.

use std::io;
use std::path::Path;

use super::{EXIT_FAULTS, EXIT_OK, EXIT_UNREADABLE};
use crate::commands::audit::Head;
use crate::commands::audit::verify::verify;

/// What to print, and the exit code. `must_exist` is a folder without which there is no answer: a mistyped path is no sound audit.
pub(super) fn verified(folder: &Path, must_exist: &Path, head: Option<Head>, json: bool, proc: &Path) -> (String, u8) {
    if let Err(error) = is_folder(must_exist) {
        return (format!("{}: {error}", must_exist.display()), EXIT_UNREADABLE);
    }
    match verify(folder, head, proc) {
        Ok(report) => {
            let text = if json { report.to_json() } else { report.to_string() };
            (text, if report.is_sound() { EXIT_OK } else { EXIT_FAULTS })
        }
        Err(error) => (error.to_string(), EXIT_UNREADABLE),
    }
}

fn is_folder(path: &Path) -> io::Result<()> {
    if std::fs::metadata(path)?.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
}
