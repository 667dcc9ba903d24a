//! Who else is connected to a socket.
//!
//! QEMU serves one client of a character device at a time. The kernel tells which sockets share the path of a listening one
//! (sock_diag(7)): a connection that was accepted has an inode, one that still waits has none, and each names its peer. The peer
//! of an accepted connection is the client's end, and `/proc/PID/fd` says whose that is, as far as this user may look.

mod socket_file;

use std::path::Path;
use std::{fs, io};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};
use socket_file::SocketFile;

/// A process that is connected to a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its id; `None` where its owner hides it from this user.
    pub pid: Option<u32>,
    /// Its name as it gave it itself: not to be shown as it is.
    pub name: Option<String>,
}

/// The clients that are served at this socket, without this process.
///
/// # Errors
/// Where the kernel does not tell.
pub fn clients(socket: &Path) -> io::Result<Vec<Client>> {
    let file = SocketFile::of(socket)?;
    let own = std::process::id();
    let ends = served_peers(&dump()?, file);
    Ok(ends.into_iter().map(owner).filter(|client| client.pid != Some(own)).collect())
}

/// `AF_UNIX` sockets with their state, path and peer (linux/unix_diag.h, linux/netlink.h).
fn dump() -> io::Result<Vec<u8>> {
    const SHOW_VFS: u32 = 2;
    const SHOW_PEER: u32 = 4;
    const ESTABLISHED: u32 = 1 << 1;
    const REQUEST_DUMP: u16 = 0x1 | 0x300;
    let mut request = Vec::with_capacity(40);
    request.extend(40u32.to_ne_bytes());
    request.extend(BY_FAMILY.to_ne_bytes());
    request.extend(REQUEST_DUMP.to_ne_bytes());
    request.extend([0; 8]);
    // struct unix_diag_req: family, protocol, padding, states, inode, what to show, cookie.
    request.extend([1, 0, 0, 0]);
    request.extend(ESTABLISHED.to_ne_bytes());
    request.extend([0; 4]);
    request.extend((SHOW_VFS | SHOW_PEER).to_ne_bytes());
    request.extend([0; 8]);
    let netlink = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))?;
    send(&netlink, &request, SendFlags::empty())?;
    let mut answer = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let (count, _) = recv(&netlink, buffer.as_mut_slice(), RecvFlags::empty())?;
        let part = &buffer[..count];
        let over = messages(part).any(|(kind, _)| kind == DONE || kind == ERROR);
        answer.extend_from_slice(part);
        if over || count == 0 {
            return Ok(answer);
        }
    }
}

const BY_FAMILY: u16 = 20;
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// Type and body of each netlink message.
fn messages(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    records(bytes, 16, |head| (u32_at(head, 0).map(|length| length as usize), u16_at(head, 4)))
}

/// Type and value of each attribute.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    records(bytes, 4, |head| (u16_at(head, 0).map(usize::from), u16_at(head, 2)))
}

/// Records that begin with their length, aligned to four bytes; what makes no sense ends them.
fn records(
    mut bytes: &[u8],
    head: usize,
    read: impl Fn(&[u8]) -> (Option<usize>, Option<u16>),
) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, kind) = read(bytes);
        let (length, kind) = (length.filter(|length| (head..=bytes.len()).contains(length))?, kind?);
        let body = &bytes[head..length];
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
        Some((kind, body))
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The inodes of the clients' ends of accepted connections to the socket that was bound to this file.
fn served_peers(answer: &[u8], socket: SocketFile) -> Vec<u32> {
    const VFS: u16 = 1;
    const PEER: u16 = 2;
    let mut peers = Vec::new();
    for (_, body) in messages(answer).filter(|(kind, _)| *kind == BY_FAMILY) {
        // struct unix_diag_msg: family, type, state, padding, inode, cookie.
        let (Some(inode), Some(rest)) = (u32_at(body, 4), body.get(16..)) else { continue };
        let find = |wanted| attributes(rest).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        // struct unix_diag_vfs: inode, device.
        let bound = find(VFS).and_then(|file| Some(SocketFile { inode: u32_at(file, 0)?, device: u32_at(file, 4)? }));
        if inode != 0 && bound == Some(socket) {
            peers.extend(find(PEER).and_then(|peer| u32_at(peer, 0)));
        }
    }
    peers
}

/// Who holds the socket with this inode.
fn owner(inode: u32) -> Client {
    let link = format!("socket:[{inode}]");
    let holds = |pid: &u32| {
        fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|entries| {
            entries.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == Path::new(&link)))
        })
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pid = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(holds);
    let name = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok());
    Client { pid, name: name.map(|name| name.trim_end().to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn the_served_client_is_told_from_the_waiting_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vm.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let served = UnixStream::connect(&path).unwrap();
        let _accepted = listener.accept().unwrap();
        let _waiting = UnixStream::connect(&path).unwrap();
        let file = SocketFile::of(&path).unwrap();
        let peers = served_peers(&dump().unwrap(), file);
        let expected = rustix::fs::fstat(&served).unwrap().st_ino;
        assert_eq!(peers.iter().map(|&peer| u64::from(peer)).collect::<Vec<_>>(), [expected]);
        let me = owner(peers[0]);
        assert_eq!(me.pid, Some(std::process::id()));
        assert_eq!(clients(&path).unwrap(), Vec::<Client>::new(), "this process is no other client");
        // Each file system numbers its own files: a socket on another one may have the same number.
        let elsewhere = SocketFile { device: file.device ^ 1, ..file };
        assert_eq!(served_peers(&dump().unwrap(), elsewhere), Vec::<u32>::new(), "{file:?} is not {elsewhere:?}");
    }

    #[test]
    fn nonsense_from_the_kernel_ends_the_list() {
        for answer in [&[][..], &[0; 3], &[0; 64], &[255; 64], &[16, 0, 0, 0, 20, 0]] {
            assert!(served_peers(answer, SocketFile { inode: 0, device: 0 }).is_empty(), "{answer:?}");
        }
    }
}
