//! `verify`: what was changed in the audit, and what is missing from what is kept of it.
//!
//! The files are read while the agent may write them, one line at a time. What one reading finds odd because the agent is just writing
//! it is looked at again.

mod finding;
mod lines;
mod report;
#[cfg(test)]
mod tests;
mod walk;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::chain::Head;
use super::storage::file_name;
pub use finding::{Fact, Fault, Place};
use lines::{Lines, Next};
pub use report::Report;
use walk::Walk;

#[cfg(target_os = "linux")]
use super::linux::{is_written, numbers};

/// The audit could not be read, so nothing is known of it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct Unreadable {
    path: PathBuf,
    source: io::Error,
}

/// Reads the audit in a folder, and holds it against the head that a host heard of. `proc` says whether somebody is writing it. The agent
/// makes the folder with its first entry, so one that is not there holds nothing.
///
/// # Errors
/// Where the folder or a file in it cannot be read.
pub fn verify(folder: &Path, expected: Option<Head>, proc: &Path) -> Result<Report, Unreadable> {
    let mut walk = Walk::new(expected);
    let mut last = None;
    loop {
        // The agent may have begun a file since the last look.
        let more: Vec<u64> =
            listed(folder)?.into_iter().filter(|&number| last.is_none_or(|last| number > last)).collect();
        if more.is_empty() {
            return Ok(walk.finish(folder));
        }
        for number in more {
            let at = FilePlace { folder, name: file_name(number), number };
            at.read(&mut walk, proc).map_err(|source| Unreadable { path: at.path(), source })?;
            last = Some(number);
        }
    }
}

fn listed(folder: &Path) -> Result<Vec<u64>, Unreadable> {
    match numbers(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|source| Unreadable { path: folder.to_owned(), source }),
    }
}

/// A file that was listed.
struct FilePlace<'a> {
    folder: &'a Path,
    name: String,
    number: u64,
}

impl FilePlace<'_> {
    fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    fn read(&self, walk: &mut Walk, proc: &Path) -> io::Result<()> {
        let file = match File::open(self.path()) {
            // It was the oldest, and the agent began a new one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        walk.begin_file(self.number);
        let mut lines = Lines::new(&file);
        let mut is_being_written = None;
        loop {
            let bytes = match lines.next()? {
                Next::Line(line) => {
                    walk.line(line);
                    continue;
                }
                Next::TooLong => {
                    walk.too_long();
                    continue;
                }
                Next::End if walk.has_lines() => return Ok(()),
                Next::End => 0,
                Next::Half(bytes) => bytes,
            };
            // A line is whole a moment after its first bytes can be read, so it is looked at once more.
            let Some(is_being_written) = is_being_written else {
                is_being_written = Some(is_written(proc, &file, self.name.as_ref()));
                continue;
            };
            walk.end_within_a_line(bytes, is_being_written && self.is_last());
            return Ok(());
        }
    }

    fn is_last(&self) -> bool {
        listed(self.folder).is_ok_and(|numbers| numbers.last() == Some(&self.number))
    }
}
