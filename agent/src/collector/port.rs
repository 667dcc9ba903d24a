//! Ports: from single sockets to one entry a port.

mod sockets;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use infini_protocol::Text;
use infini_protocol::metrics::{PortMetrics, PortProtocol};

pub use sockets::Sockets;
use sockets::any_address;

/// One socket of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Transport and address family.
    pub protocol: PortProtocol,
    /// Its own address.
    pub address: IpAddr,
    /// Its own port.
    pub port: u16,
    /// What it does.
    pub state: SocketState,
    /// The system's number for it, by which its owner is found; 0 where it has no owner any more.
    pub id: u64,
}

/// What a socket does, in the order in which ports are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the states of TCP, and of UDP one that is not connected")]
pub enum SocketState {
    Listen,
    Unconnected,
    Established,
    SynSent,
    SynReceived,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    Close,
    TimeWait,
}

impl SocketState {
    /// Whether anyone may send to it.
    pub fn is_listening(self) -> bool {
        matches!(self, Self::Listen | Self::Unconnected)
    }

    /// The name that `netstat` gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Listen => "LISTEN",
            Self::Unconnected => "UNCONN",
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynReceived => "SYN_RECV",
            Self::FinWait1 => "FIN_WAIT1",
            Self::FinWait2 => "FIN_WAIT2",
            Self::CloseWait => "CLOSE_WAIT",
            Self::Closing => "CLOSING",
            Self::LastAck => "LAST_ACK",
            Self::Close => "CLOSE",
            Self::TimeWait => "TIME_WAIT",
        }
    }
}

/// The process that owns a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOwner {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub name: Text,
    /// Its program.
    pub exe_path: Option<Text>,
}

/// What makes two sockets of one port one entry. Listening ones differ by address, connections by owner and state.
type Key = (SocketState, PortProtocol, u16, Option<IpAddr>, Option<u32>);

/// One entry for each address that is listened on, with the connections that came in over it; and one for each port that connections
/// go out from. Listening ones first, then those with the most connections.
pub fn aggregate<'o>(sockets: &Sockets, owner: impl Fn(u64) -> Option<&'o SocketOwner>) -> Vec<PortMetrics> {
    let mut ports: BTreeMap<Key, PortMetrics> = BTreeMap::new();
    for socket in sockets.listening() {
        // Several sockets may share a port (SO_REUSEPORT): the first one that has an owner names it.
        let port = ports.entry(listening_key(socket, socket.address)).or_insert_with(|| entry(socket, None));
        if port.pid.is_none() {
            *port = entry(socket, owner(socket.id));
            port.connection_count = sockets.connections(&(socket.protocol, socket.port, socket.address));
        }
    }
    for socket in sockets.others() {
        if let Some(listener) = listener(&mut ports, socket) {
            listener.connection_count += u32::from(socket.state == SocketState::Established);
            continue;
        }
        let owner = owner(socket.id);
        let key = (socket.state, socket.protocol, socket.port, None, owner.map(|owner| owner.pid));
        ports.entry(key).or_insert_with(|| entry(socket, owner)).connection_count += 1;
    }
    let mut ports: Vec<(Key, PortMetrics)> = ports.into_iter().collect();
    ports.sort_by_key(|((state, ..), port)| (!port.is_listening, *state, Reverse(port.connection_count)));
    ports.into_iter().map(|(_, port)| port).collect()
}

fn listening_key(socket: &Socket, address: IpAddr) -> Key {
    let state = match socket.protocol {
        PortProtocol::Tcp | PortProtocol::Tcp6 => SocketState::Listen,
        _ => SocketState::Unconnected,
    };
    (state, socket.protocol, socket.port, Some(address), None)
}

/// The port that a connection came in over: the one of its own address before the one of any address.
fn listener<'p>(ports: &'p mut BTreeMap<Key, PortMetrics>, connection: &Socket) -> Option<&'p mut PortMetrics> {
    let any = any_address(connection.address);
    let own = listening_key(connection, connection.address);
    let key = if ports.contains_key(&own) { own } else { listening_key(connection, any) };
    ports.get_mut(&key)
}

fn entry(socket: &Socket, owner: Option<&SocketOwner>) -> PortMetrics {
    PortMetrics {
        port: socket.port,
        protocol: socket.protocol,
        state: socket.state.name().into(),
        address: Some(socket.address.to_string().into()),
        pid: owner.map(|owner| owner.pid),
        process_name: owner.map(|owner| owner.name.clone()),
        exe_path: owner.and_then(|owner| owner.exe_path.clone()),
        is_listening: socket.state.is_listening(),
        connection_count: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PortProtocol::{Tcp, Tcp6, Udp};
    use SocketState::{Established, Listen, TimeWait, Unconnected};

    fn socket(protocol: PortProtocol, address: &str, port: u16, state: SocketState, id: u64) -> Socket {
        Socket { protocol, address: address.parse().unwrap(), port, state, id }
    }

    /// The socket's number is its owner's id, 0 is nobody.
    fn summary(sockets: &[Socket]) -> Vec<(String, Option<u32>, u32)> {
        let owners: Vec<SocketOwner> =
            (0..100).map(|pid| SocketOwner { pid, name: format!("p{pid}").into(), exe_path: None }).collect();
        let mut gathered = Sockets::default();
        sockets.iter().for_each(|socket| gathered.add(*socket));
        let ports = aggregate(&gathered, |id| owners.get(id as usize).filter(|_| id != 0));
        let name = |port: &PortMetrics| format!("{} {}:{}", port.state, port.address.as_deref().unwrap(), port.port);
        ports.iter().map(|port| (name(port), port.pid, port.connection_count)).collect()
    }

    fn entry(name: &str, pid: impl Into<Option<u32>>, connections: u32) -> (String, Option<u32>, u32) {
        (name.to_owned(), pid.into(), connections)
    }

    #[test]
    fn connections_count_for_the_port_that_they_came_in_over() {
        let found = summary(&[
            socket(Tcp, "0.0.0.0", 80, Listen, 7),
            socket(Tcp, "127.0.0.1", 80, Listen, 8),
            socket(Tcp, "10.0.0.5", 80, Established, 9),
            socket(Tcp, "10.0.0.5", 80, Established, 9),
            socket(Tcp, "127.0.0.1", 80, Established, 8),
            socket(Tcp, "10.0.0.5", 80, TimeWait, 0),
            socket(Tcp6, "::ffff:10.0.0.5", 80, Established, 9),
        ]);
        assert_eq!(
            found,
            [
                entry("LISTEN 0.0.0.0:80", 7, 2),
                entry("LISTEN 127.0.0.1:80", 8, 1),
                entry("ESTABLISHED ::ffff:10.0.0.5:80", 9, 1)
            ]
        );
    }

    #[test]
    fn a_connection_that_is_told_before_its_port_counts_for_it_too() {
        let found = summary(&[
            socket(Udp, "10.0.0.5", 53, Established, 7),
            socket(Udp, "0.0.0.0", 53, Unconnected, 7),
            socket(Udp, "10.0.0.5", 53, Established, 7),
        ]);
        assert_eq!(found, [entry("UNCONN 0.0.0.0:53", 7, 2)]);
    }

    #[test]
    fn outgoing_connections_are_told_by_owner_and_state() {
        let found = summary(&[
            socket(Tcp, "10.0.0.5", 40000, TimeWait, 0),
            socket(Tcp, "10.0.0.5", 40001, Established, 5),
            socket(Tcp, "10.0.0.5", 40002, Established, 5),
            socket(Tcp, "10.0.0.5", 40002, Established, 5),
            socket(Tcp, "10.0.0.5", 40002, Established, 6),
            socket(Udp, "10.0.0.5", 68, Unconnected, 3),
        ]);
        assert_eq!(
            found,
            [
                entry("UNCONN 10.0.0.5:68", 3, 0),
                entry("ESTABLISHED 10.0.0.5:40002", 5, 2),
                entry("ESTABLISHED 10.0.0.5:40001", 5, 1),
                entry("ESTABLISHED 10.0.0.5:40002", 6, 1),
                entry("TIME_WAIT 10.0.0.5:40000", None, 1)
            ]
        );
    }

    #[test]
    fn a_shared_port_is_one_entry_with_an_owner_if_any_has_one() {
        let found = summary(&[
            socket(Tcp, "0.0.0.0", 443, Listen, 0),
            socket(Tcp, "0.0.0.0", 443, Listen, 12),
            socket(Tcp, "0.0.0.0", 443, Listen, 13),
        ]);
        assert_eq!(found, [entry("LISTEN 0.0.0.0:443", 12, 0)]);
    }
}
