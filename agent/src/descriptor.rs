//! Descriptors that Tokio watches.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Has Tokio tell when a descriptor becomes readable. Needs a running Tokio runtime.
///
/// # Errors
/// Where the system cannot watch it.
pub fn readable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    watched(descriptor, Interest::READABLE)
}

/// Has Tokio tell when a descriptor has something out of the ordinary to say (`POLLPRI`). Needs a running Tokio runtime.
///
/// # Errors
/// Where the system cannot watch it.
pub fn exceptional(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    watched(descriptor, Interest::PRIORITY)
}

fn watched(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open until it is dropped, always gives the same descriptor, and belongs to the AsyncFd from here on.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}
