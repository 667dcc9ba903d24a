//! The link over a local socket, and the host at its other end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use infiniservice::communication::{Endpoint, LinkEvent, LinkSettings, VirtioSerial};

/// More than a loaded machine needs for anything here; what takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub async fn next(link: &mut VirtioSerial) -> LinkEvent {
    tokio::time::timeout(PATIENCE, link.next_event()).await.expect("no event came")
}

/// Runs the link until `wanted` sees what it waits for.
pub async fn until<T>(link: &mut VirtioSerial, mut wanted: impl FnMut(&LinkEvent) -> Option<T>) -> T {
    let mut seen = Vec::new();
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            let event = link.next_event().await;
            if let Some(found) = wanted(&event) {
                return found;
            }
            seen.push(event);
        }
    });
    let found = found.await;
    found.unwrap_or_else(|_| panic!("only these events came: {seen:?}"))
}

pub async fn attached(link: &mut VirtioSerial) {
    until(link, |event| matches!(event, LinkEvent::HostAttached).then_some(())).await;
}

/// Runs the link while the host side does `work`.
pub async fn while_running<T>(link: &mut VirtioSerial, work: impl Future<Output = T>) -> T {
    let both = async {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = link.next_event() => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, both).await.expect("the host side got no answer")
}

pub fn link(endpoint: Endpoint) -> VirtioSerial {
    VirtioSerial::spawn(LinkSettings { endpoint: Some(endpoint), ..LinkSettings::default() })
}

pub fn listening(folder: &Path) -> (VirtioSerial, PathBuf) {
    let path = folder.join("agent.sock");
    (link(Endpoint::UnixListen(path.clone())), path)
}

pub async fn opened(link: &mut VirtioSerial) {
    let event = next(link).await;
    assert!(matches!(event, LinkEvent::Opened { .. }), "{event:?}");
}
