//! What OpenRC's programs print.

use std::collections::HashMap;

use infini_protocol::Text;
use infini_protocol::metrics::{ServiceInfo, ServiceStatus, StartupType};

/// Services and the runlevels that start them.
pub(super) type Runlevels = HashMap<String, Vec<String>>;

/// The runlevel that stops the machine; what is in it is not started with the machine.
const SHUTDOWN: &str = "shutdown";

/// `rc-update show`: ` sshd |      default    `, a column for each runlevel, blank where the service is not in it.
pub(super) fn runlevels(text: &str) -> Runlevels {
    let row = |line: &str| {
        let (name, levels) = line.split_once('|')?;
        Some((name.trim().to_owned(), levels.split_whitespace().map(str::to_owned).collect()))
    };
    text.lines().filter_map(row).collect()
}

/// Whether a service is started with the machine.
pub(super) fn is_enabled(runlevels: &Runlevels, name: &str) -> bool {
    runlevels.get(name).is_some_and(|levels| levels.iter().any(|level| level != SHUTDOWN))
}

/// `rc-status --format ini --servicelist`: `sshd =  started 02:17:40 (0)`.
pub(super) fn services(text: &str, runlevels: &Runlevels) -> Vec<ServiceInfo> {
    let row = |line: &str| {
        let (name, state) = line.split_once(" = ")?;
        let state = state.split_whitespace().next().unwrap_or_default();
        Some(service(name.trim(), state, is_enabled(runlevels, name.trim())))
    };
    text.lines().filter_map(row).collect()
}

/// A crashed service is a started one for OpenRC: it can be stopped and restarted, and `start` would do nothing.
fn service(name: &str, state: &str, is_enabled: bool) -> ServiceInfo {
    let status = status(state);
    let is_up = matches!(state, "started" | "starting" | "crashed" | "unsupervised" | "inactive" | "scheduled");
    let name: Text = name.into();
    ServiceInfo {
        display_name: name.clone(),
        name,
        description: None,
        status,
        startup_type: if is_enabled { StartupType::Auto } else { StartupType::Disabled },
        pid: None,
        can_start: matches!(state, "stopped" | "failed"),
        can_stop: is_up,
        can_restart: is_up,
    }
}

/// `inactive` services have started and wait for something, such as a link; `scheduled` ones wait for such a service; `unsupervised`
/// ones have lost their supervisor.
fn status(state: &str) -> ServiceStatus {
    match state {
        "started" => ServiceStatus::Running,
        "stopped" => ServiceStatus::Stopped,
        "starting" | "inactive" | "scheduled" => ServiceStatus::Starting,
        "stopping" => ServiceStatus::Stopping,
        "crashed" | "unsupervised" | "failed" => ServiceStatus::Failed,
        _ => ServiceStatus::Unknown,
    }
}
