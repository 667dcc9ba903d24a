use std::future::poll_fn;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use zbus::export::futures_core::Stream;
use zbus::{Guid, Message, MessageStream, ObjectPath, OwnedObjectPath};

use super::*;
use crate::collector::linux::systemd::{MANAGER, MANAGER_PATH};

type Calls = Arc<Mutex<Vec<String>>>;

fn path(path: &str) -> OwnedObjectPath {
    ObjectPath::try_from(path.to_owned()).unwrap().into()
}

/// A systemd on the other end of a connection of two, in which the unit `runs.service` runs until it was asked of twice.
async fn systemd() -> (Connection, Calls) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let calls = Calls::default();
    tokio::spawn(serve(theirs, Arc::clone(&calls)));
    (connection::Builder::unix_stream(ours).p2p().build().await.unwrap(), calls)
}

async fn serve(stream: UnixStream, calls: Calls) {
    let server = connection::Builder::unix_stream(stream).server(Guid::generate()).p2p();
    let connection = server.build().await.unwrap();
    let mut inbound = MessageStream::from(&connection);
    while let Some(Ok(call)) = poll_fn(|context| Pin::new(&mut inbound).poll_next(context)).await {
        answer(&connection, &call, &calls).await.unwrap();
    }
}

type Property = (String, zbus::wire::OwnedVariant);

/// Name, mode, properties, and the units that are to be started beside it.
type Transient = (String, String, Vec<Property>, Vec<(String, Vec<Property>)>);

async fn answer(connection: &Connection, call: &Message, calls: &Calls) -> zbus::Result<()> {
    let header = call.header();
    let member = header.member().unwrap().as_str().to_owned();
    match member.as_str() {
        "StartTransientUnit" => {
            let (name, mode, properties, _): Transient = call.body().deserialize()?;
            let names: Vec<&str> = properties.iter().map(|(name, _)| name.as_str()).collect();
            calls.lock().unwrap().push(format!("{member} {name} {mode} {}", names.join(" ")));
            let removed = (1_u32, path("/job/1"), name, "failed");
            connection.emit_signal(None::<&str>, MANAGER_PATH, MANAGER, "JobRemoved", &removed).await?;
            connection.reply(&header, &path("/job/1")).await
        }
        "GetUnit" => {
            let name: String = call.body().deserialize()?;
            if name == "runs.service" {
                return connection.reply(&header, &path("/unit/runs")).await;
            }
            connection.reply_error(&header, "org.freedesktop.systemd1.NoSuchUnit", &"not loaded").await
        }
        "Get" => {
            let is_first = !calls.lock().unwrap().contains(&member);
            calls.lock().unwrap().push(member);
            connection.reply(&header, &Variant::from(if is_first { "activating" } else { "inactive" })).await?;
            let removed = (1_u32, path("/job/1"), "runs.service", "done");
            connection.emit_signal(None::<&str>, MANAGER_PATH, MANAGER, "JobRemoved", &removed).await
        }
        "KillUnit" => {
            let (name, who, signal): (String, String, i32) = call.body().deserialize()?;
            calls.lock().unwrap().push(format!("{member} {name} {who} {signal}"));
            connection.reply(&header, &()).await
        }
        _ => connection.reply(&header, &()).await,
    }
}

fn unit() -> TransientUnit {
    TransientUnit {
        name: "a.service".to_owned(),
        description: "a change".to_owned(),
        path: "/usr/local/bin/infiniservice".into(),
        arguments: vec!["__keep-change".to_owned(), "/a folder".to_owned()],
        stop_time: Duration::from_secs(3),
    }
}

#[tokio::test]
async fn a_unit_is_over_when_its_job_of_starting_is() {
    let (connection, calls) = systemd().await;
    let job = start(&connection, &unit()).await.unwrap();
    assert_eq!(job.ended().await.unwrap(), "failed");
    let expected = "StartTransientUnit a.service fail Description Type ExecStart CollectMode KillMode TimeoutStopUSec";
    assert_eq!(*calls.lock().unwrap(), [expected]);
}

#[tokio::test]
async fn a_unit_that_runs_is_waited_for_and_one_that_is_gone_is_not() {
    let (connection, calls) = systemd().await;
    over(&connection, "gone.service").await.unwrap();
    assert!(calls.lock().unwrap().is_empty());
    over(&connection, "runs.service").await.unwrap();
    assert_eq!(*calls.lock().unwrap(), ["Get", "Get"]);
}

#[tokio::test]
async fn only_the_keeper_is_asked_to_end() {
    let (connection, calls) = systemd().await;
    terminate(&connection, "runs.service").await.unwrap();
    assert_eq!(*calls.lock().unwrap(), ["KillUnit runs.service main 15"]);
}

#[tokio::test]
async fn a_machine_without_systemd_says_so() {
    let systemd = Systemd { marker: "/nowhere".into(), ..Systemd::default() };
    assert!(matches!(systemd.start(unit()).await.map(drop), Err(BusError::NoSystemd)));
    assert_eq!(systemd.over("a.service".to_owned()).await, Err(BusError::NoSystemd));
}
