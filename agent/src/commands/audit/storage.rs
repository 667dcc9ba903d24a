//! What the audit needs of a file system.

use std::fmt;
use std::io;

/// A folder of numbered files, of which the last is written. Tests put a full disk in its place.
pub trait Storage: fmt::Debug + Send {
    /// The numbers of the files that are there, lowest first.
    ///
    /// # Errors
    /// Where the folder cannot be read; one that is not there has no files.
    fn numbers(&self) -> io::Result<Vec<u64>>;

    /// The first and the last bytes of a file, at most so many each.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn ends(&self, number: u64, most: usize) -> io::Result<Ends>;

    /// Makes a new file, to which is then appended.
    ///
    /// # Errors
    /// Where there is one, or it cannot be made.
    fn begin(&mut self, number: u64) -> io::Result<()>;

    /// Takes a file that is there, to which is then appended.
    ///
    /// # Errors
    /// Where it cannot be opened.
    fn resume(&mut self, number: u64) -> io::Result<()>;

    /// Appends to the file. After a failure some of the bytes may be in it.
    ///
    /// # Errors
    /// `NotFound` where somebody removed the file; else what the system says.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the file as long as this.
    ///
    /// # Errors
    /// What the system says.
    fn truncate(&mut self, bytes: u64) -> io::Result<()>;

    /// Has the file before the last [`Storage::begin`], the new one and its name brought to the disk, in this order, and then these
    /// files removed. Does not wait for the disk: one that is still at work for a file before gets this one with the next.
    fn settle(&mut self, outdated: Vec<u64>);

    /// Returns once the files and their names are on the disk, and all that was to be settled is.
    ///
    /// # Errors
    /// What the system says.
    fn sync(&mut self) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&mut self, number: u64) -> io::Result<()>;
}

/// The two ends of a file.
#[derive(Debug)]
pub struct Ends {
    /// Its first bytes.
    pub first: Vec<u8>,
    /// Its last bytes, up to its end.
    pub last: Vec<u8>,
    /// How long it is.
    pub bytes: u64,
}

/// The name of the file with that number.
#[must_use]
pub fn file_name(number: u64) -> String {
    format!("commands.{number:08}.log")
}

/// The number in the name of a file.
#[must_use]
pub fn file_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix("commands.")?.strip_suffix(".log")?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}
