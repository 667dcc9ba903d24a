//! A systemd for one connection at a time, on the other end of a pair of sockets.

use std::future::poll_fn;
use std::ops::Deref;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use zbus::export::futures_core::Stream;
use zbus::message::Header;
use zbus::wire::Variant;
use zbus::{Connection, Guid, Message, MessageStream, ObjectPath, connection};

use super::super::Connect;
use crate::collector::linux::systemd::{MANAGER, MANAGER_PATH};

/// A unit, and what systemd says when it is asked to start or stop it.
#[derive(Debug)]
pub struct FakeUnit {
    pub name: &'static str,
    id: &'static str,
    load: &'static str,
    active: &'static str,
    file: &'static str,
    can_stop: bool,
    /// The result of a job, or the error that refuses it; absent: the job never ends.
    job: Option<Result<&'static str, &'static str>>,
}

const fn unit(name: &'static str, active: &'static str, job: Option<Result<&'static str, &'static str>>) -> FakeUnit {
    FakeUnit { name, id: name, load: "loaded", active, file: "enabled", can_stop: true, job }
}

const ONLY_BY_DEPENDENCY: &str = "org.freedesktop.systemd1.OnlyByDependency";

pub const UNITS: &[FakeUnit] = &[
    unit("nginx.service", "active", Some(Ok("done"))),
    FakeUnit { id: "nginx.service", ..unit("www.service", "active", Some(Ok("done"))) },
    FakeUnit { can_stop: false, file: "static", ..unit("dbus.service", "active", Some(Err(ONLY_BY_DEPENDENCY))) },
    FakeUnit { load: "masked", ..unit("cron.service", "inactive", Some(Err("org.freedesktop.systemd1.UnitMasked"))) },
    FakeUnit { file: "static", ..unit("static.service", "inactive", Some(Ok("done"))) },
    unit("broken.service", "failed", Some(Ok("failed"))),
    unit("denied.service", "inactive", Some(Err("org.freedesktop.DBus.Error.AccessDenied"))),
    unit("hanging.service", "inactive", None),
];

const NOTHING: FakeUnit = FakeUnit { load: "not-found", file: "", ..unit("nothing.service", "inactive", None) };

/// What systemd was asked.
#[derive(Clone)]
pub struct Calls(Arc<Mutex<Vec<String>>>, watch::Sender<String>);

impl Deref for Calls {
    type Target = Mutex<Vec<String>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Calls {
    /// Waits until systemd was asked this.
    pub async fn started(&self, call: &str) {
        self.1.subscribe().wait_for(|last| last == call).await.unwrap();
    }

    fn note(&self, call: String) {
        self.0.lock().unwrap().push(call.clone());
        self.1.send_replace(call);
    }
}

/// How to connect to a systemd that knows these units, and what it was asked.
pub fn fake_systemd(units: &'static [FakeUnit]) -> (Calls, Connect) {
    let calls = Calls(Arc::default(), watch::Sender::new(String::new()));
    let noted = calls.clone();
    let connect = move || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        tokio::spawn(serve(theirs, units, noted.clone()));
        connection::Builder::unix_stream(ours).p2p()
    };
    (calls, Arc::new(connect))
}

async fn serve(stream: UnixStream, units: &'static [FakeUnit], calls: Calls) {
    let server = connection::Builder::unix_stream(stream).server(Guid::generate()).p2p();
    let connection = server.build().await.unwrap();
    let mut inbound = MessageStream::from(&connection);
    while let Some(Ok(call)) = poll_fn(|context| Pin::new(&mut inbound).poll_next(context)).await {
        Answer { connection: &connection, call: &call, units, calls: &calls }.give().await.unwrap();
    }
}

struct Answer<'a> {
    connection: &'a Connection,
    call: &'a Message,
    units: &'static [FakeUnit],
    calls: &'a Calls,
}

impl Answer<'_> {
    async fn give(&self) -> zbus::Result<()> {
        let header = self.call.header();
        let member = header.member().unwrap().as_str().to_owned();
        match member.as_str() {
            "Subscribe" | "Reload" => self.done(&header, member).await,
            "Get" => self.property(&header).await,
            "LoadUnit" => self.load(&header).await,
            "GetUnitFileState" => self.file_state(&header).await,
            "StartUnit" | "StopUnit" | "RestartUnit" => self.job(&header, &member).await,
            "EnableUnitFiles" => self.enable(&header).await,
            "DisableUnitFiles" => self.disable(&header).await,
            other => panic!("systemd was asked for {other:?}"),
        }
    }

    fn find(&self, name: &str) -> &'static FakeUnit {
        self.units.iter().find(|unit| unit.name == name).unwrap_or(&NOTHING)
    }

    async fn done(&self, header: &Header<'_>, member: String) -> zbus::Result<()> {
        self.calls.note(member);
        self.connection.reply(header, &()).await
    }

    async fn load(&self, header: &Header<'_>) -> zbus::Result<()> {
        let (name,): (String,) = self.call.body().deserialize()?;
        self.calls.note(format!("LoadUnit {name}"));
        let path = format!("/unit/{}", name.replace('.', "_2e"));
        self.connection.reply(header, &ObjectPath::try_from(path).unwrap()).await
    }

    async fn property(&self, header: &Header<'_>) -> zbus::Result<()> {
        let (_, property): (String, String) = self.call.body().deserialize()?;
        let path = header.path().unwrap().as_str().replace("_2e", ".");
        let unit = self.find(path.strip_prefix("/unit/").unwrap());
        let value = match property.as_str() {
            "Id" => Variant::from(unit.id),
            "Description" => Variant::from(format!("What {} is", unit.id)),
            "LoadState" => Variant::from(unit.load),
            "ActiveState" => Variant::from(unit.active),
            "UnitFileState" => Variant::from(unit.file),
            "CanStart" => Variant::from(true),
            "CanStop" => Variant::from(unit.can_stop),
            "MainPID" => Variant::from(if unit.active == "active" { 612_u32 } else { 0 }),
            other => panic!("a unit was asked for {other:?}"),
        };
        self.connection.reply(header, &value).await
    }

    async fn file_state(&self, header: &Header<'_>) -> zbus::Result<()> {
        let (name,): (String,) = self.call.body().deserialize()?;
        match name.as_str() {
            "getty@.service" => self.connection.reply(header, &"enabled").await,
            _ => self.connection.reply_error(header, "org.freedesktop.DBus.Error.FileNotFound", &"no file").await,
        }
    }

    /// Ends jobs of others, too: one before the answer, and one of the same unit behind it.
    async fn job(&self, header: &Header<'_>, member: &str) -> zbus::Result<()> {
        let (name, mode): (String, String) = self.call.body().deserialize()?;
        let result = match self.find(&name).job {
            Some(Err("org.freedesktop.DBus.Error.AccessDenied")) => {
                let error = "org.freedesktop.DBus.Error.AccessDenied";
                return self.connection.reply_error(header, error, &"Access denied").await;
            }
            Some(Err(error)) => return self.connection.reply_error(header, error, &"Operation refused").await,
            Some(Ok(result)) => Some(result),
            None => None,
        };
        self.ended(1, "other.service", "failed").await?;
        self.connection.reply(header, &ObjectPath::try_from("/job/7").unwrap()).await?;
        self.ended(6, &name, "canceled").await?;
        self.calls.note(format!("{member} {name} {mode}"));
        match result {
            Some(result) => self.ended(7, &name, result).await,
            None => Ok(()),
        }
    }

    async fn ended(&self, number: u32, unit: &str, result: &str) -> zbus::Result<()> {
        let job = ObjectPath::try_from(format!("/job/{number}")).unwrap();
        let nobody_in_particular = None::<&str>;
        let body = (number, job, unit, result);
        self.connection.emit_signal(nobody_in_particular, MANAGER_PATH, MANAGER, "JobRemoved", &body).await
    }

    async fn enable(&self, header: &Header<'_>) -> zbus::Result<()> {
        let (files, runtime, force): (Vec<String>, bool, bool) = self.call.body().deserialize()?;
        assert_eq!((runtime, force), (false, false));
        self.calls.note(format!("EnableUnitFiles {}", files.join(" ")));
        let has_install_section = self.find(&files[0]).file != "static";
        self.connection.reply(header, &(has_install_section, Vec::<(String, String, String)>::new())).await
    }

    async fn disable(&self, header: &Header<'_>) -> zbus::Result<()> {
        let (files, runtime): (Vec<String>, bool) = self.call.body().deserialize()?;
        assert!(!runtime);
        self.calls.note(format!("DisableUnitFiles {}", files.join(" ")));
        self.connection.reply(header, &Vec::<(String, String, String)>::new()).await
    }
}
