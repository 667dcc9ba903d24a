//! `[[permissions.allow]]` and `[[permissions.deny]]`.

use serde::{Deserialize, Serialize};

use super::names::Patterns;
use super::request::Subject;

/// A rule: which action, and what it acts on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// What its author calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The action's name.
    #[serde(skip_serializing_if = "Patterns::is_empty")]
    pub action: Patterns,
    /// A service that it acts on.
    #[serde(skip_serializing_if = "Patterns::is_empty")]
    pub service: Patterns,
    /// A package that it acts on.
    #[serde(skip_serializing_if = "Patterns::is_empty")]
    pub package: Patterns,
    /// As whom a raw command or a script runs; for `deny` only.
    #[serde(skip_serializing_if = "Patterns::is_empty")]
    pub user: Patterns,
}

impl Rule {
    /// Whether the rule is about everything.
    #[must_use]
    pub fn is_unconditional(&self) -> bool {
        self.action.is_empty() && self.is_about_any_subject()
    }

    /// As an `allow` rule: everything that the action acts on must fit. What is not known yet fits `*` only.
    #[must_use]
    pub fn covers(&self, action: &str, subjects: &[Subject]) -> bool {
        if !self.action.is_empty() && !self.action.matches(action) {
            return false;
        }
        let fits = |subject: &Subject| {
            let patterns = self.patterns_for(subject);
            patterns.is_everything() || subject.names_to_allow().iter().any(|name| patterns.matches(name))
        };
        self.is_about_any_subject() || (!subjects.is_empty() && subjects.iter().all(fits))
    }

    /// As a `deny` rule: one fitting thing is enough, by any of its names. What is not known yet might be one.
    #[must_use]
    pub fn touches(&self, action: &str, subjects: &[Subject]) -> bool {
        if !self.action.is_empty() && !self.action.matches(action) {
            return false;
        }
        let fits = |subject: &Subject| {
            let patterns = self.patterns_for(subject);
            let unknown = matches!(subject, Subject::AnyService | Subject::AnyPackage) && !patterns.is_empty();
            unknown || subject.names_to_deny().iter().any(|name| patterns.matches(name))
        };
        self.is_about_any_subject() || subjects.iter().any(fits)
    }

    fn is_about_any_subject(&self) -> bool {
        [&self.service, &self.package, &self.user].into_iter().all(Patterns::is_empty)
    }

    /// The condition on such a thing; an empty one fits none.
    fn patterns_for(&self, subject: &Subject) -> &Patterns {
        const NONE: &Patterns = &Patterns::none();
        match subject {
            Subject::Service { .. } | Subject::AnyService => &self.service,
            Subject::Package(_) | Subject::AnyPackage => &self.package,
            Subject::User(_) => &self.user,
            Subject::Process { .. } => NONE,
        }
    }
}
