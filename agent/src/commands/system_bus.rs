//! What is asked of systemd and its like over D-Bus: see org.freedesktop.systemd1(5), org.freedesktop.login1(5) and
//! org.freedesktop.timedate1(5).

pub mod job;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::timeout;
use zbus::wire::Variant;
use zbus::{Connection, OwnedObjectPath, connection};

use super::power::Down;

/// An answer that is on its way.
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, BusError>> + Send + 'a>>;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Another init system runs this machine.
    #[error("systemd does not run this machine")]
    NoSystemd,
    /// It was asked and did not do its part.
    #[error("{0}")]
    Failed(String),
}

/// The services that a command asks. Tests pass one that answers from a list.
pub trait SystemBus: Send + Sync {
    /// Names of all units, of any type, that have failed.
    fn failed_units(&self) -> Asked<'_, Vec<String>>;
    /// Whether a time service keeps the kernel's clock: timedated reads what adjtimex(2) says.
    fn is_clock_synchronized(&self) -> Asked<'_, bool>;
    /// Whether a service of this name is on the bus. Asking does not start it.
    fn has_owner(&self, name: &'static str) -> Asked<'_, bool>;
    /// Has the machine go down.
    fn go_down(&self, down: Down) -> Asked<'_, ()>;
}

/// For connecting and one answer. timedated has to be started first.
const DEADLINE: Duration = Duration::from_secs(10);

const SYSTEMD: (&str, &str, &str) =
    ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager");
const LOGIND: (&str, &str, &str) =
    ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager");
const TIMEDATED: (&str, &str, &str) =
    ("org.freedesktop.timedate1", "/org/freedesktop/timedate1", "org.freedesktop.DBus.Properties");
const BUS: (&str, &str, &str) = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus");

/// The system bus. Each question connects anew: they are seldom, and a connection that is kept wakes the agent for what the bus has to
/// say to everyone.
#[derive(Clone, Copy, Debug, Default)]
pub struct DBus;

impl DBus {
    fn builder() -> Result<connection::Builder<'static>, BusError> {
        // The same test as sd_booted(3).
        if !Path::new("/run/systemd/system").is_dir() {
            return Err(BusError::NoSystemd);
        }
        Ok(connection::Builder::system())
    }
}

impl SystemBus for DBus {
    fn failed_units(&self) -> Asked<'_, Vec<String>> {
        Box::pin(async { within(DEADLINE, failed_units(Self::builder()?)).await })
    }

    fn is_clock_synchronized(&self) -> Asked<'_, bool> {
        Box::pin(async { within(DEADLINE, is_clock_synchronized(Self::builder()?)).await })
    }

    fn has_owner(&self, name: &'static str) -> Asked<'_, bool> {
        Box::pin(async move { within(DEADLINE, has_owner(Self::builder()?, name)).await })
    }

    fn go_down(&self, down: Down) -> Asked<'_, ()> {
        Box::pin(async move { within(DEADLINE, go_down(Self::builder()?, down)).await })
    }
}

async fn within<T>(time: Duration, answer: impl Future<Output = zbus::Result<T>>) -> Result<T, BusError> {
    let answer = timeout(time, answer).await;
    let answer = answer.map_err(|_| BusError::Failed(format!("no answer over D-Bus within {} s", time.as_secs())))?;
    answer.map_err(|error| BusError::Failed(error.to_string()))
}

/// One row of `ListUnitsFiltered`; the first is the name.
type UnitRow = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

async fn failed_units(builder: connection::Builder<'static>) -> zbus::Result<Vec<String>> {
    let connection = builder.build().await?;
    let (service, path, interface) = SYSTEMD;
    let states: &[&str] = &["failed"];
    let answer = connection.call_method(Some(service), path, Some(interface), "ListUnitsFiltered", &(states,)).await?;
    let rows: Vec<UnitRow> = answer.body().deserialize()?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

async fn is_clock_synchronized(builder: connection::Builder<'static>) -> zbus::Result<bool> {
    let connection = builder.build().await?;
    let (service, path, properties) = TIMEDATED;
    let property = (service, "NTPSynchronized");
    let answer = connection.call_method(Some(service), path, Some(properties), "Get", &property).await?;
    match answer.body().deserialize::<Variant<'_>>()? {
        Variant::Bool(is_synchronized) => Ok(is_synchronized),
        _ => Err(zbus::Error::IncorrectType),
    }
}

async fn has_owner(builder: connection::Builder<'static>, name: &str) -> zbus::Result<bool> {
    is_owned(&builder.build().await?, name).await
}

async fn is_owned(connection: &Connection, name: &str) -> zbus::Result<bool> {
    let (service, path, interface) = BUS;
    let answer = connection.call_method(Some(service), path, Some(interface), "NameHasOwner", &name).await?;
    answer.body().deserialize()
}

/// logind first, which minds inhibitors (a package manager at work) and tells users. Where it does not run and cannot be started, because
/// it is not installed or masked, systemd's own target; one that runs and refuses has its reasons.
async fn go_down(builder: connection::Builder<'static>, down: Down) -> zbus::Result<()> {
    let connection = builder.build().await?;
    let (service, path, interface) = SYSTEMD;
    let (method, target) = match down {
        Down::Reboot { force: true } => {
            connection.call_method(Some(service), path, Some(interface), "Reboot", &()).await?;
            return Ok(());
        }
        Down::Reboot { force: false } => ("Reboot", "reboot.target"),
        Down::PowerOff => ("PowerOff", "poweroff.target"),
    };
    let (logind, at, manager) = LOGIND;
    match connection.call_method(Some(logind), at, Some(manager), method, &false).await {
        Err(_) if !is_owned(&connection, logind).await? => {
            let job = (target, "replace-irreversibly");
            connection.call_method(Some(service), path, Some(interface), "StartUnit", &job).await?;
            Ok(())
        }
        answer => answer.map(drop),
    }
}

#[cfg(test)]
mod tests;
