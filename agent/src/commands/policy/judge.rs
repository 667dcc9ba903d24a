//! The policy while an action runs: what it finds only then is judged when it is found.

use std::sync::Arc;

use super::request::{Request, Subject};
use super::{Asking, Denial, Policy};
use crate::commands::action::Kind;
use crate::commands::validation::ServiceName;

/// The policy by which an action was permitted, to be asked by the action itself. Clones share it.
#[derive(Clone, Debug)]
pub struct Judge {
    policy: Arc<Policy>,
    action: &'static str,
}

impl Judge {
    /// Of an action that this policy has permitted.
    #[must_use]
    pub fn new(policy: &Arc<Policy>, action: &'static str) -> Self {
        Self { policy: Arc::clone(policy), action }
    }

    /// Whether the action may change a service that it has found.
    ///
    /// # Errors
    /// Where a rule denies it, or the service is protected.
    pub fn service(&self, name: &ServiceName) -> Result<(), Denial> {
        self.found(&Subject::Service { name: name.clone(), also: Vec::new() })
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
        Self::new(&Arc::new(Policy::new(Asking::Holder, Some(permissions))), "Test")
    }
}

/// Permits nothing: for where no action was permitted.
impl Default for Judge {
    fn default() -> Self {
        Self::new(&Arc::new(Policy::new(Asking::Nobody, None)), "")
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
        let restart = Judge::new(&policy, "RestartServices");
        for (service, expected) in [
            ("nginx", "may"),
            ("postgresql@15-main", "protected_services"),
            ("infiniservice", "protected_services"),
            ("dbus", "permissions.deny[0]"),
        ] {
            assert_eq!(said(&restart, service), expected, "{service}");
        }
        assert_eq!(said(&Judge::new(&policy, "RunMaintenanceTask"), "dbus"), "may");
    }

    #[test]
    fn who_was_permitted_nothing_finds_nothing_permitted() {
        assert_eq!(said(&Judge::default(), "nginx"), "secret_file");
        let reads_only = Arc::new(Policy::new(Asking::Holder, None));
        assert_eq!(said(&Judge::new(&reads_only, "RestartServices"), "nginx"), "default");
    }
}
