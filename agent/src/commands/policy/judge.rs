//! The policy while an action runs: what it finds only then is judged when it is found.

use std::sync::Arc;

use infini_protocol::ErrorCode;

use super::request::{ProcessFacts, Request, Subject};
use super::{Asking, Denial, Policy};
use crate::commands::action::Kind;
use crate::commands::outcome::CommandError;
use crate::commands::validation::{Pid, ServiceName};

/// The policy by which an action was permitted, to be asked by the action itself. Clones share it.
#[derive(Clone, Debug)]
pub struct Judge {
    policy: Arc<Policy>,
    action: &'static str,
    /// What it was permitted to act on.
    subjects: Arc<[Subject]>,
}

impl Judge {
    /// Of an action that this policy has permitted to act on these.
    #[must_use]
    pub fn new(policy: &Arc<Policy>, action: &'static str, subjects: Vec<Subject>) -> Self {
        Self { policy: Arc::clone(policy), action, subjects: subjects.into() }
    }

    /// Whether the action may change a service that it has found.
    ///
    /// # Errors
    /// Where a rule denies it, or the service is protected.
    pub fn service(&self, name: &ServiceName) -> Result<(), Denial> {
        self.found(&Subject::Service { name: name.clone(), also: Vec::new() })
    }

    /// Whether the action may end a process, of which this is true now.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` where it is protected; `PROCESS_NOT_FOUND` where it is not the one that had the number when the action was
    /// permitted.
    pub fn process(&self, pid: Pid, facts: ProcessFacts) -> Result<(), CommandError> {
        let was = self.subjects.iter().find_map(|subject| match subject {
            Subject::Process { pid: known, facts: Some(facts) } if *known == pid => Some(facts),
            _ => None,
        });
        if was.is_some_and(|was| was.started != facts.started) {
            let sentence = format!("process {} has ended meanwhile; another one has its number now", pid.get());
            return Err(CommandError::new(ErrorCode::ProcessNotFound, sentence));
        }
        Ok(self.found(&Subject::Process { pid, facts: Some(facts) })?)
    }

    fn found(&self, subject: &Subject) -> Result<(), Denial> {
        let subjects = std::slice::from_ref(subject);
        self.policy.check_found(&Request::Action { name: self.action, kind: Kind::Change, subjects })
    }

    /// One that permits whatever is found.
    #[cfg(test)]
    #[must_use]
    pub fn lenient() -> Self {
        let permissions = super::Permissions { changes: super::Listed::All, ..super::Permissions::default() };
        Self::new(&Arc::new(Policy::new(Asking::Holder, Some(permissions))), "Test", Vec::new())
    }
}

/// Permits nothing: for where no action was permitted.
impl Default for Judge {
    fn default() -> Self {
        Self::new(&Arc::new(Policy::new(Asking::Nobody, None)), "", Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::policy::Permissions;

    fn said(judge: &Judge, service: &str) -> String {
        let name = ServiceName::try_from(service.to_owned()).unwrap();
        judge.service(&name).map_or_else(|denial| denial.rule, |()| "may".to_owned())
    }

    #[test]
    fn what_is_found_is_held_against_bans_and_protection() {
        let section = "[permissions]\nchanges = \"all\"\nprotected_services = \"postgres*\"\n\
                       [[permissions.deny]]\naction = \"RestartServices\"\nservice = \"dbus\"\n";
        let policy = Arc::new(Policy::new(Asking::Holder, Some(Permissions::from_toml(section).unwrap())));
        let restart = Judge::new(&policy, "RestartServices", Vec::new());
        for (service, expected) in [
            ("nginx", "may"),
            ("postgresql@15-main", "protected_services"),
            ("infiniservice", "protected_services"),
            ("dbus", "permissions.deny[0]"),
        ] {
            assert_eq!(said(&restart, service), expected, "{service}");
        }
        assert_eq!(said(&Judge::new(&policy, "RunMaintenanceTask", Vec::new()), "dbus"), "may");
    }

    #[test]
    fn who_was_permitted_nothing_finds_nothing_permitted() {
        assert_eq!(said(&Judge::default(), "nginx"), "secret_file");
        let reads_only = Arc::new(Policy::new(Asking::Holder, None));
        assert_eq!(said(&Judge::new(&reads_only, "RestartServices", Vec::new()), "nginx"), "default");
    }
}
