//! `--diagnose`: what the agent looks for, what it finds, what is wrong and what to do. Nothing is changed, and no port is opened
//! but the one that is named for this agent, and that only where nobody has it open.

#[cfg(target_os = "linux")]
mod linux;

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::auth::Trust;
use crate::auth::secret::{Found, SecretError};
use crate::cli::borrow_policy;
use crate::collector::linux::Roots;
use crate::communication::detect::{Candidate, PORT_NAME, PortFacts, Rank, Survey, inspect, survey_with_holders};
use crate::communication::{DeviceRoots, Endpoint, LinkError};
use crate::config::{Auth, Loaded};
use crate::identity::Identity;
use crate::identity::linux::machine_facts;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// The agent works, but not in full.
    Warning,
    /// The agent cannot work.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// What was looked at: `configuration`, `identity`, `secret`, `driver`, `port`, `host`.
    pub subject: &'static str,
    /// What was found.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// Everything that was looked at.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether the agent can work.
    pub healthy: bool,
    /// The agent's version.
    pub version: &'static str,
    /// What was found.
    pub findings: Vec<Finding>,
    /// The ports and the judgement on each; absent where the configuration names another way to the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Survey>,
}

/// Looks at everything.
#[must_use]
pub fn examine(loaded: &Loaded, secret: &Result<Option<Found>, SecretError>, roots: &Roots) -> Report {
    let trust = trust(loaded, secret);
    let mut findings = configuration(loaded);
    let identity = Identity::new(loaded.config.vm_id.as_deref(), machine_facts(roots));
    findings.push(Finding::ok("identity", format!("vm_id is {} (from {})", identity.vm_id, identity.vm_id_origin)));
    findings.push(secret_finding(loaded, secret));
    let ports = match &loaded.config.communication.device {
        Some(endpoint) => {
            findings.extend(endpoint_findings(endpoint, &DeviceRoots::default(), linux::host_attached));
            None
        }
        None => {
            let survey = survey_with_holders(&DeviceRoots::default(), borrow_policy(&loaded.config, &trust));
            findings.extend(port_findings(&survey, linux::host_attached));
            Some(survey)
        }
    };
    let healthy = findings.iter().all(|finding| finding.level != Level::Problem);
    Report { healthy, version: env!("CARGO_PKG_VERSION"), findings, ports }
}

impl Report {
    /// Whether the agent can work.
    #[must_use]
    pub const fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// The report for programs, as one object.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}")) + "\n"
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "infiniservice {}", self.version)?;
        for finding in &self.findings {
            let mark = match finding.level {
                Level::Ok => "ok     ",
                Level::Warning => "warning",
                Level::Problem => "PROBLEM",
            };
            writeln!(f, "  {mark}  {:<13} {}", finding.subject, finding.message)?;
            if let Some(advice) = &finding.advice {
                writeln!(f, "           {:<13} -> {advice}", "")?;
            }
        }
        if let Some(survey) = &self.ports {
            write_ports(f, survey)?;
        }
        let verdict =
            if self.healthy { "The agent can work." } else { "The agent cannot work until the problems are solved." };
        writeln!(f, "{verdict}")
    }
}

fn write_ports(f: &mut fmt::Formatter<'_>, survey: &Survey) -> fmt::Result {
    if survey.facts.ports.is_empty() {
        return Ok(());
    }
    writeln!(f, "  ports")?;
    for port in &survey.facts.ports {
        let name = port.name.as_deref().unwrap_or("(no name)");
        let judgement = match survey.rejected.iter().find(|rejected| rejected.path == port.path) {
            Some(rejected) => format!("not used: {}", rejected.reason),
            None if survey.chosen().is_some_and(|chosen| chosen.path == port.path) => "used".to_owned(),
            None => "next choice".to_owned(),
        };
        writeln!(f, "           {} {name}: {judgement}", port.path.display())?;
    }
    Ok(())
}

impl Finding {
    fn ok(subject: &'static str, message: String) -> Self {
        Self { level: Level::Ok, subject, message, advice: None }
    }

    fn warning(subject: &'static str, message: String, advice: impl Into<String>) -> Self {
        Self { level: Level::Warning, subject, message, advice: Some(advice.into()) }
    }

    fn problem(subject: &'static str, message: String, advice: impl Into<String>) -> Self {
        Self { level: Level::Problem, subject, message, advice: Some(advice.into()) }
    }
}

fn trust(loaded: &Loaded, secret: &Result<Option<Found>, SecretError>) -> Trust {
    match (loaded.config.auth, secret) {
        (Auth::None, _) => Trust::Everyone,
        (Auth::Secret, Ok(Some(found))) => Trust::Secret(found.key.clone()),
        (Auth::Secret, _) => Trust::Locked,
    }
}

fn configuration(loaded: &Loaded) -> Vec<Finding> {
    let mut findings = vec![match &loaded.file {
        Some(path) => Finding::ok("configuration", format!("read from {}", path.display())),
        None => Finding::ok("configuration", "there is no file; the defaults are used".to_owned()),
    }];
    let advice = "Correct or remove the line; infiniservice --print-config shows what counts.";
    findings.extend(loaded.warnings.iter().map(|warning| Finding::warning("configuration", warning.clone(), advice)));
    findings
}

fn secret_finding(loaded: &Loaded, secret: &Result<Option<Found>, SecretError>) -> Finding {
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

fn endpoint_findings(endpoint: &Endpoint, roots: &DeviceRoots, host_attached: HostProbe) -> Vec<Finding> {
    let as_configured = || Finding::ok("port", format!("{endpoint}, as configured"));
    match endpoint {
        Endpoint::Device(path) => device_findings(path, roots, host_attached),
        Endpoint::Unix(path) if !path.exists() => vec![missing(path)],
        Endpoint::Unix(_) | Endpoint::UnixListen(_) | Endpoint::Vsock { .. } => vec![as_configured()],
    }
}

fn missing(path: &Path) -> Finding {
    let error = LinkError::NotFound { what: path.display().to_string() };
    Finding::problem("port", error.to_string(), "Correct communication.device or --device, or make the port appear.")
}

/// A device that the configuration names. It is opened only where it is this agent's by name and nobody has it.
fn device_findings(path: &Path, roots: &DeviceRoots, host_attached: HostProbe) -> Vec<Finding> {
    let facts = inspect(roots, path);
    if !facts.exists {
        return vec![missing(path)];
    }
    if let Some(error) = linux::why_not_opened(path) {
        return vec![Finding::problem("port", error.to_string(), error.advice())];
    }
    let rank = if facts.name.as_deref() == Some(PORT_NAME) { Rank::Named } else { Rank::Unnamed };
    let chosen = Candidate { path: path.to_owned(), name: facts.name.clone(), rank };
    let name = facts.name.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
    let port = match &facts.name {
        Some(other) if rank != Rank::Named => {
            let error = LinkError::BelongsToOther { path: path.to_owned(), name: other.clone() };
            Finding::warning("port", format!("as configured, but {error}"), error.advice())
        }
        _ => Finding::ok("port", format!("{}{name}, as configured", path.display())),
    };
    vec![port, host(&chosen, Some(&facts), host_attached)]
}

type HostProbe = fn(&Path) -> std::io::Result<bool>;

fn port_findings(survey: &Survey, host_attached: HostProbe) -> Vec<Finding> {
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
    if let Some(agent) = holders.first() {
        return Finding::ok("host", format!("the running agent (pid {}) has the port", agent.pid));
    }
    if chosen.borrowed() {
        let message = "not looked at: opening a port that is not named for this agent could disturb its owner";
        return Finding::ok("host", message.to_owned());
    }
    match host_attached(&chosen.path) {
        Ok(true) => Finding::ok("host", "attached".to_owned()),
        Ok(false) => Finding::warning(
            "host",
            "nobody is attached at the host's side".to_owned(),
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
    fn configured(path: &Path, holder: Option<&str>) -> Vec<Finding> {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        if let Some(name) = holder {
            std::fs::create_dir_all(at("proc/77/fd")).unwrap();
            std::fs::write(at("proc/77/comm"), name).unwrap();
            std::os::unix::fs::symlink(path, at("proc/77/fd/3")).unwrap();
        }
        let roots = DeviceRoots { dev: at("dev"), sys: at("sys"), proc: at("proc"), root: at("") };
        endpoint_findings(&Endpoint::Device(path.to_owned()), &roots, |_| panic!("it must not be opened"))
    }

    #[test]
    fn a_configured_device_is_looked_at_like_any_other() {
        let findings = configured(Path::new("/dev/null"), Some("minicom"));
        let busy = findings.iter().find(|finding| finding.level == Level::Problem);
        assert!(busy.is_some_and(|finding| finding.message.contains("minicom (pid 77)")), "{findings:?}");

        let findings = configured(Path::new("/dev/null"), Some("infiniservice"));
        assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:?}");

        let findings = configured(Path::new("/proc/version"), None);
        assert!(findings[0].message.contains("neither a virtio-serial port nor a tty"), "{findings:?}");
        assert_eq!(findings[0].level, Level::Problem);
    }

    #[test]
    fn a_borrowed_port_is_never_opened() {
        let port = PortFacts { name: None, ..named_port() };
        let finding = worst(facts(vec![port]), |_| panic!("it must not be opened"));
        assert_eq!((finding.level, finding.subject), (Level::Warning, "port"), "{finding:?}");
    }
}
