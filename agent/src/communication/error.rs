//! Why there is no link, for programs (a code, a stable word) and for people (a sentence, and what to do).

use std::io;
use std::path::PathBuf;

use infini_protocol::ErrorCode;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// A process that has a file open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// Its name, from `/proc/PID/comm`.
    pub name: String,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is no port that could be ours, or what the configuration names is not there.
    #[error("{what} does not exist")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// The machine has a virtio console, and no driver serves it.
    #[error("the driver virtio_console is not loaded, and the machine has a device for it")]
    DriverMissing,
    /// Somebody else has it open.
    #[error("{} is in use{}", path.display(), by(holders))]
    Busy {
        /// What was opened.
        path: PathBuf,
        /// By whom, as far as it can be seen.
        holders: Vec<Holder>,
    },
    /// The system does not let this process open it.
    #[error("this process may not open {}", path.display())]
    PermissionDenied {
        /// What was opened.
        path: PathBuf,
    },
    /// What the configuration names is no device.
    #[error("{} is neither a virtio-serial port nor a tty", path.display())]
    NotADevice {
        /// What was opened.
        path: PathBuf,
    },
    /// All ports carry other services' names.
    #[error("{} belongs to {name}", path.display())]
    BelongsToOther {
        /// The port.
        path: PathBuf,
        /// The service's name on it.
        name: String,
    },
    /// The only port is the QEMU guest agent's, and that one is installed.
    #[error("{} is the QEMU guest agent's, which is installed here ({})", path.display(), installed.display())]
    GuestAgentInstalled {
        /// The port.
        path: PathBuf,
        /// What shows that it is installed.
        installed: PathBuf,
    },
    /// The only port is not named for this agent, and without a secret the host cannot prove that it is ours.
    #[error("{} is not named for this agent, and borrowing it needs a shared secret", path.display())]
    BorrowNeedsSecret {
        /// The port.
        path: PathBuf,
    },
    /// The only port is not named for this agent, and the configuration forbids borrowing.
    #[error("{} is not named for this agent, and borrowing is switched off", path.display())]
    BorrowSwitchedOff {
        /// The port.
        path: PathBuf,
    },
    /// A borrowed port brought no line with a good signature in time.
    #[error("nobody on {} proved to be our host", path.display())]
    Silent {
        /// The port.
        path: PathBuf,
    },
    /// A borrowed port was given back because the one named for this agent appeared.
    #[error("the port named for this agent appeared; {} is given back", path.display())]
    NamedPortAppeared {
        /// The borrowed port.
        path: PathBuf,
    },
    /// The device vanished, or the file of the socket that the agent listens on.
    #[error("{} is gone", path.display())]
    Gone {
        /// The device or the socket.
        path: PathBuf,
    },
    /// The other side of a socket closed it.
    #[error("the host closed {endpoint}")]
    HostClosed {
        /// The socket.
        endpoint: String,
    },
    /// Nobody listens on the socket.
    #[error("nobody listens on {endpoint}")]
    Refused {
        /// The socket.
        endpoint: String,
    },
    /// Anything else.
    #[error("{what}: {source}")]
    Io {
        /// What was done to what.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

fn by(holders: &[Holder]) -> String {
    if holders.is_empty() {
        return String::new();
    }
    let list: Vec<_> = holders.iter().map(|holder| format!("{} (pid {})", holder.name, holder.pid)).collect();
    format!(" by {}", list.join(", "))
}

impl LinkError {
    /// The code of the wire.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound { .. } | Self::DriverMissing | Self::Gone { .. } => ErrorCode::DeviceNotFound,
            Self::PermissionDenied { .. } => ErrorCode::PermissionDenied,
            _ => ErrorCode::ConnectionFailed,
        }
    }

    /// The word that `error_report` carries as `error_type`.
    #[must_use]
    pub const fn error_type(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "DEVICE_NOT_FOUND",
            Self::DriverMissing => "DRIVER_MISSING",
            Self::Busy { .. } => "DEVICE_BUSY",
            Self::PermissionDenied { .. } => "PERMISSION_DENIED",
            Self::NotADevice { .. } => "NOT_A_DEVICE",
            Self::BelongsToOther { .. } => "PORT_BELONGS_TO_OTHER",
            Self::GuestAgentInstalled { .. } => "GUEST_AGENT_INSTALLED",
            Self::BorrowNeedsSecret { .. } => "BORROW_NEEDS_SECRET",
            Self::BorrowSwitchedOff { .. } => "BORROW_SWITCHED_OFF",
            Self::Silent { .. } => "HOST_SILENT",
            Self::NamedPortAppeared { .. } => "NAMED_PORT_APPEARED",
            Self::Gone { .. } => "DEVICE_GONE",
            Self::HostClosed { .. } => "BROKEN_PIPE",
            Self::Refused { .. } => "CONNECTION_REFUSED",
            Self::Io { .. } => "IO_ERROR",
        }
    }

    /// What a person does next.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => {
                "Give the machine a virtio-serial port named org.infinibay.agent, or name an existing device with --device."
            }
            Self::DriverMissing => "Load the driver: modprobe virtio_console.",
            Self::Busy { .. } => "Stop the process that holds the port; only one can have it open.",
            Self::PermissionDenied { .. } => "Run the agent as root, or let a udev rule give its user the port.",
            Self::NotADevice { .. } => {
                "Name a device below /dev; for a socket write unix:PATH, or unix-listen:PATH to listen on one."
            }
            Self::BelongsToOther { .. } => "Add a second virtio-serial port with the name org.infinibay.agent.",
            Self::GuestAgentInstalled { .. } => {
                "Add a virtio-serial port named org.infinibay.agent, or remove the QEMU guest agent."
            }
            Self::BorrowNeedsSecret { .. } => {
                "Add a virtio-serial port named org.infinibay.agent, or configure the shared secret."
            }
            Self::BorrowSwitchedOff { .. } => {
                "Add a virtio-serial port named org.infinibay.agent, or allow communication.borrow."
            }
            Self::Silent { .. } => {
                "Check that the host uses this port and the same secret; the agent tries the port again in 10 minutes."
            }
            Self::NamedPortAppeared { .. } => "Nothing: the agent moves to its own port by itself.",
            Self::Gone { .. } => {
                "Nothing if the port was unplugged on purpose; the agent takes it again when it is back, and makes its own socket anew."
            }
            Self::HostClosed { .. } => "Nothing: the agent connects again by itself.",
            Self::Refused { .. } => "Start the host side that listens on this socket.",
            Self::Io { .. } => "Look at the system's message; infiniservice --diagnose says more about the ports.",
        }
    }
}

impl Serialize for LinkError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("LinkError", 4)?;
        fields.serialize_field("code", &self.code())?;
        fields.serialize_field("error_type", self.error_type())?;
        fields.serialize_field("message", &self.to_string())?;
        fields.serialize_field("advice", self.advice())?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_names_its_holders() {
        let holders = vec![Holder { pid: 7, name: "qemu-ga".into() }, Holder { pid: 9, name: "cat".into() }];
        let busy = |holders| LinkError::Busy { path: "/dev/vport0p1".into(), holders }.to_string();
        assert_eq!(busy(holders), "/dev/vport0p1 is in use by qemu-ga (pid 7), cat (pid 9)");
        assert_eq!(busy(Vec::new()), "/dev/vport0p1 is in use");
    }
}
