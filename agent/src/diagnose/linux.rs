use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, Mode, OFlags, access, major, open};

use crate::communication::detect::is_port;
use crate::communication::{DeviceRoots, LinkError};

/// Why a file that is there could not be opened as a port, as far as can be said without opening it.
pub(super) fn why_not_opened(path: &Path, roots: &DeviceRoots) -> Option<LinkError> {
    let is_device = fs::metadata(path).is_ok_and(|file| file.file_type().is_char_device());
    if !is_device || !(is_port(roots, path) || is_tty(path)) {
        return Some(LinkError::NotADevice { path: path.to_owned() });
    }
    let is_refused = access(path, Access::READ_OK | Access::WRITE_OK).is_err();
    is_refused.then(|| LinkError::PermissionDenied { path: path.to_owned() })
}

/// The kernel's numbers of character devices that are no ttys and yet everywhere: mem (`/dev/null`, `/dev/random`) and misc.
const NO_TTYS: [u32; 2] = [1, 10];

/// Whether it may be a tty, told without opening it, which would wake a modem.
fn is_tty(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| !NO_TTYS.contains(&major(file.rdev())))
}

/// Whether a host is at the other end of a virtio-serial port: the kernel reports a hang-up at once where there is none.
/// Nothing is read, so nothing is lost.
pub(super) fn host_attached(path: &Path) -> io::Result<bool> {
    let port = open(path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())?;
    let mut fds = [PollFd::new(&port, PollFlags::IN | PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(!fds[0].revents().contains(PollFlags::HUP))
}
