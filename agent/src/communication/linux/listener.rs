//! The socket that the agent listens on, for development and for the demo.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixListener;

use super::port::Port;
use crate::communication::error::LinkError;

/// Hosts that may wait while one is served; more are refused by the kernel.
const BACKLOG: i32 = 8;

/// A listening socket. Its file goes with it.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// The file, told from another one that may have taken its place.
    file: Option<File>,
}

/// A file's device and number.
type File = (u64, u64);

impl Drop for Listener {
    fn drop(&mut self) {
        if self.has_file() {
            // Where it is gone already there is nothing left to do.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    /// Listens on `path`, for this user alone. A file that a dead process left there is replaced, a living listener is not.
    pub fn bind(path: &Path) -> Result<Self, LinkError> {
        let socket = match bind(path) {
            Err(Errno::ADDRINUSE) if is_abandoned(path) => rustix::fs::unlink(path).and_then(|()| bind(path)),
            bound => bound,
        };
        let socket = socket.map_err(|error| bind_error(path, error))?;
        let listener = UnixListener::from_std(socket.into())
            .map_err(|source| LinkError::Io { what: format!("listening on {}", path.display()), source })?;
        Ok(Self { socket: listener, path: path.to_owned(), file: file_at(path) })
    }

    /// Whether hosts can still find it: somebody may have taken the file away, or put another socket there.
    pub fn has_file(&self) -> bool {
        self.file.is_some() && file_at(&self.path) == self.file
    }

    /// Waits for the next host. Nothing is lost when the future is dropped.
    pub async fn accept(&self) -> io::Result<Port> {
        let (stream, _) = self.socket.accept().await?;
        Ok(Port::connection(stream.into_std()?.into()))
    }
}

fn file_at(path: &Path) -> Option<File> {
    std::fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

fn bind(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    // Nobody can connect before `listen`, so the file is never open to others.
    rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// A socket file whose listener is gone refuses connections.
fn is_abandoned(path: &Path) -> bool {
    matches!(super::connect::connect_unix(path), Err(LinkError::Refused { .. }))
}

fn bind_error(path: &Path, error: Errno) -> LinkError {
    match error {
        Errno::ADDRINUSE => LinkError::Busy { path: path.to_owned(), holders: Vec::new() },
        Errno::NOENT | Errno::NOTDIR => LinkError::NotFound { what: path.display().to_string() },
        Errno::ACCESS | Errno::PERM => LinkError::PermissionDenied { path: path.to_owned() },
        other => LinkError::Io { what: format!("listening on {}", path.display()), source: other.into() },
    }
}
