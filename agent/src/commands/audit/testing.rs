//! A disk that fills up.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::{Ends, Folder, Storage};

/// What no disk of a test does in its own way.
macro_rules! as_its_folder {
    () => {
        fn numbers(&self) -> io::Result<Vec<u64>> {
            self.folder.numbers()
        }
        fn ends(&self, number: u64, most: usize) -> io::Result<Ends> {
            self.folder.ends(number, most)
        }
        fn begin(&mut self, number: u64) -> io::Result<()> {
            self.folder.begin(number)
        }
        fn resume(&mut self, number: u64) -> io::Result<()> {
            self.folder.resume(number)
        }
        fn truncate(&mut self, bytes: u64) -> io::Result<()> {
            self.folder.truncate(bytes)
        }
    };
}

/// A folder on a disk that is never done.
#[derive(Debug)]
pub struct SlowDisk {
    folder: Folder,
    outdated: Arc<Mutex<Vec<u64>>>,
}

impl SlowDisk {
    /// A disk in that state.
    pub fn new(path: &Path) -> Self {
        Self { folder: Folder::new(path), outdated: Arc::default() }
    }

    /// The files that are to go when it is done.
    pub fn outdated(&self) -> Arc<Mutex<Vec<u64>>> {
        Arc::clone(&self.outdated)
    }
}

impl Storage for SlowDisk {
    as_its_folder!();

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.folder.append(bytes)
    }
    fn settle(&mut self, outdated: Vec<u64>) {
        *self.outdated.lock().unwrap() = outdated;
    }
    fn sync(&mut self) -> io::Result<()> {
        panic!("it would be waited for without end")
    }
    fn remove(&mut self, number: u64) -> io::Result<()> {
        panic!("file {number} goes before the next one is on the disk")
    }
}

/// A folder on a disk with so many bytes left; what does not fit is written in part, as a real one does.
#[derive(Debug)]
pub struct SmallDisk {
    folder: Folder,
    room: Arc<AtomicUsize>,
}

impl SmallDisk {
    /// A disk with that much room.
    pub fn with_room(path: &Path, bytes: usize) -> Self {
        Self { folder: Folder::new(path), room: Arc::new(AtomicUsize::new(bytes)) }
    }

    /// How much room is left, to be changed while the disk is used.
    pub fn room(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.room)
    }
}

impl Storage for SmallDisk {
    as_its_folder!();

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let fits = bytes.len().min(self.room.load(Ordering::Relaxed));
        self.room.fetch_sub(fits, Ordering::Relaxed);
        self.folder.append(&bytes[..fits])?;
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
    fn settle(&mut self, outdated: Vec<u64>) {
        self.folder.settle(outdated);
    }
    fn sync(&mut self) -> io::Result<()> {
        self.folder.sync()
    }
    fn remove(&mut self, number: u64) -> io::Result<()> {
        self.folder.remove(number)
    }
}
