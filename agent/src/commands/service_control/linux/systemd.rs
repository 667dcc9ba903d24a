//! systemd, over D-Bus. See org.freedesktop.systemd1(5).

mod refusal;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use infini_protocol::metrics::ServiceInfo;
use zbus::{Connection, OwnedObjectPath, connection};

use super::{failed, journal};
use crate::collector::linux::service::{Unit, UnitFile, service, services, unloaded};
use crate::collector::linux::systemd::{main_pid, property, units};
use crate::commands::action::Context;
use crate::commands::service_control::manager::{Asked, Change, ServiceError, ServiceManager};
use crate::commands::system_bus::job::{Job, REPLACE, call, complaint};
use crate::commands::validation::ServiceName;
use refusal::Refusal;

const UNIT: &str = "org.freedesktop.systemd1.Unit";

/// Makes the connection that a command is going to use.
type Connect = Arc<dyn Fn() -> connection::Builder<'static> + Send + Sync>;

/// The systemd of this machine. Each command connects for itself: commands are seldom, and a connection that is kept would wake the
/// agent for what the bus has to say to everyone.
pub(super) struct Systemd {
    root: PathBuf,
    connect: Connect,
}

/// A unit that systemd has loaded.
struct Loaded {
    /// Under the name by which it is managed.
    unit: Unit,
    /// The state of its file; empty where it has none.
    file_state: String,
    /// Whether it can be started by hand.
    can_start: bool,
    /// Whether it can be stopped by hand.
    can_stop: bool,
}

impl Systemd {
    /// The one that is reached by the system's bus; journalctl is looked for below `root`.
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), connect: Arc::new(connection::Builder::system) }
    }

    async fn connection(&self) -> Result<Connection, ServiceError> {
        Ok((self.connect)().build().await.map_err(Refusal::from)?)
    }

    async fn services(&self) -> Result<Vec<ServiceInfo>, ServiceError> {
        let connection = self.connection().await?;
        Ok(services(&units(&connection).await.map_err(Refusal::from)?))
    }

    async fn look(&self, name: &ServiceName) -> Result<ServiceInfo, ServiceError> {
        let connection = self.connection().await?;
        if is_template(name) {
            return template(&connection, name).await;
        }
        Ok(load(&connection, name).await?.into())
    }

    async fn apply(&self, change: Change, name: &ServiceName, context: &Context) -> Result<(), ServiceError> {
        let connection = self.connection().await?;
        let method = match change {
            Change::Start => "StartUnit",
            Change::Stop => "StopUnit",
            Change::Restart => "RestartUnit",
            Change::Enable | Change::Disable => return switch(&connection, change, name).await,
        };
        check_name(&connection, change, name).await?;
        let unit = unit_name(name);
        let job = async { Job::start(&connection, method, &unit, &(&unit, REPLACE)).await?.ended().await };
        let result = job.await.map_err(|error| Refusal::of(change, name, error))?;
        match complaint(&result) {
            None => Ok(()),
            Some(why) => Err(failed(change, name, why, journal::last_lines(&self.root, &unit, context).await)),
        }
    }
}

impl ServiceManager for Systemd {
    fn list<'a>(&'a self, _: &'a Context) -> Asked<'a, Vec<ServiceInfo>> {
        Box::pin(self.services())
    }

    fn status<'a>(&'a self, name: &'a ServiceName, _: &'a Context) -> Asked<'a, ServiceInfo> {
        Box::pin(self.look(name))
    }

    fn change<'a>(&'a self, change: Change, name: &'a ServiceName, context: &'a Context) -> Asked<'a, ()> {
        Box::pin(self.apply(change, name, context))
    }
}

fn unit_name(name: &ServiceName) -> String {
    format!("{name}.service")
}

/// Only its instances can be started; it can be enabled, and then enables the instance that it names.
fn is_template(name: &ServiceName) -> bool {
    name.as_str().ends_with('@')
}

/// Has systemd load a unit, as `systemctl status` does, and asks for what the protocol tells of it.
async fn load(connection: &Connection, name: &ServiceName) -> Result<Loaded, ServiceError> {
    let loaded = ask(connection, &unit_name(name)).await.map_err(Refusal::from)?;
    // systemd loads any name; one without a file that runs nevertheless was removed meanwhile.
    if loaded.unit.load_state == "not-found" && loaded.unit.active_state == "inactive" {
        return Err(ServiceError::not_found(name));
    }
    Ok(loaded)
}

async fn ask(connection: &Connection, name: &str) -> zbus::Result<Loaded> {
    let object: OwnedObjectPath = call(connection, "LoadUnit", &(name,)).await?.body().deserialize()?;
    let text = async |name: &str| property::<String>(connection, &object, UNIT, name).await;
    let can = async |name: &str| property::<bool>(connection, &object, UNIT, name).await;
    let unit = Unit {
        name: text("Id").await?,
        description: text("Description").await?,
        load_state: text("LoadState").await?,
        active_state: text("ActiveState").await?,
        main_pid: main_pid(connection, &object).await,
    };
    let (file_state, can_start, can_stop) =
        (text("UnitFileState").await?, can("CanStart").await?, can("CanStop").await?);
    Ok(Loaded { unit, file_state, can_start, can_stop })
}

impl From<Loaded> for ServiceInfo {
    /// systemd says that a unit cannot be started or stopped where its file has RefuseManualStart= or RefuseManualStop=, too.
    fn from(loaded: Loaded) -> Self {
        let info = service(&loaded.unit, Some(loaded.file_state.as_str()).filter(|state| !state.is_empty()));
        Self {
            can_start: info.can_start && loaded.can_start,
            can_stop: info.can_stop && loaded.can_stop,
            can_restart: info.can_restart && loaded.can_start && loaded.can_stop,
            ..info
        }
    }
}

/// A template, of which systemd knows no more than its file.
async fn template(connection: &Connection, name: &ServiceName) -> Result<ServiceInfo, ServiceError> {
    let state = call(connection, "GetUnitFileState", &(unit_name(name),)).await;
    let state: String = match state.and_then(|answer| answer.body().deserialize()) {
        Ok(state) => state,
        Err(error) if refusal::is_missing_file(&error) => return Err(ServiceError::not_found(name)),
        Err(error) => return Err(Refusal::from(error).into()),
    };
    let file = UnitFile { name: unit_name(name), state };
    Ok(ServiceInfo { can_start: false, ..service(&unloaded(&file), Some(&file.state)) })
}

/// Whether the service is there and this is its own name: rules would not know it by another one.
async fn check_name(connection: &Connection, change: Change, name: &ServiceName) -> Result<(), ServiceError> {
    if is_template(name) {
        let why = format!("it is a template; name an instance, such as {name}1");
        return Err(failed(change, name, &why, String::new()));
    }
    let info = ServiceInfo::from(load(connection, name).await?);
    if *info.name == *name.as_str() {
        return Ok(());
    }
    Err(failed(change, name, &format!("that is another name of {}; use this one", info.name), String::new()))
}

/// Changes what starts with the machine, and has systemd read its files anew.
async fn switch(connection: &Connection, change: Change, name: &ServiceName) -> Result<(), ServiceError> {
    if is_template(name) {
        template(connection, name).await?;
    } else {
        check_name(connection, change, name).await?;
    }
    let is_installed = link(connection, change, &unit_name(name)).await;
    let is_installed = is_installed.map_err(|error| Refusal::of(change, name, error))?;
    call(connection, "Reload", &()).await.map_err(|error| Refusal::of(change, name, error))?;
    if is_installed {
        return Ok(());
    }
    let why = "its file has no [Install] section; it is started by what needs it";
    Err(failed(change, name, why, String::new()))
}

/// Makes or removes the links by which a unit is started, for good. Gives whether the unit's file says what to link.
async fn link(connection: &Connection, change: Change, unit: &str) -> zbus::Result<bool> {
    let for_this_boot_only = false;
    if change == Change::Disable {
        call(connection, "DisableUnitFiles", &(&[unit][..], for_this_boot_only)).await?;
        return Ok(true);
    }
    let replace_links_of_others = false;
    let arguments = (&[unit][..], for_this_boot_only, replace_links_of_others);
    let answer = call(connection, "EnableUnitFiles", &arguments).await?;
    // What was changed (kind, link, target) is seen in the service's state.
    let (has_install_section, _): (bool, Vec<(String, String, String)>) = answer.body().deserialize()?;
    Ok(has_install_section)
}
