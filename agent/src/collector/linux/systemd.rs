//! Asking systemd over D-Bus. See org.freedesktop.systemd1(5).

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinSet;
use zbus::wire::Variant;
use zbus::{Connection, OwnedObjectPath, connection};

use super::service::{Unit, UnitFile, UnitSource, Units};
use super::unit_files;
use crate::collector::CollectFailure;

/// For everything: connecting, the list and the properties. A systemd that is busy booting takes its time; a sample does not wait
/// that long, and the answer goes into a later one.
const DEADLINE: Duration = Duration::from_secs(30);

/// How many properties are asked for at once: enough to hide the way there and back, few enough for systemd, which answers one after
/// another and has other things to do.
const AT_ONCE: usize = 16;

/// systemd's name on the bus.
pub const SERVICE: &str = "org.freedesktop.systemd1";
/// The object that knows all units.
pub const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
/// What that object can do.
pub const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// The systemd of this machine.
///
/// Each reading connects anew and closes the connection: services are read seldom, and a connection that is kept would hold its
/// buffers and wake the agent for what the bus has to say to everyone.
#[derive(Debug)]
pub struct Systemd;

impl UnitSource for Systemd {
    fn read(&mut self) -> Result<Units, CollectFailure> {
        // The same test as sd_booted(3).
        if !Path::new("/run/systemd/system").is_dir() {
            return Err(CollectFailure::Unsupported("systemd"));
        }
        read(connection::Builder::system(), Path::new("/"))
    }
}

/// Runs on the calling thread until all answers are there. A runtime of its own: the agent's must not wait for D-Bus. The files of
/// units are below `root`.
fn read(builder: connection::Builder<'static>, root: &Path) -> Result<Units, CollectFailure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failure)?;
    let answer = runtime.block_on(async { tokio::time::timeout(DEADLINE, ask(builder)).await });
    let answer = answer.map_err(|_| failure(format!("no answer within {} s", DEADLINE.as_secs())))?;
    let (units, load_path) = answer.map_err(failure)?;
    let files =
        unit_files::read(root, &load_path).map_err(|error| failure(format!("the files of its units: {error}")))?;
    Ok(Units { units, files })
}

fn failure(reason: impl ToString) -> CollectFailure {
    CollectFailure::Service { service: "systemd", reason: reason.to_string() }
}

/// What is loaded, and the folders from which it was.
async fn ask(builder: connection::Builder<'static>) -> zbus::Result<(Vec<Unit>, Vec<PathBuf>)> {
    let connection = builder.build().await?;
    let listed = list_units(&connection).await?;
    let units = add_main_pids(&connection, listed).await;
    let manager = OwnedObjectPath::try_from(MANAGER_PATH)?;
    let load_path: Vec<String> = property(&connection, &manager, MANAGER, "UnitPath").await?;
    connection.close().await?;
    Ok((units, load_path.into_iter().map(PathBuf::from).collect()))
}

/// All services that systemd knows, with what it says of their files. That keeps it busy for a while: see `unit_files.rs`.
///
/// # Errors
/// Where systemd does not answer, or not as it should.
pub async fn units(connection: &Connection) -> zbus::Result<Units> {
    let listed = list_units(connection).await?;
    let files = list_unit_files(connection).await?;
    let units = add_main_pids(connection, listed).await;
    Ok(Units { units, files })
}

/// One row of `ListUnitsByPatterns`: name, description, load, active and sub state, the unit it follows, its object, and the job that
/// is queued for it (number, type, object).
type UnitRow = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// No restriction to states, and services only.
const EVERY_SERVICE: (&[&str], &[&str]) = (&[], &["*.service"]);

async fn list_units(connection: &Connection) -> zbus::Result<Vec<(Unit, OwnedObjectPath)>> {
    let answer = connection
        .call_method(Some(SERVICE), MANAGER_PATH, Some(MANAGER), "ListUnitsByPatterns", &EVERY_SERVICE)
        .await?;
    let rows: Vec<UnitRow> = answer.body().deserialize()?;
    let unit = |(name, description, load_state, active_state, _, _, object, ..): UnitRow| {
        (Unit { name, description, load_state, active_state, main_pid: None }, object)
    };
    Ok(rows.into_iter().map(unit).collect())
}

async fn list_unit_files(connection: &Connection) -> zbus::Result<Vec<UnitFile>> {
    let answer = connection
        .call_method(Some(SERVICE), MANAGER_PATH, Some(MANAGER), "ListUnitFilesByPatterns", &EVERY_SERVICE)
        .await?;
    let rows: Vec<(String, String)> = answer.body().deserialize()?;
    let file = |(path, state): (String, String)| {
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        UnitFile { name, state }
    };
    Ok(rows.into_iter().map(file).collect())
}

/// Asks for the main process of every service that may have one, some at once. One that ends meanwhile has none.
async fn add_main_pids(connection: &Connection, listed: Vec<(Unit, OwnedObjectPath)>) -> Vec<Unit> {
    let mut units = Vec::with_capacity(listed.len());
    let mut asked = JoinSet::new();
    for (mut unit, object) in listed {
        if matches!(unit.active_state.as_str(), "inactive" | "failed") {
            units.push(unit);
            continue;
        }
        if asked.len() == AT_ONCE {
            units.extend(asked.join_next().await.and_then(Result::ok));
        }
        let connection = connection.clone();
        asked.spawn(async move {
            unit.main_pid = main_pid(&connection, &object).await;
            unit
        });
    }
    while let Some(unit) = asked.join_next().await {
        units.extend(unit.ok());
    }
    units
}

/// The main process of a service, where it has one.
pub async fn main_pid(connection: &Connection, unit: &OwnedObjectPath) -> Option<u32> {
    let pid: u32 = property(connection, unit, "org.freedesktop.systemd1.Service", "MainPID").await.ok()?;
    Some(pid).filter(|pid| *pid != 0)
}

/// A property of a unit.
///
/// # Errors
/// Where there is no such unit or property, or it is of another type.
pub async fn property<T>(connection: &Connection, unit: &OwnedObjectPath, of: &str, name: &str) -> zbus::Result<T>
where
    T: for<'v> TryFrom<Variant<'v>, Error: Into<zbus::Error>>,
{
    let answer = connection
        .call_method(Some(SERVICE), unit.as_ref(), Some("org.freedesktop.DBus.Properties"), "Get", &(of, name))
        .await?;
    T::try_from(answer.body().deserialize::<Variant<'_>>()?).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::os::unix::net::UnixStream;
    use std::pin::Pin;
    use std::thread;

    use zbus::export::futures_core::Stream;
    use zbus::{Guid, Message, MessageStream, ObjectPath};

    use super::*;

    const RUNNING: usize = 40;

    /// Answers as systemd does until the other side closes; returns how many properties were asked for.
    async fn fake_systemd(stream: UnixStream) -> zbus::Result<usize> {
        let guid = Guid::generate();
        let connection = connection::Builder::unix_stream(stream).server(guid).p2p().build().await?;
        let mut calls = MessageStream::from(&connection);
        let mut asked = 0;
        while let Some(call) = poll_fn(|context| Pin::new(&mut calls).poll_next(context)).await {
            let Ok(call) = call else { break };
            asked += usize::from(answer(&connection, &call).await?);
        }
        Ok(asked)
    }

    /// Whether a property was asked for.
    async fn answer(connection: &Connection, call: &Message) -> zbus::Result<bool> {
        let header = call.header();
        match header.member().map(|member| member.as_str()) {
            Some("ListUnitsByPatterns") => {
                let (states, patterns): (Vec<String>, Vec<String>) = call.body().deserialize()?;
                assert_eq!((states.len(), patterns), (0, vec!["*.service".to_owned()]));
                connection.reply(&header, &(0..=RUNNING).map(row).collect::<Vec<_>>()).await?;
            }
            Some("Get") if header.path().unwrap().as_str() == MANAGER_PATH => {
                let (interface, name): (String, String) = call.body().deserialize()?;
                assert_eq!((interface.as_str(), name.as_str()), (MANAGER, "UnitPath"));
                connection.reply(&header, &Variant::from(vec!["/etc/systemd/system", "/lib/systemd/system"])).await?;
            }
            Some("Get") => {
                let path = header.path().unwrap().as_str();
                let number: u32 = path.strip_prefix("/unit/").unwrap().parse().unwrap();
                if number == 1 {
                    connection.reply_error(&header, "org.freedesktop.DBus.Error.UnknownObject", &"gone").await?;
                } else {
                    connection.reply(&header, &Variant::U32(if number == 2 { 0 } else { 1000 + number })).await?;
                }
                return Ok(true);
            }
            other => panic!("systemd was asked for {other:?}"),
        }
        Ok(false)
    }

    /// The last one does not run.
    fn row(number: usize) -> UnitRow {
        let text = |text: &str| text.to_owned();
        let path = |path: String| OwnedObjectPath::from(ObjectPath::try_from(path).unwrap());
        let active = if number == RUNNING { "inactive" } else { "active" };
        let [name, object] = [format!("unit{number}.service"), format!("/unit/{number}")];
        (
            name,
            text("A unit"),
            text("loaded"),
            text(active),
            text("x"),
            text(""),
            path(object),
            0,
            text(""),
            path(text("/")),
        )
    }

    #[test]
    fn units_and_main_processes_come_over_the_bus_and_files_from_its_folders() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let systemd = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(fake_systemd(theirs))
        });
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("lib/systemd/system");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("unit0.service"), "[Install]\nWantedBy=multi-user.target\n").unwrap();
        let mut units = read(connection::Builder::unix_stream(ours).p2p(), root.path()).unwrap();
        assert_eq!(systemd.join().unwrap().unwrap(), RUNNING, "a property for each that runs and for no other");

        units.units.sort_by_key(|unit| (unit.name.len(), unit.name.clone()));
        let pids: Vec<Option<u32>> = units.units.iter().map(|unit| unit.main_pid).collect();
        assert_eq!(pids.len(), RUNNING + 1);
        assert_eq!(pids[..4], [Some(1000), None, None, Some(1003)], "one ended meanwhile, one has no main process");
        assert_eq!(pids[RUNNING], None);
        assert_eq!((units.units[3].active_state.as_str(), units.units[3].description.as_str()), ("active", "A unit"));
        let files: Vec<_> = units.files.iter().map(|file| (file.name.as_str(), file.state.as_str())).collect();
        assert_eq!(files, [("unit0.service", "disabled")]);
    }

    #[test]
    fn a_bus_that_closes_is_a_failure_with_a_reason() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let failure = read(connection::Builder::unix_stream(ours).p2p(), Path::new("/")).unwrap_err();
        assert!(failure.to_string().starts_with("systemd: "), "{failure}");
    }
}
