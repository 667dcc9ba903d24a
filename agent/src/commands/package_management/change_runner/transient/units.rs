//! Transient services of systemd: see org.freedesktop.systemd1(5), StartTransientUnit, and systemd.service(5).

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use tokio::time::timeout;
use zbus::wire::Variant;
use zbus::{Connection, OwnedObjectPath, connection};

use crate::collector::linux::systemd::property;
use crate::commands::system_bus::job::{Job, Removed, call};
use crate::commands::system_bus::{Asked, BusError};

/// For one answer of systemd's.
const DEADLINE: Duration = Duration::from_secs(10);

/// Nobody waits for a unit of this name yet.
const FAIL: &str = "fail";

/// A service that is to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransientUnit {
    /// Its name, with `.service`.
    pub name: String,
    /// For people.
    pub description: String,
    /// The program.
    pub path: PathBuf,
    /// Its arguments, without its own name.
    pub arguments: Vec<String>,
    /// How long it may take to end once it has been asked to.
    pub stop_time: Duration,
}

/// Waits until the program of a unit has ended.
pub type Over = Pin<Box<dyn Future<Output = Result<(), BusError>> + Send>>;

/// Where transient services run. Tests pass one that starts none.
pub trait Units: Send + Sync {
    /// Starts a unit.
    fn start(&self, unit: TransientUnit) -> Asked<'_, Over>;
    /// Waits until the program of a unit has ended; at once where there is no such unit.
    fn over(&self, name: String) -> Over;
    /// Asks the main process of a unit to end.
    fn terminate(&self, name: String) -> Over;
}

/// The systemd of this machine. What waits for a unit keeps its connection as long; there is one unit at a time.
#[derive(Clone, Debug)]
pub struct Systemd {
    connect: fn() -> connection::Builder<'static>,
    /// There where systemd runs the machine: the same test as sd_booted(3).
    marker: PathBuf,
}

impl Default for Systemd {
    fn default() -> Self {
        Self { connect: connection::Builder::system, marker: "/run/systemd/system".into() }
    }
}

impl Systemd {
    async fn connection(&self) -> Result<Connection, BusError> {
        if !Path::new(&self.marker).is_dir() {
            return Err(BusError::NoSystemd);
        }
        within((self.connect)().build()).await
    }
}

impl Units for Systemd {
    fn start(&self, unit: TransientUnit) -> Asked<'_, Over> {
        Box::pin(async move {
            let connection = self.connection().await?;
            let job = within(start(&connection, &unit)).await?;
            let over: Over = Box::pin(async move {
                // However the program has ended: what it came to is not systemd's to say.
                let result = job.ended().await.map_err(failed)?;
                tracing::debug!(unit = unit.name, result, "the unit of a change is over");
                drop(connection);
                Ok(())
            });
            Ok(over)
        })
    }

    fn over(&self, name: String) -> Over {
        let this = self.clone();
        Box::pin(async move { over(&this.connection().await?, &name).await })
    }

    fn terminate(&self, name: String) -> Over {
        let this = self.clone();
        Box::pin(async move { terminate(&this.connection().await?, &name).await })
    }
}

async fn within<T>(answer: impl Future<Output = zbus::Result<T>>) -> Result<T, BusError> {
    let answer = timeout(DEADLINE, answer).await;
    answer
        .map_err(|_| BusError::Failed(format!("no answer over D-Bus within {} s", DEADLINE.as_secs())))?
        .map_err(failed)
}

fn failed(error: zbus::Error) -> BusError {
    BusError::Failed(error.to_string())
}

/// A service of type oneshot: its job of starting is over when its program has ended.
async fn start(connection: &Connection, unit: &TransientUnit) -> zbus::Result<Job> {
    let path = unit.path.to_string_lossy().into_owned();
    let mut line = vec![path.clone()];
    line.extend(unit.arguments.iter().cloned());
    let may_fail = false;
    let text = |text: &str| Variant::from(text.to_owned());
    let stop_time = u64::try_from(unit.stop_time.as_micros()).unwrap_or(u64::MAX);
    let properties: Vec<(&str, Variant<'_>)> = vec![
        ("Description", text(&unit.description)),
        ("Type", text("oneshot")),
        ("ExecStart", Variant::from(vec![(path, line, may_fail)])),
        // One that has failed is not kept: its result is told elsewhere.
        ("CollectMode", text("inactive-or-failed")),
        // The keeper ends what it started in its own order.
        ("KillMode", text("mixed")),
        ("TimeoutStopUSec", Variant::from(stop_time)),
    ];
    let no_other_units: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
    let arguments = (unit.name.as_str(), FAIL, properties, no_other_units);
    Job::start(connection, "StartTransientUnit", &unit.name, &arguments).await
}

async fn over(connection: &Connection, name: &str) -> Result<(), BusError> {
    let mut removed = within(Removed::listen(connection, name)).await?;
    while within(is_activating(connection, name)).await? {
        removed.next().await.map_err(failed)?;
    }
    Ok(())
}

async fn terminate(connection: &Connection, name: &str) -> Result<(), BusError> {
    let sigterm = 15_i32;
    within(call(connection, "KillUnit", &(name, "main", sigterm))).await.map(drop)
}

/// Whether the program of a oneshot unit runs.
async fn is_activating(connection: &Connection, name: &str) -> zbus::Result<bool> {
    const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
    let object: OwnedObjectPath = match call(connection, "GetUnit", &(name,)).await {
        Ok(answer) => answer.body().deserialize()?,
        Err(zbus::Error::MethodError(error, ..)) if error.as_str() == NO_SUCH_UNIT => return Ok(false),
        Err(error) => return Err(error),
    };
    match property::<String>(connection, &object, "org.freedesktop.systemd1.Unit", "ActiveState").await {
        Ok(state) => Ok(state == "activating"),
        // It was unloaded in between.
        Err(zbus::Error::MethodError(..) | zbus::Error::FDO(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
