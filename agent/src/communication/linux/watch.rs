//! Notice of files that appear, so that a port plugged in is taken at once and not after the rest of a minute, and of files that go.

use std::collections::VecDeque;
use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify;
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::facts::{guest_agent_folders, is_guest_agent_file};
use crate::communication::detect::{DeviceRoots, PORT_NAME};
use crate::descriptor;

/// A new file is not ready the moment it appears: udev sets its permissions, the driver tells a port's name in a message of its own
/// after the node was made, a socket is bound before it listens. So the news is repeated.
const ECHOES: [Duration; 6] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(800),
    Duration::from_millis(1500),
    Duration::from_millis(2500),
];

/// Watches folders for names that matter.
#[derive(Debug)]
pub struct Watch {
    inotify: AsyncFd<OwnedFd>,
    names: Names,
    folders: Vec<PathBuf>,
    echoes: VecDeque<Instant>,
}

#[derive(Debug)]
enum Names {
    Ports,
    These([OsString; 2]),
}

impl Names {
    fn matter(&self, name: &OsStr) -> bool {
        match self {
            Self::Ports => {
                name.as_bytes().starts_with(b"vport")
                    || name == "virtio-ports"
                    || name == PORT_NAME
                    || is_guest_agent_file(name)
            }
            Self::These(wanted) => wanted.iter().any(|wanted| wanted == name),
        }
    }
}

impl Watch {
    /// Watches for virtio-serial ports, and for the QEMU guest agent, which has the first claim on its own.
    pub fn ports(roots: &DeviceRoots) -> io::Result<Self> {
        let mut folders = vec![roots.dev.clone(), roots.dev.join("virtio-ports")];
        folders.extend(guest_agent_folders(roots));
        Self::new(Names::Ports, folders)
    }

    /// Watches for one file.
    pub fn file(path: &Path) -> io::Result<Self> {
        let folder = folder_of(path);
        let names = [path, &folder].map(|path| path.file_name().unwrap_or_default().to_owned());
        // A folder that is not there yet (udev makes /dev/virtio-ports with the first port) is waited for in its own folder.
        let above = (!folder.is_dir()).then(|| folder_of(&folder));
        Self::new(Names::These(names), above.into_iter().chain([folder]).collect())
    }

    fn new(names: Names, folders: Vec<PathBuf>) -> io::Result<Self> {
        let inotify = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        let watch = Self { inotify: descriptor::readable(inotify)?, names, folders, echoes: VecDeque::new() };
        watch.watch_folders()?;
        Ok(watch)
    }

    /// Adding a folder again changes nothing, and one that is not there yet is added when it has appeared in its parent.
    fn watch_folders(&self) -> io::Result<()> {
        let come = inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::ATTRIB;
        let flags = come | inotify::WatchFlags::DELETE | inotify::WatchFlags::MOVED_FROM;
        for folder in &self.folders {
            match inotify::add_watch(self.inotify.get_ref(), folder, flags) {
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits until a file that matters appeared, went or changed its permissions, and then a few times more while it settles.
    pub async fn changed(&mut self) -> io::Result<()> {
        let next_echo = self.echoes.front().copied();
        tokio::select! {
            news = appeared(&self.inotify, &self.names) => {
                news?;
                let now = Instant::now();
                self.echoes = ECHOES.iter().map(|&delay| now + delay).collect();
                self.watch_folders()
            }
            () = sleep_until(next_echo) => {
                self.echoes.pop_front();
                Ok(())
            }
        }
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

async fn appeared(inotify: &AsyncFd<OwnedFd>, names: &Names) -> io::Result<()> {
    loop {
        let mut guard = inotify.readable().await?;
        if drain(guard.get_inner(), names)? {
            return Ok(());
        }
        guard.clear_ready();
    }
}

/// Reads all that is there and says whether any of it matters.
fn drain(inotify: &OwnedFd, names: &Names) -> io::Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(inotify, &mut buffer);
    let mut matters = false;
    loop {
        match reader.next() {
            Ok(event) => {
                // When the queue overflowed nobody knows what was lost.
                matters |= event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW)
                    || event.file_name().map(CStr::to_bytes).is_some_and(|name| names.matter(OsStr::from_bytes(name)));
            }
            Err(Errno::AGAIN) => return Ok(matters),
            Err(error) => return Err(error.into()),
        }
    }
}
