use std::future::poll_fn;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::thread;

use zbus::export::futures_core::Stream;
use zbus::{Guid, Message, MessageStream, ObjectPath};

use super::*;

/// What was called, in order.
type Calls = Arc<Mutex<Vec<String>>>;

/// How logind answers: with which error, and whether it runs.
type Logind = (&'static str, bool);

const NOT_INSTALLED: Logind = ("org.freedesktop.DBus.Error.ServiceUnknown", false);
/// What dbus-daemon 1.14 and systemd 252 say together.
const MASKED: Logind = ("org.freedesktop.DBus.Error.FileExists", false);
const INHIBITED: Logind = ("org.freedesktop.login1.BlockedByInhibitorLock", true);

/// The services of a machine on the other end of a connection of two.
fn services() -> (connection::Builder<'static>, Calls) {
    services_with(NOT_INSTALLED)
}

fn services_with(logind: Logind) -> (connection::Builder<'static>, Calls) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let calls = Calls::default();
    let record = Arc::clone(&calls);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(serve(theirs, &record, logind)).unwrap();
    });
    (connection::Builder::unix_stream(ours).p2p(), calls)
}

async fn serve(stream: UnixStream, record: &Mutex<Vec<String>>, logind: Logind) -> zbus::Result<()> {
    let connection = connection::Builder::unix_stream(stream).server(Guid::generate()).p2p().build().await?;
    let mut calls = MessageStream::from(&connection);
    while let Some(Ok(call)) = poll_fn(|context| Pin::new(&mut calls).poll_next(context)).await {
        answer(&connection, &call, record, logind).await?;
    }
    Ok(())
}

fn path(path: &str) -> OwnedObjectPath {
    ObjectPath::try_from(path.to_owned()).unwrap().into()
}

async fn answer(
    connection: &Connection,
    call: &Message,
    record: &Mutex<Vec<String>>,
    logind: Logind,
) -> zbus::Result<()> {
    let header = call.header();
    let interface = header.interface().map(|name| name.to_string()).unwrap_or_default();
    let member = header.member().map(|name| name.to_string()).unwrap_or_default();
    record.lock().unwrap().push(format!("{} {member}", interface.rsplit('.').nth(1).unwrap_or_default()));
    match (interface.as_str(), member.as_str()) {
        (_, "ListUnitsFiltered") => {
            let states: Vec<String> = call.body().deserialize()?;
            assert_eq!(states, ["failed"]);
            let text = str::to_owned;
            let [object, none] = [path("/unit/a"), path("/")];
            let row: UnitRow =
                (text("a.mount"), text(""), text(""), text(""), text(""), text(""), object, 0, text(""), none);
            connection.reply(&header, &vec![row]).await?;
        }
        (_, "Get") => {
            let (service, property): (String, String) = call.body().deserialize()?;
            assert_eq!((service.as_str(), property.as_str()), ("org.freedesktop.timedate1", "NTPSynchronized"));
            connection.reply(&header, &Variant::Bool(true)).await?;
        }
        ("org.freedesktop.login1.Manager", "Reboot" | "PowerOff") => {
            connection.reply_error(&header, logind.0, &"no").await?;
        }
        (_, "NameHasOwner") => {
            assert_eq!(call.body().deserialize::<String>()?, "org.freedesktop.login1");
            connection.reply(&header, &logind.1).await?;
        }
        (_, "StartUnit") => {
            let (unit, mode): (String, String) = call.body().deserialize()?;
            assert_eq!(mode, "replace-irreversibly");
            record.lock().unwrap().push(unit);
            connection.reply(&header, &path("/job/9")).await?;
        }
        _ => connection.reply(&header, &()).await?,
    }
    Ok(())
}

#[tokio::test]
async fn failed_units_are_of_every_type() {
    assert_eq!(failed_units(services().0).await.unwrap(), ["a.mount"]);
}

#[tokio::test]
async fn timedated_tells_of_the_clock() {
    assert!(is_clock_synchronized(services().0).await.unwrap());
}

#[tokio::test]
async fn without_logind_it_is_a_target_and_by_force_at_once() {
    for (logind, down, expected) in [
        (NOT_INSTALLED, Down::Reboot { force: false }, &["login1 Reboot", "reboot.target"][..]),
        (MASKED, Down::PowerOff, &["login1 PowerOff", "poweroff.target"]),
        (MASKED, Down::Reboot { force: true }, &["systemd1 Reboot"]),
    ] {
        let (builder, calls) = services_with(logind);
        go_down(builder, down).await.unwrap();
        let calls = calls.lock().unwrap();
        let told = calls.iter().filter(|call| !call.ends_with("NameHasOwner") && !call.ends_with("StartUnit"));
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn a_logind_that_refuses_is_not_passed_over() {
    let (builder, calls) = services_with(INHIBITED);
    go_down(builder, Down::PowerOff).await.unwrap_err();
    assert!(!calls.lock().unwrap().iter().any(|call| call.contains("StartUnit")), "{calls:?}");
}
