//! `--diagnose`: what the agent looks for, what it finds, what is wrong and what to do. Nothing is changed, and no port is opened
//! but the one that is named for this agent, and that only where nobody has it open.

mod findings;
mod host;
#[cfg(target_os = "linux")]
mod linux;

use std::fmt;

use serde::Serialize;

use crate::auth::Trust;
use crate::auth::secret::{Found, SecretError};
use crate::cli::borrow_policy;
use crate::collector::linux::Roots;
use crate::communication::DeviceRoots;
use crate::communication::detect::{Survey, survey_with_holders};
use crate::config::{Auth, Loaded};
use crate::identity::Identity;
use crate::identity::linux::machine_facts;
use findings::{configuration, endpoint_findings, port_findings, secret_finding};

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
            let borrow = borrow_policy(&loaded.config, &trust);
            findings.extend(endpoint_findings(endpoint, &DeviceRoots::default(), borrow, linux::host_attached));
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
