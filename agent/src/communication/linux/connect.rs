//! Opening devices and dialling sockets, each failure with its reason.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::termios::{OptionalActions, Termios};

use super::facts::holders;
use super::facts::is_port;
use super::port::Port;
use super::ready::Readiness;
use super::vsock::VsockAddress;
use crate::communication::detect::DeviceRoots;
use crate::communication::endpoint::Endpoint;
use crate::communication::error::LinkError;

/// Opens a virtio-serial port or a tty for this process alone.
pub fn open_device(path: &Path, roots: &DeviceRoots) -> Result<Port, LinkError> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let failed = |error| device_error(path, roots, error);
    // The kind comes first: opening a FIFO or a file for reading and writing would succeed and mean nothing.
    let kind = rustix::fs::stat(path).map_err(failed)?.st_mode;
    if FileType::from_raw_mode(kind) != FileType::CharacterDevice {
        return Err(LinkError::NotADevice { path: path.to_owned() });
    }
    let descriptor = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
    if !rustix::termios::isatty(&descriptor) {
        // Such as /dev/null, which takes every line and has nobody behind it.
        return match is_port(roots, path) {
            true => Ok(Port::virtio(descriptor)),
            false => Err(LinkError::NotADevice { path: path.to_owned() }),
        };
    }
    take_tty(&descriptor).map_err(failed)?;
    Ok(Port::connection(descriptor))
}

/// Raw, and nobody else's: TIOCEXCL keeps other users out, the lock other agents that run as root.
fn take_tty(descriptor: &OwnedFd) -> Result<(), Errno> {
    rustix::fs::flock(descriptor, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
        Errno::WOULDBLOCK => Errno::BUSY,
        other => other,
    })?;
    rustix::termios::ioctl_tiocexcl(descriptor)?;
    let mut settings: Termios = rustix::termios::tcgetattr(descriptor)?;
    settings.make_raw();
    rustix::termios::tcsetattr(descriptor, OptionalActions::Now, &settings)
}

fn device_error(path: &Path, roots: &DeviceRoots, error: Errno) -> LinkError {
    match error {
        Errno::NOENT | Errno::NODEV | Errno::NOTDIR => LinkError::NotFound { what: path.display().to_string() },
        Errno::BUSY => LinkError::Busy { path: path.to_owned(), holders: holders(roots, path) },
        Errno::ACCESS | Errno::PERM => LinkError::PermissionDenied { path: path.to_owned() },
        // What virtio_console says for a port that serves as a console.
        Errno::NXIO => LinkError::NotADevice { path: path.to_owned() },
        other => LinkError::Io { what: format!("opening {}", path.display()), source: other.into() },
    }
}

/// Connects to a Unix socket. The kernel answers at once, so nothing is awaited.
pub fn connect_unix(path: &Path) -> Result<Port, LinkError> {
    let failed = |error| socket_error(&Endpoint::Unix(path.to_owned()), error);
    let socket = stream_socket(AddressFamily::UNIX).map_err(failed)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path).map_err(failed)?).map_err(failed)?;
    Ok(Port::connection(socket))
}

/// Connects to a vsock listener.
pub async fn connect_vsock(cid: u32, port: u32) -> Result<Port, LinkError> {
    let endpoint = Endpoint::Vsock { cid, port };
    let failed = |error| socket_error(&endpoint, error);
    let socket = stream_socket(AddressFamily::VSOCK).map_err(failed)?;
    match rustix::net::connect(&socket, &VsockAddress::new(cid, port)) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => {
            finish_connect(&socket).await.map_err(|source| io_error(&endpoint, source))?.map_err(failed)?
        }
        Err(error) => return Err(failed(error)),
    }
    Ok(Port::connection(socket))
}

async fn finish_connect(socket: &OwnedFd) -> io::Result<Result<(), Errno>> {
    let readiness = Readiness::new(socket)?;
    loop {
        let ready = readiness.changed().await?;
        if ready.writable || ready.hung_up {
            return Ok(rustix::net::sockopt::socket_error(socket)?);
        }
    }
}

fn stream_socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)
}

fn socket_error(endpoint: &Endpoint, error: Errno) -> LinkError {
    match (endpoint, error) {
        (_, Errno::NOENT | Errno::NODEV | Errno::NOTDIR) => LinkError::NotFound { what: endpoint.to_string() },
        (_, Errno::CONNREFUSED | Errno::CONNRESET | Errno::TIMEDOUT) => {
            LinkError::Refused { endpoint: endpoint.to_string() }
        }
        (Endpoint::Unix(path), Errno::ACCESS | Errno::PERM) => LinkError::PermissionDenied { path: path.clone() },
        // The listener's queue of connections is full.
        (Endpoint::Unix(path), Errno::AGAIN) => LinkError::Busy { path: path.clone(), holders: Vec::new() },
        (_, other) => io_error(endpoint, other.into()),
    }
}

fn io_error(endpoint: &Endpoint, source: io::Error) -> LinkError {
    LinkError::Io { what: format!("connecting to {endpoint}"), source }
}
