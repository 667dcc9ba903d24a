//! Linux: systemd, or else OpenRC.

mod journal;
mod openrc;
mod systemd;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use infini_protocol::ErrorCode;
use infini_protocol::metrics::ServiceInfo;

use super::manager::{Asked, Change, ServiceError, ServiceManager};
use crate::commands::action::Context;
use crate::commands::outcome::CommandError;
use crate::commands::validation::ServiceName;
use openrc::OpenRc;
use systemd::Systemd;

/// The service manager that runs the machine whose file system is at `root`: told by what is there, not by the distribution's name.
#[must_use]
pub fn find(root: &Path) -> Arc<dyn ServiceManager> {
    // The same test as sd_booted(3): systemd may be installed and yet not run the machine.
    if root.join("run/systemd/system").is_dir() {
        return Arc::new(Systemd::new(root));
    }
    match OpenRc::find(root) {
        Some(openrc) => Arc::new(openrc),
        None => Arc::new(NoManager),
    }
}

/// Where programs of the system are, by preference.
const DIRECTORIES: [&str; 4] = ["usr/bin", "usr/sbin", "bin", "sbin"];

/// The absolute path of a program of the system.
fn program(root: &Path, name: &str) -> Option<PathBuf> {
    DIRECTORIES.iter().map(|directory| root.join(directory).join(name)).find(|path| path.is_file())
}

/// What a machine has whose services nobody manages, such as a container's.
struct NoManager;

impl NoManager {
    fn refuse<'a, T: Send + 'a>() -> Asked<'a, T> {
        let sentence = "neither systemd nor OpenRC runs this machine; its services are managed in the guest";
        let error = CommandError::new(ErrorCode::UnsupportedPlatform, sentence);
        Box::pin(std::future::ready(Err(error.into())))
    }
}

impl ServiceManager for NoManager {
    fn list<'a>(&'a self, _: &'a Context) -> Asked<'a, Vec<ServiceInfo>> {
        Self::refuse()
    }

    fn status<'a>(&'a self, _: &'a ServiceName, _: &'a Context) -> Asked<'a, ServiceInfo> {
        Self::refuse()
    }

    fn change<'a>(&'a self, _: Change, _: &'a ServiceName, _: &'a Context) -> Asked<'a, ()> {
        Self::refuse()
    }
}

/// The sentence of a change that was tried and did not come about, with what the service wrote.
fn failed(change: Change, name: &ServiceName, why: &str, log: String) -> ServiceError {
    let pointer = if log.is_empty() { "" } else { "; what it last wrote is in stderr" };
    let sentence = format!("cannot {} {name}: {why}{pointer}", change.verb());
    ServiceError { error: CommandError::failed(sentence), log }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::commands::testing::{FakePrograms, context};

    /// What `list` says on a machine with these files.
    async fn refusal(files: &[&str]) -> ServiceError {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let manager = find(root.path());
        let (_order, context) = context(Arc::new(FakePrograms::default()), Arc::clone(&manager));
        manager.list(&context).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_machine_without_a_manager_says_so() {
        for files in [&[][..], &["usr/lib/systemd/systemd"], &["sbin/rc-service"]] {
            let refusal = refusal(files).await;
            assert_eq!(refusal.error.code, ErrorCode::UnsupportedPlatform, "{files:?}: {refusal}");
        }
    }
}
