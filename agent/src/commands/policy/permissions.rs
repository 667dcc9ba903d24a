//! The section `[permissions]` of the configuration, read strictly: a permission or a ban that is misspelt must not silently be gone.

use serde::{Deserialize, Serialize};

use super::glob::Glob;
use super::names::{Listed, Patterns};
use super::raw_rule::{RawRule, ScriptRule};
use super::rule::Rule;
use super::table;

/// What the host may have done here. What nothing in it lists is denied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Permissions {
    /// Actions that only look.
    pub reads: Listed,
    /// Actions that change something; never raw ones.
    pub changes: Listed,
    /// Raw commands and scripts.
    pub raw: Raw,
    /// Services that nothing may change, beside the agent's own.
    #[serde(skip_serializing_if = "Patterns::is_empty")]
    pub protected_services: Patterns,
    /// Packages that nothing may remove, beside the agent's own.
    #[serde(skip_serializing_if = "Patterns::is_empty")]
    pub protected_packages: Patterns,
    /// Processes that nothing may end, beside pid 1, the agent and the kernel's.
    #[serde(skip_serializing_if = "Patterns::is_empty")]
    pub protected_processes: Patterns,
    /// What may run although `reads` and `changes` do not list it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Rule>,
    /// What may not run, whatever else says that it may.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<Rule>,
    /// Programs that raw commands may run under `raw = "rules"`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub raw_rule: Vec<RawRule>,
    /// Scripts that may run under `raw = "rules"`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub script_rule: Vec<ScriptRule>,
}

/// Which raw commands and scripts may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Raw {
    /// None.
    #[default]
    None,
    /// All: whoever may send one can do anything.
    All,
    /// Those that a rule describes.
    Rules,
}

/// Why the section cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct InvalidPermissions {
    /// Where in the text, in bytes; absent where it is about the section as a whole.
    pub offset: Option<usize>,
    /// One or more sentences that name the key.
    pub reason: String,
}

/// The part of a configuration file that this reads.
#[derive(Serialize, Deserialize)]
struct File<P> {
    permissions: P,
}

impl Permissions {
    /// The section of a configuration file that is known to have one.
    ///
    /// # Errors
    /// Where the section holds an unknown key, a value that makes no sense, or rules that nothing asks for.
    pub fn from_toml(text: &str) -> Result<Self, InvalidPermissions> {
        let File::<Self> { permissions } = toml::from_str(text).map_err(|error: toml::de::Error| {
            InvalidPermissions { offset: error.span().map(|span| span.start), reason: error.message().to_owned() }
        })?;
        match permissions.contradiction() {
            Some(reason) => Err(InvalidPermissions { offset: None, reason }),
            None => Ok(permissions),
        }
    }

    /// The section as TOML that can be read again.
    ///
    /// # Errors
    /// Where a value has no TOML; none of these has.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(&File { permissions: self })
    }

    /// Names of actions that stand for none, each in a sentence. They permit nothing, so they do no harm.
    #[must_use]
    pub fn idle_names(&self) -> Vec<String> {
        let lists = [("reads", self.reads.globs()), ("changes", self.changes.globs())];
        let lists = lists.into_iter().map(|(key, globs)| (key.to_owned(), globs));
        let rules =
            self.allow.iter().enumerate().map(|(at, rule)| (format!("allow[{at}].action"), rule.action.globs()));
        let named = lists.chain(rules).flat_map(|(key, globs)| globs.iter().map(move |glob| (key.clone(), glob)));
        let idle = named.filter(|(_, glob)| !table::typed_actions().any(|action| glob.matches(action)));
        idle.map(|(key, glob)| {
            format!("permissions.{key}: no action that it could permit is called {:?}", glob.as_str())
        })
        .collect()
    }

    /// What would not do what its author relies on.
    fn contradiction(&self) -> Option<String> {
        let unconditional = |(list, rules): (&str, &[Rule])| {
            let at = rules.iter().position(Rule::is_unconditional)?;
            Some(format!("{list}[{at}] needs at least one of action, service, package, user"))
        };
        unconditional(("allow", &self.allow))
            .or_else(|| unconditional(("deny", &self.deny)))
            .or_else(|| self.idle_user())
            .or_else(|| self.idle_ban())
            .or_else(|| self.idle_rules())
    }

    /// Only raw commands and scripts run as a user, and no `allow` rule permits those.
    fn idle_user(&self) -> Option<String> {
        let at = self.allow.iter().position(|rule| !rule.user.is_empty())?;
        Some(format!(
            "allow[{at}].user permits nothing: only raw commands and scripts run as a user, so put `run_as` into a \
             [[permissions.raw_rule]] or a [[permissions.script_rule]]; `user` is for [[permissions.deny]]"
        ))
    }

    /// A ban on a name that nothing has bans nothing.
    fn idle_ban(&self) -> Option<String> {
        let idle = |glob: &&Glob| !table::all_actions().any(|action| glob.matches(action));
        self.deny.iter().zip(0..).find_map(|(rule, at)| {
            let glob = rule.action.globs().iter().find(idle)?;
            Some(format!("deny[{at}].action: no action is called {:?}", glob.as_str()))
        })
    }

    /// Rules that do not count, or none where only they would.
    fn idle_rules(&self) -> Option<String> {
        let has_rules = !self.raw_rule.is_empty() || !self.script_rule.is_empty();
        let reason = match self.raw {
            Raw::Rules if !has_rules => {
                "raw = \"rules\" needs a [[permissions.raw_rule]] or a [[permissions.script_rule]]"
            }
            Raw::None | Raw::All if has_rules => {
                "raw_rule and script_rule count with raw = \"rules\" only: set that, or remove them"
            }
            Raw::None | Raw::All | Raw::Rules => return None,
        };
        Some(reason.to_owned())
    }
}
