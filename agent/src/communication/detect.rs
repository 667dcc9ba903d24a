//! Which port is ours: a pure judgement over what the machine has. `--diagnose` prints it, the link follows it.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::{Holder, LinkError};
use super::platform;
pub use super::platform::is_port;

/// The name of the port that hypervisors make for this agent.
pub const PORT_NAME: &str = "org.infinibay.agent";

/// What the QEMU guest agent's ports are called, with a number behind.
const GUEST_AGENT_PREFIX: &str = "org.qemu.guest_agent.";

/// Whether a port that is not named for this agent may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BorrowPolicy {
    /// There is a secret, by which a host can prove that it is ours.
    Allowed,
    /// There is no secret.
    #[default]
    NoSecret,
    /// The configuration forbids it.
    SwitchedOff,
}

/// Where devices are found. Tests put made-up trees here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRoots {
    /// `/dev`.
    pub dev: PathBuf,
    /// `/sys`.
    pub sys: PathBuf,
    /// `/proc`, for who holds a port.
    pub proc: PathBuf,
    /// `/`, for whether the QEMU guest agent is installed.
    pub root: PathBuf,
}

impl Default for DeviceRoots {
    fn default() -> Self {
        Self { dev: "/dev".into(), sys: "/sys".into(), proc: "/proc".into(), root: "/".into() }
    }
}

/// What the machine has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Whether virtio_console is there, loaded or built in.
    pub driver_loaded: bool,
    /// Console devices: on the virtio bus, and those on PCI that no driver has taken.
    pub consoles: Vec<ConsoleDevice>,
    /// Ports, in the order of their numbers.
    pub ports: Vec<PortFacts>,
    /// What shows that the QEMU guest agent is installed.
    pub guest_agent: Option<PathBuf>,
}

/// A device that a console driver serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConsoleDevice {
    /// Its name on its bus, such as `virtio2` or `0000:00:04.0`.
    pub device: String,
    /// The driver that serves it.
    pub driver: Option<String>,
}

/// One virtio-serial port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PortFacts {
    /// Its device node.
    pub path: PathBuf,
    /// Whether the node exists.
    pub exists: bool,
    /// The name that the hypervisor gave it.
    pub name: Option<String>,
    /// Whether the host side is open; known where debugfs is mounted and readable.
    pub host_connected: Option<bool>,
    /// Permission bits, such as `0600`.
    pub mode: Option<String>,
    /// The owner's user id.
    pub owner: Option<u32>,
    /// Who has it open, as far as this process may see it. [`survey`] leaves it empty.
    pub holders: Vec<Holder>,
}

/// How a port was found. The order is that of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rank {
    /// It carries our name.
    Named,
    /// It is meant for the QEMU guest agent.
    GuestAgent,
    /// It has no name and is the first of its device.
    UnnamedFirst,
    /// It has no name.
    Unnamed,
}

/// A port that may be opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Its device node.
    pub path: PathBuf,
    /// Its name.
    pub name: Option<String>,
    /// How it was found.
    pub rank: Rank,
}

impl Candidate {
    /// Whether it belongs to somebody else: the agent is silent on it until the host has proved itself.
    #[must_use]
    pub fn borrowed(&self) -> bool {
        self.rank != Rank::Named
    }
}

/// A port that must not be opened.
#[derive(Debug, Serialize)]
pub struct Rejected {
    /// Its device node.
    pub path: PathBuf,
    /// Its name.
    pub name: Option<String>,
    /// Why not.
    pub reason: LinkError,
}

/// What the machine has and what follows from it.
#[derive(Debug, Serialize)]
pub struct Survey {
    /// What the machine has.
    #[serde(flatten)]
    pub facts: Facts,
    /// Whether borrowing was allowed.
    pub borrow: BorrowPolicy,
    /// Ports that may be opened, the best first.
    pub candidates: Vec<Candidate>,
    /// Ports that must not be opened.
    pub rejected: Vec<Rejected>,
}

/// Looks at the machine without opening any port.
#[must_use]
pub fn survey(roots: &DeviceRoots, policy: BorrowPolicy) -> Survey {
    judge(platform::read_facts(roots), policy)
}

/// The same, and who has which port open, which reads every process's descriptors.
#[must_use]
pub fn survey_with_holders(roots: &DeviceRoots, policy: BorrowPolicy) -> Survey {
    let mut facts = platform::read_facts(roots);
    for port in &mut facts.ports {
        port.holders = platform::holders(roots, &port.path);
    }
    judge(facts, policy)
}

/// What can be said about one device that the configuration names, without opening it.
#[must_use]
pub fn inspect(roots: &DeviceRoots, path: &Path) -> PortFacts {
    platform::inspect(roots, path)
}

/// The same rules for a device that the configuration names: nobody is robbed of a port by a setting. What is no virtio-serial port, or one
/// without a name, is ours because the administrator says so. Gives the port's name and how it ranks.
///
/// # Errors
/// Where the port is somebody else's, or may not be borrowed.
pub fn judge_configured(
    roots: &DeviceRoots,
    path: &Path,
    policy: BorrowPolicy,
) -> Result<(Option<String>, Rank), LinkError> {
    let port = inspect(roots, path);
    if port.name.is_none() {
        return Ok((None, Rank::Named));
    }
    let facts = Facts { guest_agent: platform::installed_guest_agent(roots), ..Facts::default() };
    judge_port(&port, &facts, policy).map(|rank| (port.name, rank))
}

/// The rules, over facts alone.
#[must_use]
pub fn judge(facts: Facts, policy: BorrowPolicy) -> Survey {
    let (mut candidates, mut rejected) = (Vec::new(), Vec::new());
    for port in &facts.ports {
        match judge_port(port, &facts, policy) {
            Ok(rank) => candidates.push(Candidate { path: port.path.clone(), name: port.name.clone(), rank }),
            Err(reason) => rejected.push(Rejected { path: port.path.clone(), name: port.name.clone(), reason }),
        }
    }
    candidates.sort_by_key(|candidate| candidate.rank);
    // A port of our own that is busy or forbidden is a fault to be seen, not a reason to take somebody else's.
    if candidates.first().is_some_and(|best| !best.borrowed()) {
        candidates.retain(|candidate| !candidate.borrowed());
    }
    Survey { facts, borrow: policy, candidates, rejected }
}

fn judge_port(port: &PortFacts, facts: &Facts, policy: BorrowPolicy) -> Result<Rank, LinkError> {
    let path = port.path.clone();
    let rank = match port.name.as_deref() {
        Some(PORT_NAME) => Rank::Named,
        Some(name) if name.starts_with(GUEST_AGENT_PREFIX) => Rank::GuestAgent,
        Some(name) => return Err(LinkError::BelongsToOther { path, name: name.to_owned() }),
        None if path.to_string_lossy().ends_with("p1") => Rank::UnnamedFirst,
        None => Rank::Unnamed,
    };
    if !port.exists {
        return Err(LinkError::NotFound { what: path.display().to_string() });
    }
    if rank == Rank::Named {
        return Ok(rank);
    }
    if let (Rank::GuestAgent, Some(installed)) = (rank, &facts.guest_agent) {
        return Err(LinkError::GuestAgentInstalled { path, installed: installed.clone() });
    }
    match policy {
        BorrowPolicy::Allowed => Ok(rank),
        BorrowPolicy::NoSecret => Err(LinkError::BorrowNeedsSecret { path }),
        BorrowPolicy::SwitchedOff => Err(LinkError::BorrowSwitchedOff { path }),
    }
}

impl Survey {
    /// The port that the link opens first.
    #[must_use]
    pub fn chosen(&self) -> Option<&Candidate> {
        self.candidates.first()
    }

    /// Why there is no candidate: the reason that a person can do most about.
    #[must_use]
    pub fn why_none(&self) -> LinkError {
        let reasons = self.facts.ports.iter().filter_map(|port| judge_port(port, &self.facts, self.borrow).err());
        // That others have ports of their own says nothing about ours.
        let ours = reasons.filter(|reason| !matches!(reason, LinkError::BelongsToOther { .. }));
        let first = ours.min_by_key(|reason| match reason {
            LinkError::BorrowNeedsSecret { .. } | LinkError::BorrowSwitchedOff { .. } => 0,
            LinkError::GuestAgentInstalled { .. } => 1,
            _ => 2,
        });
        if let Some(reason) = first {
            return reason;
        }
        if self.facts.consoles.iter().any(|console| console.driver.is_none()) {
            return LinkError::DriverMissing;
        }
        LinkError::NotFound { what: format!("a virtio-serial port named {PORT_NAME}") }
    }
}

#[cfg(test)]
mod tests;
