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
        let numbers = listed(folder)?;
        let Some(number) = numbers.iter().copied().find(|&number| last.is_none_or(|last| number > last)) else {
            return Ok(walk.finish(folder));
        };
        let at = FilePlace { folder, proc, name: file_name(number), number };
        if at.read(&mut walk, numbers.last() != Some(&number))? == Then::Nothing {
            return Ok(walk.finish(folder));
        }
        last = Some(number);
    }
}

fn listed(folder: &Path) -> Result<Vec<u64>, Unreadable> {
    match numbers(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|source| Unreadable { path: folder.to_owned(), source }),
    }
}

/// What comes after a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// Another file, or this one went away and others may be there.
    Next,
    /// It was the last one when its end was reached.
    Nothing,
}

/// A file that was listed.
struct FilePlace<'a> {
    folder: &'a Path,
    proc: &'a Path,
    name: String,
    number: u64,
}

impl FilePlace<'_> {
    /// Reads the file to its end. Nothing is written any more in a file that has a next one; the end of another is reached where there
    /// still is no next one afterwards, else what was written until then is read as well.
    fn read(&self, walk: &mut Walk, mut has_next: bool) -> Result<Then, Unreadable> {
        let unreadable = |source| Unreadable { path: self.folder.join(&self.name), source };
        let file = match File::open(self.folder.join(&self.name)) {
            // It was the oldest, and the agent began a new one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Then::Next),
            other => other.map_err(unreadable)?,
        };
        walk.begin_file(self.number);
        let mut lines = Lines::new(&file);
        let mut is_being_written = None;
        loop {
            let bytes = match lines.next().map_err(unreadable)? {
                Next::Line(line) => {
                    walk.line(line);
                    is_being_written = None;
                    continue;
                }
                Next::TooLong => {
                    walk.too_long();
                    continue;
                }
                Next::End if walk.has_lines() && has_next => return Ok(Then::Next),
                Next::End if walk.has_lines() => {
                    has_next = self.has_next()?;
                    if !has_next {
                        return Ok(Then::Nothing);
                    }
                    continue;
                }
                Next::End => 0,
                Next::Half(bytes) => bytes,
            };
            match is_being_written {
                _ if has_next => {
                    walk.end_within_a_line(bytes, false);
                    return Ok(Then::Next);
                }
                Some(is_being_written) => {
                    walk.end_within_a_line(bytes, is_being_written);
                    return Ok(Then::Nothing);
                }
                // A line is whole a moment after its first bytes can be read, so it is looked at once more.
                None => {
                    is_being_written = Some(is_written(self.proc, &file, self.name.as_ref()));
                    has_next = self.has_next()?;
                }
            }
        }
    }

    fn has_next(&self) -> Result<bool, Unreadable> {
        Ok(listed(self.folder)?.last().is_some_and(|&last| last > self.number))
    }
}
