//! `PackageList`, `PackageSearch`, `PackageInstall`, `PackageRemove`, `PackageUpdate`, and what is known of updates.

mod apk;
mod applications;
mod apt;
mod change;
mod change_runner;
mod dnf;
mod find;
mod logs;
mod manager;
mod pacman;
mod query;
mod reboot;
mod rpm;
mod task;
#[cfg(test)]
mod tests;
mod updates;
mod words;
mod zypper;

use infini_protocol::host::SafeCommand;
use serde::{Deserialize, Serialize};
use serde_json::json;

use change::UpdateSystem;
pub use change::{Adopted, Packages, adopt, repair};
pub use change_runner::{ChangeRunner, PlainRunner, Unanswered};
#[cfg(target_os = "linux")]
pub use change_runner::{TransientRunner, keep};
use manager::{Change, Package, PackageManager};
use query::Found;
pub use words::SearchWords;

use super::action::{Action, Context, Exclusive, Running, Target, fields};
use super::outcome::{CommandError, Outcome};
use super::validation::PackageName;

/// An application of which there is another version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct ApplicationUpdate {
    /// The manager, a colon, and the name that it knows.
    id: String,
    name: String,
    current_version: String,
    available_version: String,
}

/// `PackageList`.
#[derive(Debug, Deserialize)]
struct PackageList {}

/// `PackageSearch`.
#[derive(Debug, Deserialize)]
struct PackageSearch {
    query: SearchWords,
}

/// `PackageInstall`.
#[derive(Debug, Deserialize)]
struct PackageInstall {
    package: PackageName,
}

/// `PackageRemove`.
#[derive(Debug, Deserialize)]
struct PackageRemove {
    package: PackageName,
}

/// `PackageUpdate`.
#[derive(Debug, Deserialize)]
struct PackageUpdate {
    package: PackageName,
}

/// `CheckLinuxUpdates` and `GetPendingUpdates`.
#[derive(Debug, Deserialize)]
struct PendingUpdates {}

/// `GetUpdateHistory`.
#[derive(Debug, Deserialize)]
struct UpdateHistory {
    days: Option<u32>,
}

/// `CheckApplicationUpdates`.
#[derive(Debug, Deserialize)]
struct ApplicationUpdates {}

/// A function that makes an action of a command.
macro_rules! parser {
    ($(#[$doc:meta])* $name:ident, $action:ty) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// `INVALID_PARAMETERS` where a field is missing or holds no legal value.
        pub fn $name(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
            fields::<$action>(command)
        }
    };
}

parser!(/** Makes a `PackageList`. */ list, PackageList);
parser!(/** Makes a `PackageSearch`. */ search, PackageSearch);
parser!(/** Makes a `PackageInstall`. */ install, PackageInstall);
parser!(/** Makes a `PackageRemove`. */ remove, PackageRemove);
parser!(/** Makes a `PackageUpdate`. */ update, PackageUpdate);
parser!(/** Makes a `CheckLinuxUpdates` or a `GetPendingUpdates`. */ pending_updates, PendingUpdates);
parser!(/** Makes a `GetUpdateHistory`. */ update_history, UpdateHistory);
parser!(/** Makes an `UpdateSystemSoftware`. */ update_system, UpdateSystem);
parser!(/** Makes a `CheckApplicationUpdates`. */ application_updates, ApplicationUpdates);

/// What becomes of a command that found something, or of one that did not.
fn outcome(found: Result<Found<serde_json::Value>, CommandError>) -> Outcome {
    match found {
        Ok(Found { value, truncated }) => Outcome { truncated, ..Outcome::data(value) },
        Err(error) => error.into(),
    }
}

async fn listed(context: &Context) -> Result<Found<serde_json::Value>, CommandError> {
    let root = find::root(&context.roots);
    let manager = find::manager(&root)?;
    let mut found = manager.list().run(context).await?;
    for kind in applications::kinds(&root) {
        // snapd and flatpak may be installed and not at work; the system's packages are told all the same.
        if let Ok(more) = (kind.list)().run(context).await {
            found.value.extend(more.value);
            found.truncated |= more.truncated;
        }
    }
    Ok(packages(&*manager, found))
}

fn packages(manager: &dyn PackageManager, found: Found<Vec<Package>>) -> Found<serde_json::Value> {
    let value = json!({ "count": found.value.len(), "packages": found.value, "manager": manager.name() });
    Found { value, truncated: found.truncated }
}

impl Action for PackageList {
    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move { outcome(listed(&context).await) })
    }
}

impl Action for PackageSearch {
    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move {
            let found = async {
                let manager = find::manager(&find::root(&context.roots))?;
                Ok(packages(&*manager, manager.search(&self.query).run(&context).await?))
            };
            outcome(found.await)
        })
    }
}

/// An action that changes one package.
macro_rules! changes {
    ($action:ty, $change:path) => {
        impl Action for $action {
            fn targets(&self) -> Vec<Target> {
                vec![Target::Package(self.package.clone())]
            }

            fn exclusive(&self) -> Option<Exclusive> {
                Some(Exclusive::Packages)
            }

            fn run(self: Box<Self>, context: Context) -> Running {
                Box::pin(change::one(context, $change(self.package)))
            }
        }
    };
}

changes!(PackageInstall, Change::Install);
changes!(PackageRemove, Change::Remove);
changes!(PackageUpdate, Change::Update);

impl Action for UpdateSystem {
    fn targets(&self) -> Vec<Target> {
        vec![self.package.clone().map_or(Target::AnyPackage, Target::Package)]
    }

    fn exclusive(&self) -> Option<Exclusive> {
        Some(Exclusive::Packages)
    }

    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(change::system(context, self.package))
    }
}

impl Action for PendingUpdates {
    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move { outcome(updates::pending(&context).await) })
    }
}

impl Action for UpdateHistory {
    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move { outcome(updates::history(&context, self.days).await) })
    }
}

impl Action for ApplicationUpdates {
    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move { outcome(updates::applications(&context).await) })
    }
}
