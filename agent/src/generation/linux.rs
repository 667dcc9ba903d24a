//! Linux: what the kernel's driver of the VM generation id tells (drivers/virt/vmgenid.c).

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::libc;
use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with};
use tokio::io::unix::AsyncFd;

use crate::descriptor;

/// The group in which the kernel itself speaks; udev, which says the same again, has another.
const KERNEL: u32 = 1;

/// Longer than the kernel makes such a message: 2 KiB of variables, and a device's path.
const LONGEST: usize = 8 << 10;

/// Tells when the hypervisor has cloned this machine or brought it back to a snapshot. The kernel announces that as a change of the
/// device that holds the generation id. Nothing wakes up before but for other devices that change, which is rare.
#[derive(Debug)]
pub struct GenerationWatch(AsyncFd<OwnedFd>);

impl GenerationWatch {
    /// Starts watching. Needs a running Tokio runtime. On a machine without such an id, and with a kernel that does not announce it,
    /// there is just nothing to hear.
    ///
    /// # Errors
    /// Where the kernel gives no such socket.
    pub fn start() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(KOBJECT_UEVENT))?;
        hear_changes_only(&socket)?;
        bind(&socket, &SocketAddrNetlink::new(0, KERNEL))?;
        Ok(Self(descriptor::readable(socket)?))
    }

    /// Returns when this machine is another one than before. Cancel safe.
    ///
    /// # Errors
    /// Where the socket cannot be read any more.
    pub async fn is_another(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|socket| hear(socket.get_ref())) {
                Ok(Ok(true)) => return Ok(()),
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(error)) => return Err(error),
            }
        }
    }
}

/// Hears one message: whether it says that the machine is another.
fn hear(socket: &OwnedFd) -> io::Result<bool> {
    let mut message = vec![0; LONGEST];
    match recvfrom(socket, &mut message, RecvFlags::empty()) {
        Ok((length, _, sender)) => {
            // Root's programs can speak in this group, too.
            let sender = sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok());
            let is_kernel = sender.is_some_and(|sender| sender.pid() == 0);
            Ok(is_kernel && says_so(&message[..length]))
        }
        // Messages were lost, and this may have been one. A session too many costs a greeting.
        Err(Errno::NOBUFS) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// A head line, then variables, each ended by a NUL.
fn says_so(message: &[u8]) -> bool {
    let mut parts = message.split(|&byte| byte == 0);
    parts.next().is_some_and(|head| head.starts_with(b"change@")) && parts.any(|part| part == b"NEW_VMGENID=1")
}

/// Has the kernel drop what is about devices that come and go, so that no container that starts wakes the agent.
fn hear_changes_only(socket: &OwnedFd) -> io::Result<()> {
    const CHANGE: u32 = u32::from_be_bytes(*b"chan");
    const ALL: u32 = u32::MAX;
    // Numbers of linux/bpf_common.h: load a word of the message, compare it, give how many bytes to keep.
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, CHANGE),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, ALL),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the filter, which lives until the call is over, and reads no more than the given length.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    const NEW: &[u8] = b"change@/devices/platform/QEMUVGID:00\0ACTION=change\0DEVPATH=/devices/platform/QEMUVGID:00\0\
        SUBSYSTEM=platform\0NEW_VMGENID=1\0DRIVER=vmgenid\0SEQNUM=1234\0";

    #[test]
    fn only_the_drivers_own_word_counts() {
        assert!(says_so(NEW));
        for other in [
            &b""[..],
            b"change@/devices/NEW_VMGENID=1",
            b"change@/devices/x\0ACTION=change\0SYNTH_ARG_NEW_VMGENID=1\0",
            b"change@/devices/x\0ACTION=change\0NEW_VMGENID=12\0",
            b"add@/devices/x\0ACTION=add\0NEW_VMGENID=1\0",
        ] {
            assert!(!says_so(other), "{}", String::from_utf8_lossy(other));
        }
    }

    #[test]
    fn devices_that_come_and_go_are_not_heard_of() {
        let (kernel, socket) = UnixDatagram::pair().unwrap();
        let socket = OwnedFd::from(socket);
        hear_changes_only(&socket).unwrap();
        for message in [&b"add@/devices/x\0ACTION=add\0"[..], b"remove@/devices/x\0", b"c", NEW] {
            kernel.send(message).unwrap();
        }
        let mut heard = vec![0; LONGEST];
        let length = UnixDatagram::from(socket).recv(&mut heard).unwrap();
        assert_eq!(heard[..length], *NEW);
    }

    #[tokio::test]
    async fn what_the_kernel_has_not_said_does_not_count() {
        let watch = GenerationWatch::start().unwrap();
        let (own, forger) = UnixDatagram::pair().unwrap();
        forger.send(NEW).unwrap();
        assert!(!hear(&OwnedFd::from(own)).unwrap(), "it came from a socket of this process");
        // Some device of the machine that runs this test may change just now.
        let end = loop {
            match hear(watch.0.get_ref()) {
                Ok(is_another) => assert!(!is_another),
                Err(error) => break error.kind(),
            }
        };
        assert_eq!(end, io::ErrorKind::WouldBlock);
    }
}
