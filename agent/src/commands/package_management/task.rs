//! A change and what was there before it: what an answer is made of, and all that another process of the agent has to know to give it.

use serde::{Deserialize, Serialize};

use super::manager::{Change, Package};

/// What is to change, and what was there before.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Task {
    /// What is to change.
    pub change: Change,
    /// What was there before.
    pub before: Before,
}

/// What was there before a change.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Before {
    /// Of one package, where it was installed, its version.
    Version(Option<String>),
    /// Of a system, all that was installed.
    System(Installed),
}

/// Packages and their versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Installed {
    /// Name and version. Of kernels several versions may be installed.
    pub packages: Vec<(String, String)>,
    /// There were more than the manager's output could tell.
    pub truncated: bool,
}

impl Installed {
    /// Out of a manager's list.
    #[must_use]
    pub fn of(packages: Vec<Package>, truncated: bool) -> Self {
        let packages = packages.into_iter().map(|package| (package.name, package.version)).collect();
        Self { packages, truncated }
    }
}
