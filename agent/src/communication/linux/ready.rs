//! Waiting for a port without Tokio's view of it.
//!
//! A virtio-serial port says HUP while no host is attached, and takes that back when one comes. Tokio keeps "closed" for ever once
//! it saw a HUP, so a task would spin. Here an edge-triggered epoll instance watches the port, and Tokio watches that instance:
//! one wake-up a change, none while nothing changes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{Timespec, epoll};
use tokio::io::unix::AsyncFd;

use crate::descriptor;

/// What changed at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// A read would bring something, if only the news that the other side left.
    pub readable: bool,
    /// A write would take something.
    pub writable: bool,
    /// The other side is not there.
    pub hung_up: bool,
}

/// Tells when a port changes.
#[derive(Debug)]
pub struct Readiness {
    epoll: AsyncFd<OwnedFd>,
}

impl Readiness {
    /// Watches `port`, which the caller keeps open for as long. Its present state comes as the first change.
    pub fn new(port: impl AsFd) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::HUP
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        epoll::add(&epoll, port, epoll::EventData::new_u64(0), flags)?;
        Ok(Self { epoll: descriptor::readable(epoll)? })
    }

    /// Waits for the next change. Nothing is lost when the future is dropped.
    pub async fn changed(&self) -> io::Result<Ready> {
        loop {
            let mut guard = self.epoll.readable().await?;
            if let Some(ready) = take(guard.get_inner())? {
                return Ok(ready);
            }
            guard.clear_ready();
        }
    }
}

fn take(epoll: &OwnedFd) -> io::Result<Option<Ready>> {
    let mut events = Vec::with_capacity(1);
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    epoll::wait(epoll, rustix::buffer::spare_capacity(&mut events), Some(&at_once))?;
    Ok(events.first().map(|event| {
        let flags = event.flags;
        let hung_up = flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR);
        Ready {
            readable: hung_up || flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::RDHUP),
            writable: flags.contains(epoll::EventFlags::OUT),
            hung_up,
        }
    }))
}
