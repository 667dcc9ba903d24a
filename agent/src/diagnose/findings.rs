//! What is found in each place, and what to do about it.

use std::path::Path;

use super::{Finding, linux};
use crate::auth::secret::{Found, SecretError};
use crate::communication::detect::{Candidate, PortFacts, Rank, Survey, inspect, judge_configured};
use crate::communication::{BorrowPolicy, DeviceRoots, Endpoint, LinkError};
use crate::config::{Auth, Loaded};

/// Where the configuration came from and what in it makes no sense.
pub fn configuration(loaded: &Loaded) -> Vec<Finding> {
    let mut findings = vec![match &loaded.file {
        Some(path) => Finding::ok("configuration", format!("read from {}", path.display())),
        None => Finding::ok("configuration", "there is no file; the defaults are used".to_owned()),
    }];
    let advice = "Correct or remove the line; infiniservice --print-config shows what counts.";
    findings.extend(loaded.warnings.iter().map(|warning| Finding::warning("configuration", warning.clone(), advice)));
    findings
}

/// Whether the host can be believed.
pub fn secret_finding(loaded: &Loaded, secret: &Result<Option<Found>, SecretError>) -> Finding {
    if loaded.config.auth == Auth::None {
        let advice = "Remove auth = \"none\" and provision a secret unless this machine is for development.";
        return Finding::warning("secret", "auth is \"none\": whoever reaches the port is believed".to_owned(), advice);
    }
    match secret {
        Ok(Some(found)) => Finding::ok("secret", format!("found in {}", found.origin)),
        Ok(None) => Finding::warning(
            "secret",
            "there is none: samples are sent, nothing is taken from the host".to_owned(),
            format!(
                "Write the secret that the host has for this machine to {} (mode 0600).",
                loaded.config.secret_file.display()
            ),
        ),
        Err(error) => Finding::warning(
            "secret",
            error.to_string(),
            "Until this is mended samples are sent and nothing is taken from the host.",
        ),
    }
}

/// The way to the host that the configuration names.
pub fn endpoint_findings(
    endpoint: &Endpoint,
    roots: &DeviceRoots,
    borrow: BorrowPolicy,
    host_attached: HostProbe,
) -> Vec<Finding> {
    let as_configured = || Finding::ok("port", format!("{endpoint}, as configured"));
    match endpoint {
        Endpoint::Device(path) => device_findings(path, roots, borrow, host_attached),
        Endpoint::Unix(path) if !path.exists() => vec![missing(path)],
        Endpoint::Unix(_) | Endpoint::UnixListen(_) | Endpoint::Vsock { .. } => vec![as_configured()],
    }
}

fn missing(path: &Path) -> Finding {
    let error = LinkError::NotFound { what: path.display().to_string() };
    Finding::problem("port", error.to_string(), "Correct communication.device or --device, or make the port appear.")
}

/// A device that the configuration names. It is opened only where it is this agent's by name and nobody has it.
fn device_findings(path: &Path, roots: &DeviceRoots, borrow: BorrowPolicy, host_attached: HostProbe) -> Vec<Finding> {
    let facts = inspect(roots, path);
    if !facts.exists {
        return vec![missing(path)];
    }
    let judged = match linux::why_not_opened(path, roots) {
        Some(error) => Err(error),
        None => judge_configured(roots, path, borrow),
    };
    let (name, rank) = match judged {
        Ok(judged) => judged,
        Err(error) => return vec![Finding::problem("port", error.to_string(), error.advice())],
    };
    let told = name.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
    let port = Finding::ok("port", format!("{}{told}, as configured", path.display()));
    // Opened to see whether a host is there only where it is this agent's by name.
    let rank = if name.is_some() { rank } else { Rank::Unnamed };
    let chosen = Candidate { path: path.to_owned(), name, rank };
    vec![port, host(&chosen, Some(&facts), host_attached)]
}

/// Whether a host is attached to the port.
pub type HostProbe = fn(&Path) -> std::io::Result<bool>;

/// The driver, the port that was found, and whether somebody is at its other end.
pub fn port_findings(survey: &Survey, host_attached: HostProbe) -> Vec<Finding> {
    let mut findings = vec![driver(survey)];
    let Some(chosen) = survey.chosen() else {
        let error = survey.why_none();
        findings.push(Finding::problem("port", error.to_string(), error.advice()));
        return findings;
    };
    let facts = survey.facts.ports.iter().find(|port| port.path == chosen.path);
    findings.push(port(chosen));
    findings.push(host(chosen, facts, host_attached));
    findings
}

fn driver(survey: &Survey) -> Finding {
    let facts = &survey.facts;
    if facts.driver_loaded {
        return Finding::ok("driver", format!("virtio_console is loaded, {} console devices", facts.consoles.len()));
    }
    let error = LinkError::DriverMissing;
    if facts.consoles.is_empty() {
        let message = "virtio_console is not loaded, and this machine has no virtio-serial device".to_owned();
        return Finding::warning(
            "driver",
            message,
            "Give the machine a virtio-serial controller; see docs/install.md.",
        );
    }
    Finding::problem("driver", error.to_string(), error.advice())
}

fn port(chosen: &Candidate) -> Finding {
    let name = chosen.name.as_deref().unwrap_or("no name");
    let message = format!("{} ({name})", chosen.path.display());
    if chosen.borrowed() {
        let advice =
            "The agent is silent on it until the host proves itself; better add a port named org.infinibay.agent.";
        return Finding::warning("port", format!("{message} is not named for this agent and is borrowed"), advice);
    }
    Finding::ok("port", message)
}

fn host(chosen: &Candidate, facts: Option<&PortFacts>, host_attached: HostProbe) -> Finding {
    let holders = facts.map_or(&[][..], |port| port.holders.as_slice());
    if let Some(other) = holders.iter().find(|holder| holder.name != "infiniservice") {
        let error = LinkError::Busy { path: chosen.path.clone(), holders: vec![other.clone()] };
        return Finding::problem("port", error.to_string(), error.advice());
    }
    let agent = holders.first().map(|agent| format!("; the running agent (pid {}) has the port", agent.pid));
    let attached = match (facts.and_then(|port| port.host_connected), &agent) {
        // The driver says it without the port being opened, and is right also while the agent has it.
        (Some(attached), _) => Ok(attached),
        (None, Some(agent)) => {
            let unknown = "whether somebody is attached is not known from here, where debugfs is not readable";
            return Finding::ok("host", format!("{unknown}{agent}"));
        }
        (None, None) if chosen.borrowed() => {
            let message = "not looked at: opening a port that is not named for this agent could disturb its owner";
            return Finding::ok("host", message.to_owned());
        }
        (None, None) => host_attached(&chosen.path),
    };
    match attached {
        Ok(true) => Finding::ok("host", format!("attached{}", agent.unwrap_or_default())),
        Ok(false) => Finding::warning(
            "host",
            format!("nobody is attached at the host's side{}", agent.unwrap_or_default()),
            "Start infinihost (or another client) on the port's socket; the agent notices at once.",
        ),
        Err(error) => {
            let what = if error.kind() == std::io::ErrorKind::PermissionDenied {
                LinkError::PermissionDenied { path: chosen.path.clone() }
            } else {
                LinkError::Io { what: chosen.path.display().to_string(), source: error }
            };
            Finding::problem("port", what.to_string(), what.advice())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::communication::BorrowPolicy;
    use crate::communication::Holder;
    use crate::communication::detect::{Facts, judge};
    use crate::diagnose::Level;

    fn facts(ports: Vec<PortFacts>) -> Facts {
        Facts { driver_loaded: true, ports, ..Facts::default() }
    }

    fn named_port() -> PortFacts {
        PortFacts {
            path: "/dev/vport1p1".into(),
            exists: true,
            name: Some("org.infinibay.agent".to_owned()),
            ..PortFacts::default()
        }
    }

    fn worst(facts: Facts, probe: HostProbe) -> Finding {
        let survey = judge(facts, BorrowPolicy::Allowed);
        let mut findings = port_findings(&survey, probe);
        findings.sort_by_key(|finding| finding.level);
        findings.pop().unwrap()
    }

    #[test]
    fn a_port_with_a_host_is_all_well() {
        assert_eq!(worst(facts(vec![named_port()]), |_| Ok(true)).level, Level::Ok);
    }

    #[test]
    fn a_host_that_is_away_is_said() {
        let finding = worst(facts(vec![named_port()]), |_| Ok(false));
        assert_eq!((finding.level, finding.subject), (Level::Warning, "host"), "{finding:?}");
    }

    #[test]
    fn a_busy_port_names_who_has_it() {
        let holders = vec![Holder { pid: 77, name: "minicom".to_owned() }];
        let finding = worst(facts(vec![PortFacts { holders, ..named_port() }]), |_| panic!("it must not be opened"));
        assert_eq!(finding.level, Level::Problem);
        assert!(finding.message.contains("minicom (pid 77)"), "{finding:?}");
    }

    #[test]
    fn the_driver_knows_of_the_host_while_the_agent_has_the_port() {
        let said = |host_connected| {
            let holders = vec![Holder { pid: 77, name: "infiniservice".to_owned() }];
            let port = PortFacts { holders, host_connected, ..named_port() };
            let survey = judge(facts(vec![port]), BorrowPolicy::Allowed);
            let mut findings = port_findings(&survey, |_| panic!("it must not be opened"));
            findings.retain(|finding| finding.subject == "host");
            findings.pop().map(|finding| (finding.level, finding.message)).unwrap()
        };
        for (host_connected, level, words) in [
            (Some(true), Level::Ok, "attached; the running agent (pid 77)"),
            (Some(false), Level::Warning, "nobody is attached at the host's side; the running agent (pid 77)"),
            (None, Level::Ok, "not known from here"),
        ] {
            let (told, message) = said(host_connected);
            assert!(told == level && message.contains(words), "{host_connected:?}: {told:?} {message}");
        }
    }

    #[test]
    fn a_port_that_this_user_may_not_open_is_said() {
        let finding = worst(facts(vec![named_port()]), |_| Err(io::ErrorKind::PermissionDenied.into()));
        assert_eq!(finding.level, Level::Problem);
        assert!(finding.message.contains("may not open"), "{finding:?}");
    }

    #[test]
    fn no_port_and_no_driver_are_told_apart() {
        let finding = worst(facts(vec![]), |_| Ok(true));
        assert!(finding.message.contains("org.infinibay.agent does not exist"), "{finding:?}");

        let consoles =
            vec![crate::communication::detect::ConsoleDevice { device: "0000:00:04.0".to_owned(), driver: None }];
        let finding = worst(Facts { consoles, ..Facts::default() }, |_| Ok(true));
        assert!(finding.message.contains("virtio_console"), "{finding:?}");
    }

    /// What is said of a device that the configuration names, when a process has it open.
    fn configured(path: &Path, is_port: bool, holder: Option<&str>) -> Vec<Finding> {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        if let Some(name) = holder {
            std::fs::create_dir_all(at("proc/77/fd")).unwrap();
            std::fs::write(at("proc/77/comm"), name).unwrap();
            std::os::unix::fs::symlink(path, at("proc/77/fd/3")).unwrap();
        }
        if let Some(port) = path.file_name().filter(|_| is_port) {
            std::fs::create_dir_all(at("sys/class/virtio-ports").join(port)).unwrap();
        }
        let roots = DeviceRoots { dev: at("dev"), sys: at("sys"), proc: at("proc"), root: at("") };
        let endpoint = Endpoint::Device(path.to_owned());
        endpoint_findings(&endpoint, &roots, BorrowPolicy::NoSecret, |_| panic!("it must not be opened"))
    }

    #[test]
    fn a_configured_device_is_looked_at_like_any_other() {
        let findings = configured(Path::new("/dev/null"), true, Some("minicom"));
        let busy = findings.iter().find(|finding| finding.level == Level::Problem);
        assert!(busy.is_some_and(|finding| finding.message.contains("minicom (pid 77)")), "{findings:?}");

        let findings = configured(Path::new("/dev/null"), true, Some("infiniservice"));
        assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:?}");

        for nothing in ["/proc/version", "/dev/null"] {
            let findings = configured(Path::new(nothing), false, Some("bash"));
            assert!(findings[0].message.contains("neither a virtio-serial port nor a tty"), "{findings:?}");
            assert_eq!((findings.len(), findings[0].level), (1, Level::Problem));
        }
    }

    #[test]
    fn a_borrowed_port_is_never_opened() {
        let port = PortFacts { name: None, ..named_port() };
        let finding = worst(facts(vec![port]), |_| panic!("it must not be opened"));
        assert_eq!((finding.level, finding.subject), (Level::Warning, "port"), "{finding:?}");
        let port = PortFacts { name: None, host_connected: Some(false), ..named_port() };
        let finding = worst(facts(vec![port]), |_| panic!("it must not be opened"));
        assert!(finding.message.contains("nobody is attached"), "the driver knows all the same: {finding:?}");
    }
}
