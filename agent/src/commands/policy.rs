//! Decides which command may run: pure, from the configuration and the command alone.
//!
//! In this order: who is believed at all, what a rule denies, what is protected, what is permitted; what nothing permits is denied.
//! Every answer names the rule that it comes from as it stands in the configuration.

pub mod explain;
pub mod glob;
mod judge;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as platform;
mod names;
mod permissions;
mod raw;
mod raw_rule;
mod request;
mod rule;
pub mod table;
#[cfg(test)]
mod tests;
mod wire;
pub mod words;

use infini_protocol::ErrorCode;

use super::action::Kind;
use super::outcome::CommandError;
use crate::auth::Trust;
pub use glob::Glob;
pub use judge::Judge;
pub use names::{Listed, Patterns};
pub use permissions::{InvalidPermissions, Permissions, Raw};
pub use platform::process_facts;
pub use raw_rule::{AbsolutePath, Pattern, RawRule, ScriptRule, Sha256Hex};
pub use request::{AGENT_USER, ProcessFacts, RAW_COMMAND, RawCommand, RawScript, Request, SCRIPT, Setting, Subject};
pub use rule::Rule;
pub use wire::NO_ADMIN;

/// The agent's own service, and the package that it comes in.
const AGENT: &str = "infiniservice";

/// How the units begin in which packages are changed.
pub const CHANGES_OF_PACKAGES: &str = "infiniservice-packages-";

/// The key that adds to the agent's own service.
const PROTECTED_SERVICES: &str = "protected_services";

/// The key that adds to the agent's own package.
const PROTECTED_PACKAGES: &str = "protected_packages";

/// The only action that takes a package away; the agent may well be replaced by another version.
const REMOVAL: &str = "PackageRemove";

/// The key that adds to the processes that are always protected.
const PROTECTED_PROCESSES: &str = "protected_processes";

/// Where no rule lists it.
const DEFAULT: &str = "default";

/// Who asks, as far as the configuration tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    /// There is no secret: nobody is believed.
    Nobody,
    /// `auth = "none"`: anybody.
    Anybody,
    /// Who has the secret.
    Holder,
}

impl From<&Trust> for Asking {
    fn from(trust: &Trust) -> Self {
        match trust {
            Trust::Locked => Self::Nobody,
            Trust::Everyone => Self::Anybody,
            Trust::Secret(_) => Self::Holder,
        }
    }
}

/// A program to be run directly, in a raw command's place: no shell sees the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectProgram {
    /// The program's absolute path.
    pub program: AbsolutePath,
    /// Its arguments, without its own name.
    pub arguments: Vec<String>,
}

/// It may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// The rule that permits it, as the configuration names it.
    pub rule: String,
    /// What to run instead of the raw line; absent where the command runs as it was asked for.
    pub direct: Option<DirectProgram>,
}

/// It may not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this machine's policy does not permit it: {reason} (rule: {rule})")]
pub struct Denial {
    /// The rule that denies it, as the configuration names it.
    pub rule: String,
    /// Why, as a sentence without its full stop.
    pub reason: String,
}

impl From<Denial> for CommandError {
    fn from(denial: Denial) -> Self {
        Self::new(ErrorCode::PermissionDenied, denial.to_string())
    }
}

/// What becomes of a command.
pub type Decision = Result<Permit, Denial>;

/// Who may do what.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    asking: Asking,
    permissions: Option<Permissions>,
}

impl Policy {
    /// The policy of a configuration; without permissions only reads run.
    #[must_use]
    pub fn new(asking: impl Into<Asking>, permissions: Option<Permissions>) -> Self {
        Self { asking: asking.into(), permissions }
    }

    /// Whether a command may run, and which rule says so.
    ///
    /// # Errors
    /// Where it may not.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        match self.section(request.kind())? {
            Some(permissions) => permissions.decide(request),
            None => Ok(permit(DEFAULT)),
        }
    }

    /// Whether an action that was permitted may act on what it has found.
    fn check_found(&self, request: &Request<'_>) -> Result<(), Denial> {
        let Some(permissions) = self.section(request.kind())? else { return Ok(()) };
        permissions.check_bans(request)?;
        permissions.check_protection(request.action(), &request.subjects())
    }

    /// The permissions that count for such commands; `None`: it may run without any.
    fn section(&self, kind: Kind) -> Result<Option<&Permissions>, Denial> {
        match self.asking {
            Asking::Nobody => {
                return denied("secret_file", "there is no shared secret, so nothing is taken from the host");
            }
            Asking::Anybody if kind != Kind::Read => {
                return denied("auth = \"none\"", "whoever reaches the port is believed, so only reads run");
            }
            Asking::Anybody | Asking::Holder => {}
        }
        match &self.permissions {
            None if kind != Kind::Read => denied(DEFAULT, "without a section [permissions] only reads run"),
            permissions => Ok(permissions.as_ref()),
        }
    }

    /// Whether some raw command might run.
    #[must_use]
    pub fn may_run_raw(&self) -> bool {
        self.asking == Asking::Holder
            && self.permissions.as_ref().is_some_and(|permissions| permissions.raw != Raw::None)
    }
}

impl Permissions {
    fn decide(&self, request: &Request<'_>) -> Decision {
        self.check_bans(request)?;
        match request {
            Request::Action { name, kind: Kind::Read, subjects } => self.listed("reads", &self.reads, name, subjects),
            Request::Action { name, kind: Kind::Change, subjects } => {
                self.check_protection(name, subjects)?;
                self.listed("changes", &self.changes, name, subjects)
            }
            Request::Action { kind: Kind::Raw, .. } => self.raw_action(),
            Request::Raw(command) => self.raw_command(command),
            Request::Script(script) => self.script(script),
        }
    }

    fn check_bans(&self, request: &Request<'_>) -> Result<(), Denial> {
        let (action, subjects) = (request.action(), request.subjects());
        match self.deny.iter().zip(0..).find(|(rule, _)| rule.touches(action, &subjects)) {
            Some((rule, at)) => denied(rule_name("deny", at, rule.name.as_deref()), "the rule denies it"),
            None => Ok(()),
        }
    }

    fn check_protection(&self, action: &str, subjects: &[Subject]) -> Result<(), Denial> {
        subjects.iter().try_for_each(|subject| match subject {
            Subject::Service { name, .. } => {
                check_names(PROTECTED_SERVICES, &self.protected_services, subject, &format!("the service {name}"))
            }
            Subject::Package(name) if action == REMOVAL => {
                check_names(PROTECTED_PACKAGES, &self.protected_packages, subject, &format!("the package {name}"))
            }
            Subject::Process { pid, facts } => self.check_process(pid.get(), facts.as_ref()),
            Subject::AnyService | Subject::Package(_) | Subject::AnyPackage | Subject::User(_) => Ok(()),
        })
    }

    fn check_process(&self, pid: i32, facts: Option<&ProcessFacts>) -> Result<(), Denial> {
        let protected = |reason: &str| denied(PROTECTED_PROCESSES, format!("process {pid} {reason}"));
        let Some(facts) = facts.filter(|_| pid != 1) else {
            return protected(if pid == 1 { "is the first of all" } else { "could not be looked at" });
        };
        if facts.is_kernel_thread {
            return protected("is the kernel's");
        }
        if facts.is_agent {
            return protected("is the agent's");
        }
        let names = [Some(facts.name.as_str()), facts.program.as_deref()];
        match names.into_iter().flatten().find(|name| self.protected_processes.matches(name)) {
            Some(name) => denied(PROTECTED_PROCESSES, format!("process {pid}, {name}, is protected")),
            None => Ok(()),
        }
    }

    /// The answer to an action that is typed: what its kind's list or a rule allows.
    fn listed(&self, key: &str, list: &Listed, action: &str, subjects: &[Subject]) -> Decision {
        if list.names(action) {
            return Ok(permit(format!("permissions.{key}")));
        }
        match self.allow.iter().zip(0..).find(|(rule, _)| rule.covers(action, subjects)) {
            Some((rule, at)) => Ok(permit(rule_name("allow", at, rule.name.as_deref()))),
            None => {
                let reason = format!(
                    "neither permissions.{key} nor a rule of permissions.allow lists {action} with these values"
                );
                denied(DEFAULT, reason)
            }
        }
    }
}

/// Whether a name is neither the agent's nor among those that `key` lists.
fn check_names(key: &str, listed: &Patterns, subject: &Subject, what: &str) -> Result<(), Denial> {
    let names = subject.names_to_deny();
    if names.iter().any(|name| name == AGENT) {
        return denied(key, format!("{what} is the agent itself"));
    }
    if key == PROTECTED_SERVICES && names.iter().any(|name| name.starts_with(CHANGES_OF_PACKAGES)) {
        return denied(
            key,
            format!("{what} is a change of packages that the agent has begun; cancel its command instead"),
        );
    }
    match names.iter().any(|name| listed.matches(name)) {
        true => denied(key, format!("{what} is protected")),
        false => Ok(()),
    }
}

/// `permissions.deny[0] "no-dbus"`.
fn rule_name(list: &str, at: usize, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("permissions.{list}[{at}] {name:?}"),
        None => format!("permissions.{list}[{at}]"),
    }
}

fn permit(rule: impl Into<String>) -> Permit {
    Permit { rule: rule.into(), direct: None }
}

fn denied<T>(rule: impl Into<String>, reason: impl Into<String>) -> Result<T, Denial> {
    Err(Denial { rule: rule.into(), reason: reason.into() })
}
