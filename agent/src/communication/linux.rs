//! The link on Linux.

mod connect;
mod facts;
mod listener;
mod port;
mod ready;
mod vsock;
mod watch;

pub(super) use connect::{connect_unix, connect_vsock, open_device};
pub use facts::is_port;
pub(super) use facts::{holders, inspect, installed_guest_agent, read_facts};
pub(super) use listener::Listener;
pub(super) use port::{Port, PortIo};
pub(super) use ready::{Readiness, Ready};
pub(super) use watch::Watch;
