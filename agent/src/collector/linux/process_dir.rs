//! `/proc` as a directory of processes: listing them and reaching their files without building paths on the heap.

use std::ffi::CStr;
use std::io;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, Mode, OFlags, RawDir, SeekFrom, openat, readlinkat_raw, seek};
use rustix::io::{Errno, pread, retry_on_intr};

use super::scan::decimal;
use crate::collector::CollectFailure;

/// Entries that one `getdents64` may hand out: about a thousand processes a call.
const LISTING_BYTES: usize = 32 << 10;

/// The longest `PID/name` that is asked for: ten digits, a slash and any name of `/proc/PID` fit with room to spare.
const PATH_BYTES: usize = 48;

/// An open `/proc` (or a recorded one).
#[derive(Debug)]
pub struct ProcessDir {
    path: PathBuf,
    directory: OwnedFd,
    listing: Vec<u8>,
}

impl ProcessDir {
    /// Opens the directory, which stays open.
    ///
    /// # Errors
    /// Where there is none or it may not be read.
    pub fn open(path: &Path) -> Result<Self, CollectFailure> {
        let directory = open_directory(CWD, path).map_err(|source| io_failure(path, source))?;
        Ok(Self { path: path.to_owned(), directory, listing: Vec::with_capacity(LISTING_BYTES) })
    }

    /// Puts the ids of all processes in place of what `pids` held.
    ///
    /// # Errors
    /// Where listing fails.
    pub fn list(&mut self, pids: &mut Vec<u32>) -> Result<(), CollectFailure> {
        pids.clear();
        numbers(&self.directory, &mut self.listing, |pid| pids.push(pid))
            .map_err(|source| io_failure(&self.path, source))
    }

    /// Tells the open descriptors of a process, from a position on, until `each` breaks it off. Gives the position of the one that it did
    /// so at; 0 is that of the first.
    ///
    /// # Errors
    /// Where the process is gone or hides them.
    pub fn each_descriptor(
        &mut self,
        pid: u32,
        from: u64,
        mut each: impl FnMut(Descriptor<'_>) -> ControlFlow<()>,
    ) -> Result<Option<u64>, Errno> {
        let directory = open_directory(&self.directory, ProcessPath::new(pid, "fd").as_bytes())?;
        seek(&directory, SeekFrom::Start(from))?;
        self.listing.clear();
        let mut entries = RawDir::new(&directory, self.listing.spare_capacity_mut());
        let mut position = from;
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let descriptor = Descriptor { directory: &directory, name: entry.file_name() };
            if number(descriptor.name).is_some() && each(descriptor).is_break() {
                return Ok(Some(position));
            }
            position = entry.next_entry_cookie();
        }
        Ok(None)
    }

    /// Opens a file of a process.
    ///
    /// # Errors
    /// `ENOENT` or `ESRCH` where the process is gone.
    pub fn open_file(&self, pid: u32, name: &str) -> Result<OwnedFd, Errno> {
        let path = ProcessPath::new(pid, name);
        retry_on_intr(|| openat(&self.directory, path.as_bytes(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()))
    }

    /// Opens a file of a process, reads as much of it as `buffer` has room for, and closes it.
    ///
    /// # Errors
    /// As [`open_file`](Self::open_file), and what reading gives.
    pub fn read_file<'b>(&self, pid: u32, name: &str, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], Errno> {
        read_kept(&self.open_file(pid, name)?, buffer)
    }

    /// Where a symbolic link of a process points to. What does not fit the buffer's room is cut.
    ///
    /// # Errors
    /// `ENOENT` where there is no such link: a kernel thread has no program.
    pub fn read_link<'b>(&self, pid: u32, name: &str, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], Errno> {
        buffer.clear();
        readlinkat_raw(&self.directory, ProcessPath::new(pid, name).as_bytes(), spare_capacity(buffer))?;
        Ok(buffer)
    }
}

/// An open descriptor of a process.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor<'d> {
    directory: &'d OwnedFd,
    name: &'d CStr,
}

impl Descriptor<'_> {
    /// Where it points to, as [`ProcessDir::read_link`].
    ///
    /// # Errors
    /// Where it is closed by now, or the process gone.
    pub fn read_link<'b>(&self, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], Errno> {
        buffer.clear();
        readlinkat_raw(self.directory, self.name, spare_capacity(buffer))?;
        Ok(buffer)
    }
}

/// Reads a kept file from its start, as much as `buffer` has room for: one system call, and no allocation.
///
/// The descriptor stands for the process that was there when it was opened, not for the number: once that process is reaped it gives
/// `ESRCH`, even when another one bears its number.
///
/// # Errors
/// What the kernel gives.
pub fn read_kept<'b>(file: &OwnedFd, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], Errno> {
    buffer.clear();
    retry_on_intr(|| pread(file, spare_capacity(buffer), 0))?;
    Ok(buffer)
}

/// Whether the error says that the process ended meanwhile, which is no failure.
pub fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::SRCH)
}

fn io_failure(path: &Path, source: Errno) -> CollectFailure {
    CollectFailure::Io { path: path.to_owned(), source: io::Error::from(source) }
}

fn open_directory(at: impl AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Tells each entry whose name is a number.
fn numbers(directory: &OwnedFd, listing: &mut Vec<u8>, mut each: impl FnMut(u32)) -> Result<(), Errno> {
    seek(directory, SeekFrom::Start(0))?;
    listing.clear();
    let mut entries = RawDir::new(directory, listing.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        if let Some(number) = number(entry?.file_name()) {
            each(number);
        }
    }
    Ok(())
}

fn number(name: &CStr) -> Option<u32> {
    decimal(name.to_bytes()).and_then(|number| u32::try_from(number).ok())
}

/// `PID/name`, relative to `/proc`, on the stack.
struct ProcessPath {
    bytes: [u8; PATH_BYTES],
    length: usize,
}

impl ProcessPath {
    fn new(pid: u32, name: &str) -> Self {
        let mut bytes = [0; PATH_BYTES];
        let mut room = &mut bytes[..];
        let fits = write!(room, "{pid}/{name}");
        debug_assert!(fits.is_ok(), "{pid}/{name} is longer than any file that is asked for");
        let length = PATH_BYTES - room.len();
        Self { bytes, length }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
