//! Whether somebody is at the host's end of the port.

use std::io;
use std::path::Path;

use super::Finding;
use crate::communication::detect::{Candidate, PortFacts};
use crate::communication::{Holder, LinkError};

/// Opens a port to see whether a host is attached to it.
pub type HostProbe = fn(&Path) -> io::Result<bool>;

/// Looks for a host at the port. Only one that is this agent's by name, and that nobody has, is opened for it; of the others the
/// driver tells, where this process may read debugfs.
pub fn host(chosen: &Candidate, facts: Option<&PortFacts>, probe: HostProbe) -> Finding {
    let holders = facts.map_or(&[][..], |port| port.holders.as_slice());
    if let Some(other) = holders.iter().find(|holder| holder.name != "infiniservice") {
        let error = LinkError::Busy { path: chosen.path.clone(), holders: vec![other.clone()] };
        return Finding::problem("port", error.to_string(), error.advice());
    }
    let agent = holders.first();
    if agent.is_none() && !chosen.borrowed() {
        return match probe(&chosen.path) {
            Ok(attached) => found(attached, None),
            Err(error) => cannot_open(&chosen.path, error),
        };
    }
    match (facts.and_then(|port| port.host_connected), agent) {
        (Some(attached), agent) => found(attached, agent),
        (None, Some(agent)) => Finding::ok(
            "host",
            format!(
                "not known from here: the running agent (pid {}) has the port; systemctl status infiniservice says what it sees",
                agent.pid
            ),
        ),
        (None, None) => {
            let message = "not looked at: opening a port that is not named for this agent could disturb its owner";
            Finding::ok("host", message.to_owned())
        }
    }
}

fn found(attached: bool, agent: Option<&Holder>) -> Finding {
    let who = agent.map(|agent| format!("; the running agent (pid {}) has the port", agent.pid)).unwrap_or_default();
    if attached {
        return Finding::ok("host", format!("attached{who}"));
    }
    Finding::warning(
        "host",
        format!("nobody is attached at the host's side{who}"),
        "Start infinihost (or another client) on the port's socket; the agent notices at once.",
    )
}

fn cannot_open(path: &Path, error: io::Error) -> Finding {
    let error = match error.kind() {
        io::ErrorKind::PermissionDenied => LinkError::PermissionDenied { path: path.to_owned() },
        _ => LinkError::Io { what: path.display().to_string(), source: error },
    };
    Finding::problem("port", error.to_string(), error.advice())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::communication::detect::{PORT_NAME, Rank};
    use crate::diagnose::Level;

    fn unopened(rank: Rank, host_connected: Option<bool>, held: bool) -> Finding {
        let holders = Vec::from_iter(held.then(|| Holder { pid: 77, name: "infiniservice".to_owned() }));
        let facts = PortFacts { path: "/dev/vport1p1".into(), exists: true, host_connected, holders, ..<_>::default() };
        let name = (rank == Rank::Named).then(|| PORT_NAME.to_owned());
        let chosen = Candidate { path: facts.path.clone(), name, rank };
        host(&chosen, Some(&facts), |_| panic!("it must not be opened"))
    }

    #[test]
    fn the_driver_tells_of_the_host_while_the_service_has_the_port() {
        let away = unopened(Rank::Named, Some(false), true);
        assert_eq!((away.level, away.subject), (Level::Warning, "host"), "{away:?}");
        assert!(away.message.contains("nobody is attached") && away.message.contains("pid 77"), "{away:?}");
        assert!(away.advice.is_some(), "{away:?}");
        let there = unopened(Rank::Named, Some(true), true);
        assert_eq!((there.level, there.message.starts_with("attached")), (Level::Ok, true), "{there:?}");
    }

    #[test]
    fn what_cannot_be_seen_is_not_called_well() {
        let unknown = unopened(Rank::Named, None, true);
        assert!(unknown.message.contains("not known from here") && unknown.message.contains("pid 77"), "{unknown:?}");
    }

    #[test]
    fn the_driver_tells_of_a_borrowed_port_too() {
        assert_eq!(unopened(Rank::GuestAgent, Some(false), false).level, Level::Warning);
        assert!(unopened(Rank::GuestAgent, None, false).message.contains("not looked at"));
    }
}
