//! The audit's folder on Linux: 0700, with files that only root reads.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use super::storage::{Ends, Storage, file_name, file_number};

/// The folder, and the file that is written.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    file: Option<File>,
    /// Those before, until they are brought to the disk.
    ended: Vec<File>,
    /// Are to go once the file that is written is on the disk.
    outdated: Vec<u64>,
    /// Brings files to the disk.
    settling: Option<JoinHandle<()>>,
}

impl Folder {
    /// A folder at that path; it is made with its first file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), file: None, ended: Vec::new(), outdated: Vec::new(), settling: None }
    }

    fn file(&mut self) -> io::Result<&mut File> {
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Has a thread do what is to be settled.
    fn start_settling(&mut self) -> io::Result<JoinHandle<()>> {
        let last = self.file()?.try_clone()?;
        let files: Vec<File> = self.ended.drain(..).chain([last]).collect();
        let (folder, outdated) = (self.path.clone(), std::mem::take(&mut self.outdated));
        let work = move || settle(&folder, &files, &outdated).unwrap_or_else(|error| warn_unsettled(&error));
        thread::Builder::new().name("audit".to_owned()).spawn(work)
    }
}

/// Brings files and their names to the disk, and then removes others.
fn settle(folder: &Path, files: &[File], outdated: &[u64]) -> io::Result<()> {
    files.iter().try_for_each(File::sync_all)?;
    File::open(folder)?.sync_all()?;
    outdated.iter().try_for_each(|&number| remove(folder, number))
}

fn warn_unsettled(error: &io::Error) {
    tracing::warn!(%error, "the last lines of the audit may not survive a power loss, and old files stay");
}

fn remove(folder: &Path, number: u64) -> io::Result<()> {
    match fs::remove_file(folder.join(file_name(number))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The numbers of the audit's files in a folder, lowest first; `NotFound` where there is no such folder.
pub fn numbers(path: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(path)? {
        numbers.extend(entry?.file_name().to_str().and_then(file_number));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Whether a process has the file open for writing, by what `/proc/PID/fd` and `/proc/PID/fdinfo` say. What cannot be seen does not count:
/// only root sees it of others.
pub fn is_written(proc: &Path, file: &File, name: &OsStr) -> bool {
    let Ok(wanted) = file.metadata() else { return false };
    let processes = fs::read_dir(proc).into_iter().flatten().flatten();
    let descriptors = processes.filter_map(|process| fs::read_dir(process.path().join("fd")).ok()).flatten().flatten();
    descriptors.into_iter().any(|descriptor| {
        let path = descriptor.path();
        // By its name first: to ask about somebody's file on a network that is gone could take for ever.
        fs::read_link(&path).is_ok_and(|target| target.file_name() == Some(name))
            && fs::metadata(&path).is_ok_and(|found| (found.dev(), found.ino()) == (wanted.dev(), wanted.ino()))
            && is_for_writing(&path)
    })
}

/// The line `flags` of a descriptor's `fdinfo` is octal, and its last two bits are the access mode, 0 for reading only: proc(5), open(2).
fn is_for_writing(descriptor: &Path) -> bool {
    const ACCESS_MODE: u32 = 0o3;
    let info = || {
        let (process, number) = (descriptor.parent()?.parent()?, descriptor.file_name()?);
        let text = fs::read_to_string(process.join("fdinfo").join(number)).ok()?;
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
        u32::from_str_radix(flags.trim(), 8).ok()
    };
    info().is_some_and(|flags| flags & ACCESS_MODE != 0)
}

/// The names of the audit's files in a folder.
///
/// # Errors
/// Where there is no such folder, or it cannot be read.
pub fn files(path: &Path) -> io::Result<Vec<String>> {
    Ok(numbers(path)?.into_iter().map(file_name).collect())
}

impl Storage for Folder {
    fn numbers(&self) -> io::Result<Vec<u64>> {
        match numbers(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other,
        }
    }

    fn ends(&self, number: u64, most: usize) -> io::Result<Ends> {
        let mut file = File::open(self.path.join(file_name(number)))?;
        let bytes = file.metadata()?.len();
        let (mut first, mut last) = (Vec::new(), Vec::new());
        (&file).take(most as u64).read_to_end(&mut first)?;
        file.seek(SeekFrom::Start(bytes.saturating_sub(most as u64)))?;
        file.take(most as u64).read_to_end(&mut last)?;
        Ok(Ends { first, last, bytes })
    }

    fn begin(&mut self, number: u64) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o700))?;
        let path = self.path.join(file_name(number));
        self.ended.extend(self.file.replace(OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?));
        Ok(())
    }

    fn resume(&mut self, number: u64) -> io::Result<()> {
        self.file = Some(OpenOptions::new().append(true).open(self.path.join(file_name(number)))?);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = self.file()?;
        // What is written to a file without a name is lost.
        if file.metadata()?.nlink() == 0 {
            return Err(io::ErrorKind::NotFound.into());
        }
        file.write_all(bytes)
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.file()?.set_len(bytes)
    }

    fn settle(&mut self, outdated: Vec<u64>) {
        self.outdated = outdated;
        if self.settling.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        match self.start_settling() {
            Ok(thread) => self.settling = Some(thread),
            Err(error) => warn_unsettled(&error),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        if let Some(thread) = self.settling.take() {
            // One that panicked has ended the process.
            let _ = thread.join();
        }
        self.file()?.sync_all()?;
        let (ended, outdated) = (std::mem::take(&mut self.ended), std::mem::take(&mut self.outdated));
        settle(&self.path, &ended, &outdated)
    }

    fn remove(&mut self, number: u64) -> io::Result<()> {
        remove(&self.path, number)
    }
}
