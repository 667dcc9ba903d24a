//! The lines of `/proc/net/{tcp,tcp6,udp,udp6}`. See proc_net_tcp(5).

use std::net::{IpAddr, Ipv6Addr};

use infini_protocol::metrics::PortProtocol;

use super::scan::{fields, hexadecimal};
use crate::collector::port::{Socket, SocketState};

/// No line of a table is longer: two IPv6 addresses with their ports, and at most twenty numbers of at most 20 digits with what separates
/// them, are less than 500 bytes.
pub const LONGEST_LINE: usize = 512;

/// The socket of a table's line; `None` where it cannot be understood.
pub fn socket(protocol: PortProtocol, line: &[u8]) -> Option<Socket> {
    let mut fields = fields(line);
    let (address, port) = endpoint(fields.nth(1)?)?;
    let (_, remote_port) = endpoint(fields.next()?)?;
    let state = state(protocol, hexadecimal(fields.next()?)?, remote_port)?;
    let id = fields.nth(5).and_then(super::scan::decimal)?;
    Some(Socket { protocol, address, port, state, id })
}

/// `0100007F:0016` is 127.0.0.1:22: the address as 32-bit words in the machine's own byte order, the port as a number.
fn endpoint(text: &[u8]) -> Option<(IpAddr, u16)> {
    let colon = text.iter().position(|byte| *byte == b':')?;
    let (address, port) = (&text[..colon], &text[colon + 1..]);
    let address = match address.len() {
        8 => IpAddr::V4(word(address)?.into()),
        32 => {
            let mut octets = [0; 16];
            for (octets, digits) in octets.chunks_exact_mut(4).zip(address.chunks_exact(8)) {
                octets.copy_from_slice(&word(digits)?);
            }
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some((address, u16::try_from(hexadecimal(port)?).ok()?))
}

fn word(digits: &[u8]) -> Option<[u8; 4]> {
    Some(u32::try_from(hexadecimal(digits)?).ok()?.to_ne_bytes())
}

/// The states of the kernel's `include/net/tcp_states.h`, which UDP borrows two of.
fn state(protocol: PortProtocol, number: u64, remote_port: u16) -> Option<SocketState> {
    if matches!(protocol, PortProtocol::Udp | PortProtocol::Udp6) {
        return Some(if remote_port == 0 { SocketState::Unconnected } else { SocketState::Established });
    }
    Some(match number {
        1 => SocketState::Established,
        2 => SocketState::SynSent,
        // 12 is a request that is not a whole socket yet; tools show it as the same.
        3 | 12 => SocketState::SynReceived,
        4 => SocketState::FinWait1,
        5 => SocketState::FinWait2,
        6 => SocketState::TimeWait,
        7 => SocketState::Close,
        8 => SocketState::CloseWait,
        9 => SocketState::LastAck,
        10 => SocketState::Listen,
        11 => SocketState::Closing,
        _ => return None,
    })
}

/// The number in `socket:[N]`, which a descriptor of a socket points to.
pub fn socket_id(link: &[u8]) -> Option<u64> {
    super::scan::decimal(link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(protocol: PortProtocol, line: &str) -> Socket {
        socket(protocol, line.as_bytes()).unwrap_or_else(|| panic!("not understood: {line}"))
    }

    fn expected(protocol: PortProtocol, address: &str, port: u16, state: SocketState, id: u64) -> Socket {
        Socket { protocol, address: address.parse().unwrap(), port, state, id }
    }

    // The recorded lines are of a little-endian machine.
    #[cfg(target_endian = "little")]
    #[test]
    fn lines_of_each_table() {
        use PortProtocol::{Tcp, Tcp6, Udp, Udp6};
        assert_eq!(
            one(
                Tcp,
                "   0: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1456 1 0000000000fc2c21 100 0 0 10 0"
            ),
            expected(Tcp, "127.0.0.1", 22, SocketState::Listen, 1456)
        );
        assert_eq!(
            one(
                Tcp,
                "   1: 020200C0:8B9A 507100CB:0050 06 00000000:00000000 03:00000939 00000000     0        0 0 3 00000000656c7ef9"
            ),
            expected(Tcp, "192.0.2.2", 35738, SocketState::TimeWait, 0)
        );
        assert_eq!(
            one(
                Tcp6,
                "   0: B80D0120000000000000000001000000:01BB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 77 1 0000000000000000 100 0 0 10 0"
            ),
            expected(Tcp6, "2001:db8::1", 443, SocketState::Listen, 77)
        );
        assert_eq!(
            one(
                Tcp6,
                "   3: 0000000000000000FFFF00000500000A:0050 0000000000000000FFFF00000600000A:C350 01 00000000:00000000 00:00000000 00000000  1000        0 78 1 0000000000000000 100 0 0 10 0"
            ),
            expected(Tcp6, "::ffff:10.0.0.5", 80, SocketState::Established, 78)
        );
        assert_eq!(
            one(
                Udp,
                " 2163: 00000000:0044 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 9012 2 0000000000000000 0"
            ),
            expected(Udp, "0.0.0.0", 68, SocketState::Unconnected, 9012)
        );
        assert_eq!(
            one(
                Udp6,
                " 2163: 00000000000000000000000001000000:0044 00000000000000000000000001000000:0035 01 00000000:00000000 00:00000000 00000000     0        0 9 2 0000000000000000 0"
            ),
            expected(Udp6, "::1", 68, SocketState::Established, 9)
        );
    }

    #[test]
    fn what_is_no_socket_is_none() {
        let heading =
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        for line in [heading, "   0: zz", ""] {
            assert_eq!(socket(PortProtocol::Tcp, line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn a_link_to_a_socket_names_it() {
        assert_eq!(socket_id(b"socket:[1456]"), Some(1456));
        assert_eq!((socket_id(b"/dev/null"), socket_id(b"pipe:[1456]")), (None, None));
    }
}
