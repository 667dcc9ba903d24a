//! The addresses of interfaces: rtnetlink.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The interface's number, as in `/sys/class/net/*/ifindex`.
    pub interface: u32,
    /// The address.
    pub ip: IpAddr,
}

/// Who knows the addresses. Tests pass one that gives recorded ones.
pub type AddressSource = Box<dyn FnMut() -> io::Result<Vec<Address>> + Send>;

/// Numbers of linux/netlink.h, linux/rtnetlink.h and linux/if_addr.h.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLM_F_REQUEST: u16 = 0x001;
const NLM_F_DUMP: u16 = 0x300;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Lengths of `nlmsghdr`, `ifaddrmsg` and `rtattr`.
const HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ATTRIBUTE_HEADER: usize = 4;

/// The kernel answers at once; this only keeps a lost answer from stopping the thread.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks the kernel for the addresses of all interfaces of this network namespace.
///
/// # Errors
/// What the socket or the kernel gave.
pub fn ask_kernel() -> io::Result<Vec<Address>> {
    // NETLINK_ROUTE is 0, the protocol that stands when none is named.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    sendto(&socket, &request(), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut addresses = Vec::new();
    // A part of the dump is at most 32 KiB where the reader has room for it.
    let mut buffer = Vec::with_capacity(32 * 1024);
    loop {
        buffer.clear();
        recv(&socket, spare_capacity(&mut buffer), RecvFlags::empty())?;
        if parse(&buffer, &mut addresses)? {
            return Ok(addresses);
        }
    }
}

/// `nlmsghdr` and `ifaddrmsg`: a dump for all address families.
fn request() -> [u8; HEADER + ADDRESS_HEADER] {
    let mut message = [0; HEADER + ADDRESS_HEADER];
    message[0..4].copy_from_slice(&((HEADER + ADDRESS_HEADER) as u32).to_ne_bytes());
    message[4..6].copy_from_slice(&RTM_GETADDR.to_ne_bytes());
    message[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    message
}

/// Adds the addresses of one part of a dump; whether it was the last part.
///
/// # Errors
/// The kernel's refusal, or a message that is longer than what was received.
pub fn parse(mut part: &[u8], addresses: &mut Vec<Address>) -> io::Result<bool> {
    while part.len() >= HEADER {
        let length = read_u32(part) as usize;
        let kind = u16::from_ne_bytes([part[4], part[5]]);
        let message = part.get(HEADER..length).ok_or_else(|| io::Error::other("a netlink message is cut off"))?;
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = message.get(..4).map_or(0, |code| read_u32(code) as i32);
                return Err(io::Error::from_raw_os_error(-code));
            }
            RTM_NEWADDR => addresses.extend(parse_address(message)),
            _ => {}
        }
        part = part.get(align(length)..).unwrap_or_default();
    }
    // A datagram with nothing in it would otherwise be waited out for ever.
    if part.is_empty() { Ok(false) } else { Err(io::Error::other("netlink sent less than a header")) }
}

/// `ifaddrmsg` is family, prefix length, flags, scope (a byte each) and the interface's number. On a link between two machines IFA_ADDRESS is the
/// other one's; IFA_LOCAL is always our own, but IPv6 mostly has only the former.
fn parse_address(message: &[u8]) -> Option<Address> {
    let family = *message.first()?;
    let interface = read_u32(message.get(4..ADDRESS_HEADER)?);
    let mut attributes = message.get(ADDRESS_HEADER..)?;
    let mut ip = None;
    while attributes.len() >= ATTRIBUTE_HEADER {
        let length = usize::from(u16::from_ne_bytes([attributes[0], attributes[1]]));
        let kind = u16::from_ne_bytes([attributes[2], attributes[3]]);
        let value = attributes.get(ATTRIBUTE_HEADER..length)?;
        match kind {
            IFA_LOCAL => return Some(Address { interface, ip: parse_ip(family, value)? }),
            IFA_ADDRESS => ip = parse_ip(family, value),
            _ => {}
        }
        attributes = attributes.get(align(length)..).unwrap_or_default();
    }
    Some(Address { interface, ip: ip? })
}

fn parse_ip(family: u8, value: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into()),
        AF_INET6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into()),
        _ => None,
    }
}

/// The first four bytes, which the caller knows to be there.
fn read_u32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((ATTRIBUTE_HEADER + value.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(align(bytes.len()), 0);
        bytes
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes.resize(align(bytes.len()), 0);
        bytes
    }

    fn address(family: u8, interface: u32, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![family, 24, 0, 0];
        body.extend(interface.to_ne_bytes());
        body.extend(attributes.iter().flat_map(|(kind, value)| attribute(*kind, value)));
        message(RTM_NEWADDR, &body)
    }

    #[test]
    fn a_dump_gives_our_side_of_each_link() {
        let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        let mut dump =
            address(AF_INET, 2, &[(IFA_ADDRESS, &[10, 0, 0, 1]), (IFA_LOCAL, &[10, 0, 0, 2]), (3, b"eth0\0")]);
        dump.extend(address(AF_INET6, 7, &[(IFA_ADDRESS, &link_local.octets())]));
        let mut addresses = Vec::new();
        assert!(!parse(&dump, &mut addresses).unwrap());
        assert!(parse(&message(NLMSG_DONE, &[0; 4]), &mut addresses).unwrap());
        let expected = [
            Address { interface: 2, ip: Ipv4Addr::new(10, 0, 0, 2).into() },
            Address { interface: 7, ip: link_local.into() },
        ];
        assert_eq!(addresses, expected);
    }

    #[test]
    fn refusals_and_cut_messages_are_errors() {
        let refused = parse(&message(NLMSG_ERROR, &(-1_i32).to_ne_bytes()), &mut Vec::new()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        let whole = address(AF_INET, 2, &[(IFA_LOCAL, &[10, 0, 0, 2])]);
        for length in 1..whole.len() {
            let mut addresses = Vec::new();
            assert!(parse(&whole[..length], &mut addresses).is_err(), "{length} bytes gave {addresses:?}");
        }
    }

    #[test]
    fn any_bytes_are_taken_without_a_panic() {
        let mut dump = address(AF_INET6, 2, &[(IFA_ADDRESS, &[1; 16])]);
        for position in 0..dump.len() {
            for value in [0, 1, 3, 0x7f, 0xff] {
                let kept = std::mem::replace(&mut dump[position], value);
                let _ = parse(&dump, &mut Vec::new());
                dump[position] = kept;
            }
        }
    }

    #[test]
    fn the_kernel_knows_the_loopback() {
        let addresses = ask_kernel().unwrap();
        assert!(addresses.iter().any(|address| address.ip.is_loopback()), "{addresses:?}");
    }
}
