//! The sockets of a machine, gathered one by one in bounded memory.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use infini_protocol::metrics::PortProtocol;

use super::{Socket, SocketState};

/// How many listening sockets are kept one by one, and how many others: several times as many as any list may tell of. A server may have
/// half a million connections.
const MOST: usize = 4096;

/// Where a listening socket is reached.
pub type Door = (PortProtocol, u16, IpAddr);

/// Sockets. A connection that came in over a port that is listened on is only counted there; others are kept for their owner's sake.
#[derive(Debug, Default)]
pub struct Sockets {
    listening: Vec<Socket>,
    others: Vec<Socket>,
    doors: HashMap<Door, u32>,
    left_out: usize,
}

impl Sockets {
    /// Forgets all.
    pub fn clear(&mut self) {
        self.listening.clear();
        self.others.clear();
        self.doors.clear();
        self.left_out = 0;
    }

    /// Takes one more. The kernel tells of those that listen first, so that a connection finds the port that it came in over; where it
    /// does not (UDP), [`aggregate`](super::aggregate) finds it.
    pub fn add(&mut self, socket: Socket) {
        if socket.state.is_listening() {
            if keep(&mut self.listening, socket, &mut self.left_out) {
                self.doors.entry((socket.protocol, socket.port, socket.address)).or_default();
            }
        } else if let Some(connections) = self.came_in_over(&socket) {
            *connections += u32::from(socket.state == SocketState::Established);
        } else {
            keep(&mut self.others, socket, &mut self.left_out);
        }
    }

    /// The count of the door that a connection came in over: the one of its own address before the one of any address.
    fn came_in_over(&mut self, connection: &Socket) -> Option<&mut u32> {
        let door = |address| (connection.protocol, connection.port, address);
        let (own, any) = (door(connection.address), door(any_address(connection.address)));
        let door = if self.doors.contains_key(&own) { own } else { any };
        self.doors.get_mut(&door)
    }

    /// Those that anyone may send to.
    pub fn listening(&self) -> impl Iterator<Item = &Socket> {
        self.listening.iter()
    }

    /// Connections that are kept one by one.
    pub fn others(&self) -> impl Iterator<Item = &Socket> {
        self.others.iter()
    }

    /// How many connections were counted for a port that is listened on.
    pub fn connections(&self, door: &Door) -> u32 {
        self.doors.get(door).copied().unwrap_or_default()
    }

    /// How many sockets there were room for no more.
    pub fn left_out(&self) -> usize {
        self.left_out
    }
}

fn keep(sockets: &mut Vec<Socket>, socket: Socket, left_out: &mut usize) -> bool {
    let has_room = sockets.len() < MOST;
    if has_room {
        sockets.push(socket);
    } else {
        *left_out += 1;
    }
    has_room
}

/// The address that stands for all of its family.
pub fn any_address(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(port: u16, state: SocketState) -> Socket {
        Socket { protocol: PortProtocol::Tcp, address: Ipv4Addr::LOCALHOST.into(), port, state, id: u64::from(port) }
    }

    #[test]
    fn however_many_there_are_the_memory_is_bounded_and_all_are_counted() {
        let mut sockets = Sockets::default();
        sockets.add(socket(80, SocketState::Listen));
        for _ in 0..100_000 {
            sockets.add(socket(80, SocketState::Established));
            sockets.add(socket(80, SocketState::TimeWait));
            sockets.add(socket(40_000, SocketState::Established));
        }
        assert_eq!((sockets.listening().count(), sockets.others().count()), (1, MOST));
        assert_eq!(sockets.left_out(), 100_000 - MOST);
        assert_eq!(sockets.connections(&(PortProtocol::Tcp, 80, Ipv4Addr::LOCALHOST.into())), 100_000);
    }

    #[test]
    fn connections_leave_room_for_what_listens_behind_them() {
        let mut sockets = Sockets::default();
        for _ in 0..=MOST {
            sockets.add(socket(40_000, SocketState::Established));
        }
        sockets.add(socket(53, SocketState::Unconnected));
        assert_eq!((sockets.listening().count(), sockets.left_out()), (1, 1));
    }
}
