//! An open port: bytes in, bytes out, and what the end of them means.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Non-blocking bytes.
pub trait PortIo: AsFd {
    /// Reads what is there. 0 means that the other side left, `WouldBlock` that it has nothing to say.
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes what fits.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Whether the other side may leave and come back while the port stays open, as with a virtio-serial port. With a tty nobody
    /// can tell whether there is another side, and with a socket the end is the end.
    fn outlives_host(&self) -> bool;
}

/// A device or a connected socket.
#[derive(Debug)]
pub struct Port {
    descriptor: OwnedFd,
    outlives_host: bool,
}

impl Port {
    /// A virtio-serial port.
    pub const fn virtio(descriptor: OwnedFd) -> Self {
        Self { descriptor, outlives_host: true }
    }

    /// A tty or a connected socket.
    pub const fn connection(descriptor: OwnedFd) -> Self {
        Self { descriptor, outlives_host: false }
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl PortIo for Port {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.descriptor, buffer)?)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&self.descriptor, bytes)?)
    }

    fn outlives_host(&self) -> bool {
        self.outlives_host
    }
}
