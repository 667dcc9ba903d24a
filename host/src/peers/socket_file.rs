use std::path::Path;
use std::{fs, io};

use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, statx};

/// Which file a socket was bound to, in the kernel's own numbers (`struct unix_diag_vfs` of linux/unix_diag.h, which keeps 32 bits of
/// the inode).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketFile {
    pub inode: u32,
    pub device: u32,
}

impl SocketFile {
    /// The file at this path, its symbolic links followed.
    pub fn of(path: &Path) -> io::Result<Self> {
        let found = statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)?;
        // btrfs and overlayfs tell stat(2) a device of their own making; the list of mounts has the kernel's.
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let (major, minor) = mount_id(&found)
            .and_then(|id| mounted_device(&mounts, id))
            .unwrap_or((found.stx_dev_major, found.stx_dev_minor));
        Ok(Self { inode: found.stx_ino as u32, device: device(major, minor) })
    }
}

/// Linux tells it since 5.8.
fn mount_id(found: &Statx) -> Option<u64> {
    StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID).then_some(found.stx_mnt_id)
}

/// `MKDEV` of linux/kdev_t.h, which is not how `dev_t` holds the two.
const fn device(major: u32, minor: u32) -> u32 {
    major << 20 | minor
}

/// The device of a mount (proc_pid_mountinfo(5): mount, parent, `major:minor`).
fn mounted_device(mounts: &str, id: u64) -> Option<(u32, u32)> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let is_wanted = words.next()?.parse() == Ok(id);
        let (major, minor) = words.nth(1).filter(|_| is_wanted)?.split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_its_id() {
        let mounts = "22 27 0:21 / /proc rw - proc proc rw\n27 1 259:1048575 / / rw - btrfs /dev/vda rw\n";
        assert_eq!(mounted_device(mounts, 27), Some((259, 1_048_575)));
        assert_eq!(mounted_device(mounts, 2), None);
        assert_eq!(mounted_device("27\n27 1 x\n", 27), None);
    }

    #[test]
    fn devices_are_written_as_the_kernel_has_them() {
        assert_eq!(device(254, 0), 0x0fe0_0000);
        assert_eq!(device(0, 0xf_ffff), 0x000f_ffff);
    }
}
