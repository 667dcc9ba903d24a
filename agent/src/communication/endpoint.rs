//! What the configuration or `--device` may name.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where the host is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A virtio-serial port or a tty (isa-serial, virtconsole), by path.
    Device(PathBuf),
    /// A Unix socket that something else listens on.
    Unix(PathBuf),
    /// A Unix socket that the agent listens on, for one host at a time.
    UnixListen(PathBuf),
    /// A vsock listener: the host is context 2.
    Vsock {
        /// The context.
        cid: u32,
        /// The port.
        port: u32,
    },
}

/// Text that names no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseEndpointError {
    /// Nothing after the colon, or nothing at all.
    #[error("{0:?} names no path: write /dev/..., unix:PATH, unix-listen:PATH or vsock:CID:PORT")]
    NoPath(String),
    /// Not two numbers after `vsock:`.
    #[error("{0:?} is not vsock:CID:PORT, two numbers below 4294967296; the hypervisor's CID is 2")]
    Vsock(String),
}

impl Endpoint {
    /// The path of the device or of the socket; empty for a vsock.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Device(path) | Self::Unix(path) | Self::UnixListen(path) => path.clone(),
            Self::Vsock { .. } => PathBuf::new(),
        }
    }
}

impl FromStr for Endpoint {
    type Err = ParseEndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (make, path): (fn(PathBuf) -> Self, _) = if let Some(address) = text.strip_prefix("vsock:") {
            return parse_vsock(address).ok_or_else(|| ParseEndpointError::Vsock(text.to_owned()));
        } else if let Some(path) = text.strip_prefix("unix-listen:") {
            (Self::UnixListen, path)
        } else if let Some(path) = text.strip_prefix("unix:") {
            (Self::Unix, path)
        } else {
            (Self::Device, text)
        };
        if path.is_empty() {
            return Err(ParseEndpointError::NoPath(text.to_owned()));
        }
        Ok(make(path.into()))
    }
}

fn parse_vsock(address: &str) -> Option<Endpoint> {
    let (cid, port) = address.split_once(':')?;
    Some(Endpoint::Vsock { cid: cid.parse().ok()?, port: port.parse().ok()? })
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => write!(f, "{}", path.display()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::UnixListen(path) => write!(f, "unix-listen:{}", path.display()),
            Self::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        for text in ["/dev/ttyS1", "COM3", "unix:/run/a:b", "unix-listen:s", "vsock:2:1024"] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text, "{endpoint:?}");
        }
    }

    #[test]
    fn refuses_what_names_nothing() {
        for text in ["", "unix:", "unix-listen:", "vsock:", "vsock:2", "vsock:-1:2", "vsock:2:4294967296"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?} was taken");
        }
    }
}
