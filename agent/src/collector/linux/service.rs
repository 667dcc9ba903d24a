//! Services of systemd: what its words mean in the protocol's.

use std::collections::{BTreeSet, HashMap};

use infini_protocol::Text;
use infini_protocol::limits::MAX_FIELD_BYTES;
use infini_protocol::metrics::{ServiceInfo, ServiceStatus, StartupType};

use super::systemd::Systemd;
use crate::collector::service::order;
use crate::collector::{CollectFailure, List};

const SUFFIX: &str = ".service";

/// A unit that systemd has loaded. The words are those of `systemctl list-units`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Its name, `nginx.service`.
    pub name: String,
    /// What it is, in a few words.
    pub description: String,
    /// `loaded`, `not-found`, `masked`, ...
    pub load_state: String,
    /// `active`, `inactive`, `failed`, ...
    pub active_state: String,
    /// Its main process, where it has one.
    pub main_pid: Option<u32>,
}

/// A unit file on disk. The words are those of `systemctl list-unit-files`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitFile {
    /// The file's name, `nginx.service`.
    pub name: String,
    /// `enabled`, `disabled`, `static`, ...
    pub state: String,
}

/// All that systemd says of services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// What is loaded.
    pub units: Vec<Unit>,
    /// What is installed.
    pub files: Vec<UnitFile>,
}

/// Who is asked: systemd, or what a test recorded.
pub trait UnitSource: Send {
    /// Asks for all services.
    ///
    /// # Errors
    /// Where there is no such service manager, or it does not answer in time.
    fn read(&mut self) -> Result<Units, CollectFailure>;
}

/// Reads services again and again. Nothing is connected or kept between two calls.
pub struct ServiceReader {
    source: Box<dyn UnitSource>,
}

impl ServiceReader {
    /// Asks the systemd that runs this machine.
    #[must_use]
    pub fn new() -> Self {
        Self::with_source(Systemd)
    }

    /// Asks someone else.
    #[must_use]
    pub fn with_source(source: impl UnitSource + 'static) -> Self {
        Self { source: Box::new(source) }
    }

    /// Services, failed ones first and stopped ones last, at most `limit`. Blocks for up to five seconds, so it is for a thread
    /// that does nothing else, and not one that a Tokio runtime runs on.
    ///
    /// # Errors
    /// `Unsupported` where systemd does not run this machine; `Service` where it does not answer.
    pub fn read(&mut self, limit: usize) -> Result<List<ServiceInfo>, CollectFailure> {
        let mut entries = services(&self.source.read()?);
        order(&mut entries);
        let total = entries.len();
        entries.truncate(limit);
        Ok(List { entries, total, errors: Vec::new() })
    }
}

impl Default for ServiceReader {
    fn default() -> Self {
        Self::new()
    }
}

/// What systemd says, in the protocol's words and in no order.
#[must_use]
pub fn services(units: &Units) -> Vec<ServiceInfo> {
    let files: HashMap<&str, &str> = units.files.iter().map(|file| (file.name.as_str(), file.state.as_str())).collect();
    let loaded = units.units.iter().filter(|unit| is_service(&unit.name) && is_of_interest(unit));
    let mut services: Vec<ServiceInfo> = loaded.map(|unit| service(unit, file_state(&files, &unit.name))).collect();

    let told: BTreeSet<&str> = units.units.iter().map(|unit| unit.name.as_str()).collect();
    let only_installed = units.files.iter().filter(|file| {
        // An alias is another name of a service that is in the list under its own.
        is_service(&file.name) && file.state != "alias" && !told.contains(file.name.as_str())
    });
    services.extend(only_installed.map(|file| service(&unloaded(file), Some(&file.state))));
    services
}

/// A service that is installed and that systemd had no reason to load.
#[must_use]
pub fn unloaded(file: &UnitFile) -> Unit {
    let load_state = if file.state.starts_with("masked") { "masked" } else { "loaded" };
    Unit {
        name: file.name.clone(),
        load_state: load_state.to_owned(),
        active_state: "inactive".to_owned(),
        ..Unit::default()
    }
}

/// Services, but not templates (`getty@.service`), which only their instances make into one.
fn is_service(name: &str) -> bool {
    name.strip_suffix(SUFFIX).is_some_and(|stem| !stem.ends_with('@'))
}

/// systemd also lists names that others only mention and that are not installed.
fn is_of_interest(unit: &Unit) -> bool {
    unit.load_state != "not-found" || unit.active_state != "inactive"
}

/// The state of the unit's file; of an instance that of its template.
fn file_state<'f>(files: &HashMap<&str, &'f str>, name: &str) -> Option<&'f str> {
    let template = || Some(format!("{}@{SUFFIX}", name.split_once('@')?.0));
    files.get(name).copied().or_else(|| files.get(template()?.as_str()).copied())
}

/// A unit and the state of its file, in the protocol's words.
#[must_use]
pub fn service(unit: &Unit, file_state: Option<&str>) -> ServiceInfo {
    let name: Text = unit.name.strip_suffix(SUFFIX).unwrap_or(&unit.name).into();
    let status = status(&unit.active_state);
    let is_loaded = unit.load_state == "loaded";
    let is_up = matches!(status, ServiceStatus::Running | ServiceStatus::Starting);
    let description = &unit.description[..unit.description.floor_char_boundary(MAX_FIELD_BYTES)];
    // systemd repeats the name where the file has no description.
    let has_description = !description.is_empty() && description != unit.name;
    ServiceInfo {
        display_name: name.clone(),
        name,
        description: has_description.then(|| description.into()),
        status,
        startup_type: startup_type(file_state),
        pid: unit.main_pid,
        can_start: is_loaded && matches!(status, ServiceStatus::Stopped | ServiceStatus::Failed),
        can_stop: is_up,
        can_restart: is_loaded && is_up,
    }
}

/// A service that did its work and ended well (`active (exited)`) counts as running, as it does for systemd.
fn status(active_state: &str) -> ServiceStatus {
    match active_state {
        "active" | "reloading" | "refreshing" => ServiceStatus::Running,
        "inactive" => ServiceStatus::Stopped,
        "failed" => ServiceStatus::Failed,
        "activating" => ServiceStatus::Starting,
        "deactivating" => ServiceStatus::Stopping,
        _ => ServiceStatus::Unknown,
    }
}

/// `disabled` is systemd's word and keeps its name, though such a service can be started by hand; one that cannot is `masked`, which
/// `can_start` tells. `None` is a unit without a file: somebody started it by hand (`systemd-run`).
fn startup_type(file_state: Option<&str>) -> StartupType {
    match file_state {
        Some("enabled" | "enabled-runtime") => StartupType::Auto,
        Some("disabled" | "masked" | "masked-runtime") => StartupType::Disabled,
        Some("static" | "generated") => StartupType::Static,
        Some("indirect" | "linked" | "linked-runtime" | "transient" | "alias") | None => StartupType::Manual,
        Some(_) => StartupType::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str, load: &str, active: &str, main_pid: Option<u32>) -> Unit {
        let [name, load_state, active_state] = [name, load, active].map(str::to_owned);
        Unit { description: format!("What {name} is"), name, load_state, active_state, main_pid }
    }

    fn file(name: &str, state: &str) -> UnitFile {
        UnitFile { name: name.to_owned(), state: state.to_owned() }
    }

    struct Recorded(Units);

    impl UnitSource for Recorded {
        fn read(&mut self) -> Result<Units, CollectFailure> {
            Ok(self.0.clone())
        }
    }

    fn read(units: Vec<Unit>, files: Vec<UnitFile>) -> List<ServiceInfo> {
        ServiceReader::with_source(Recorded(Units { units, files })).read(100).unwrap()
    }

    /// As a Debian machine answers, trimmed.
    fn debian() -> List<ServiceInfo> {
        read(
            vec![
                unit("ssh.service", "loaded", "active", Some(612)),
                unit("getty@tty1.service", "loaded", "active", Some(601)),
                unit("networking.service", "loaded", "active", None),
                unit("nginx.service", "loaded", "failed", None),
                unit("apt-daily.service", "loaded", "inactive", None),
                unit("plymouth-start.service", "not-found", "inactive", None),
                unit("cron.service", "masked", "inactive", None),
                unit("postgresql.service", "loaded", "activating", Some(900)),
                unit("run-u5.service", "loaded", "active", Some(77)),
                unit("dbus.socket", "loaded", "active", None),
            ],
            vec![
                file("ssh.service", "enabled"),
                file("sshd.service", "alias"),
                file("getty@.service", "enabled"),
                file("networking.service", "enabled"),
                file("nginx.service", "disabled"),
                file("apt-daily.service", "static"),
                file("cron.service", "masked"),
                file("postgresql.service", "enabled-runtime"),
                file("rsync.service", "disabled"),
                file("x11-common.service", "masked"),
                file("ssh.socket", "disabled"),
            ],
        )
    }

    #[test]
    fn states_become_the_protocols_words() {
        use ServiceStatus::{Failed, Running, Starting, Stopped};
        use StartupType::{Auto, Disabled, Manual, Static};
        let list = debian();
        let found: Vec<_> = list
            .entries
            .iter()
            .map(|it| (&*it.name, it.status, it.startup_type, it.pid, [it.can_start, it.can_stop, it.can_restart]))
            .collect();
        assert_eq!(
            found,
            [
                ("nginx", Failed, Disabled, None, [true, false, false]),
                ("postgresql", Starting, Auto, Some(900), [false, true, true]),
                ("getty@tty1", Running, Auto, Some(601), [false, true, true]),
                ("networking", Running, Auto, None, [false, true, true]),
                ("run-u5", Running, Manual, Some(77), [false, true, true]),
                ("ssh", Running, Auto, Some(612), [false, true, true]),
                ("apt-daily", Stopped, Static, None, [true, false, false]),
                ("cron", Stopped, Disabled, None, [false, false, false]),
                ("rsync", Stopped, Disabled, None, [true, false, false]),
                ("x11-common", Stopped, Disabled, None, [false, false, false]),
            ]
        );
        assert_eq!(list.total, 10);
    }

    #[test]
    fn what_is_only_installed_has_no_description() {
        let list = debian();
        let description = |name: &str| {
            let service = list.entries.iter().find(|service| &*service.name == name).unwrap();
            service.description.as_deref().map(str::to_owned)
        };
        assert_eq!(description("ssh").as_deref(), Some("What ssh.service is"));
        assert_eq!(description("rsync"), None);
    }

    #[test]
    fn the_limit_keeps_what_needs_attention() {
        let units = vec![unit("a.service", "loaded", "active", None), unit("b.service", "loaded", "failed", None)];
        let list = ServiceReader::with_source(Recorded(Units { units, files: Vec::new() })).read(1).unwrap();
        assert_eq!((&*list.entries[0].name, list.entries.len(), list.total), ("b", 1, 2));
    }
}
