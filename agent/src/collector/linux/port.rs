//! Ports, from the socket tables of `/proc/net`: those of the network namespace that the agent runs in.

use std::io;
use std::time::Instant;

use infini_protocol::ErrorCode;
use infini_protocol::metrics::{CollectError, PortMetrics, PortProtocol};

use super::Roots;
use super::file::KeptFile;
use super::socket_owner::SocketOwners;
use super::socket_table;
use crate::collector::port::{Sockets, aggregate};
use crate::collector::{CollectFailure, List};

/// Reads ports again and again.
#[derive(Debug)]
pub struct PortReader {
    tables: [(PortProtocol, KeptFile); 4],
    owners: SocketOwners,
    sockets: Sockets,
    errors: Vec<CollectError>,
    buffer: Vec<u8>,
}

impl PortReader {
    /// A reader that has seen nothing yet.
    #[must_use]
    pub fn new(roots: Roots) -> Self {
        let table = |protocol, name| (protocol, KeptFile::new(roots.proc.join("net").join(name)));
        Self {
            tables: [
                table(PortProtocol::Tcp, "tcp"),
                table(PortProtocol::Tcp6, "tcp6"),
                table(PortProtocol::Udp, "udp"),
                table(PortProtocol::Udp6, "udp6"),
            ],
            owners: SocketOwners::new(roots),
            sockets: Sockets::default(),
            errors: Vec::new(),
            buffer: Vec::new(),
        }
    }

    /// Local ports, listening ones first, at most `limit`. On a machine with very many sockets the total counts single ones where there
    /// was no room to put those of one port together.
    ///
    /// # Errors
    /// Where there is no socket table at all.
    pub fn read(&mut self, limit: usize) -> Result<List<PortMetrics>, CollectFailure> {
        self.read_at(Instant::now(), limit)
    }

    /// The same at a given moment, which decides whether owners are looked for.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_at(&mut self, now: Instant, limit: usize) -> Result<List<PortMetrics>, CollectFailure> {
        self.errors = self.read_tables()?;
        Ok(self.go_on(now, limit))
    }

    /// Whether there is more to find out for [`go_on`](Self::go_on).
    pub fn is_unfinished(&self) -> bool {
        self.owners.is_searching()
    }

    /// The sockets of the last reading, with the owners that another share of the work has found.
    pub fn go_on(&mut self, now: Instant, limit: usize) -> List<PortMetrics> {
        let mut errors = self.errors.clone();
        match self.owners.refresh(&self.sockets, now) {
            Ok(()) => errors.extend(hidden_owners(self.owners.hidden())),
            Err(failure) => errors.push(error("ports.owners", ErrorCode::Internal, failure.to_string())),
        }
        let mut entries = aggregate(&self.sockets, |id| self.owners.get(id));
        let total = entries.len() + self.sockets.left_out();
        entries.truncate(limit);
        List { entries, total, errors }
    }

    fn read_tables(&mut self) -> Result<Vec<CollectError>, CollectFailure> {
        self.sockets.clear();
        let mut errors = Vec::new();
        let mut found = 0;
        for (protocol, file) in &mut self.tables {
            let mut lines = 0;
            let told = file.each_line(&mut self.buffer, socket_table::LONGEST_LINE, |line| {
                lines += 1;
                // The first line is a heading.
                if let Some(socket) = socket_table::socket(*protocol, line).filter(|_| lines > 1) {
                    self.sockets.add(socket);
                }
            });
            match told {
                Ok(()) => found += 1,
                // A kernel without IPv6 has no table of it.
                Err(source) if source.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    let failure = CollectFailure::Io { path: file.path().to_owned(), source };
                    errors.push(error("ports.sockets", ErrorCode::Internal, failure.to_string()));
                }
            }
        }
        if found == 0 && errors.is_empty() {
            return Err(CollectFailure::Unsupported("socket tables"));
        }
        Ok(errors)
    }
}

/// Without this hint nobody would know why ports have no process.
fn hidden_owners(hidden: usize) -> Option<CollectError> {
    let message = || format!("{hidden} processes hide which sockets are theirs; run the agent as root to see them");
    (hidden > 0).then(|| error("ports.owners", ErrorCode::PermissionDenied, message()))
}

fn error(component: &str, error_code: ErrorCode, message: String) -> CollectError {
    CollectError { component: component.into(), error_code, message }
}
