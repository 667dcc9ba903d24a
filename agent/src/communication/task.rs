//! The link's task: finds a port, serves it, and finds the next when it is lost.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Backoff;
use super::detect::{self, Candidate, Rank};
use super::endpoint::Endpoint;
use super::error::LinkError;
use super::exchange::Exchange;
use super::platform::{self, Listener, Port, Watch};
use super::session::{End, Session};
use super::{LinkEvent, LinkSettings, PortDescription};

/// How long a borrowed port that stayed silent is left to its owner.
const LEAVE_ALONE: Duration = Duration::from_secs(600);

/// The driver tells a port's name a moment after it made the node: until then another service's port looks unnamed.
const NAME_SETTLES: Duration = Duration::from_secs(2);

/// The link's task.
#[derive(Debug)]
pub struct LinkTask {
    settings: LinkSettings,
    exchange: Exchange,
    backoff: Backoff,
    /// Ports that are not opened before a time: unnamed ones that just appeared, borrowed ones that were silent.
    not_before: HashMap<PathBuf, Instant>,
    /// The failure that was told last; it is told again, but not as news.
    told: Option<&'static str>,
}

enum Opened {
    Port { port: Port, description: PortDescription },
    Listener { listener: Listener, description: PortDescription },
}

/// Why nothing could be opened, and when the next attempt makes sense where that is known.
struct Failure {
    error: Option<LinkError>,
    next: Option<Instant>,
}

impl Failure {
    /// The best candidate's reason is the one worth telling; the earliest time counts, and only where each has one.
    fn of_all(failures: Vec<Self>) -> Option<Self> {
        failures.into_iter().reduce(|best, other| Self {
            error: best.error.or(other.error),
            next: best.next.zip(other.next).map(|(one, another)| one.min(another)),
        })
    }
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        Self { error: Some(error), next: None }
    }
}

impl LinkTask {
    /// A task that has not begun.
    pub fn new(settings: LinkSettings, exchange: Exchange) -> Self {
        Self { settings, exchange, backoff: Backoff::default(), not_before: HashMap::new(), told: None }
    }

    /// Runs until the service wants no link any more.
    pub async fn run(mut self) {
        let mut pause = None;
        while let Some((opened, watch)) = self.connect(pause).await {
            self.told = None;
            self.backoff.opened(Instant::now().into_std());
            let Some(next) = self.serve(opened, watch).await else { return };
            pause = Some(next);
        }
    }

    /// Tries until something opens; waits for `pause` first. `None`: the service is gone.
    async fn connect(&mut self, pause: Option<Duration>) -> Option<(Opened, Option<Watch>)> {
        // Watching begins before the first look, so that nothing can appear unseen between the two.
        let mut watch = self.watch();
        let mut retry_at = Instant::now();
        if let Some(pause) = pause {
            retry_at += pause;
            self.exchange.meanwhile(retry_or_change(retry_at, &mut watch)).await?;
        }
        loop {
            self.exchange.flush().await?;
            let failure = match self.open().await {
                Ok(opened) => return Some((opened, watch)),
                Err(failure) => failure,
            };
            let now = Instant::now();
            if let Some(next) = failure.next {
                retry_at = next;
            } else if retry_at <= now {
                retry_at = now + self.backoff.wait(now.into_std(), random());
            }
            if let Some(error) = failure.error {
                self.tell_failure(error, retry_at.saturating_duration_since(now));
            }
            self.exchange.meanwhile(retry_or_change(retry_at, &mut watch)).await?;
        }
    }

    fn tell_failure(&mut self, error: LinkError, retry_in: Duration) {
        let first = self.told.replace(error.error_type()) != Some(error.error_type());
        self.exchange.tell(LinkEvent::Unavailable { error, retry_in, first });
    }

    /// Notice of what appears where the endpoint would be. Without it (the limit of watches is spent) the retries still find it.
    fn watch(&self) -> Option<Watch> {
        match &self.settings.endpoint {
            None => Watch::ports(&self.settings.roots).ok(),
            Some(Endpoint::Device(path) | Endpoint::Unix(path) | Endpoint::UnixListen(path)) => Watch::file(path).ok(),
            Some(Endpoint::Vsock { .. }) => None,
        }
    }

    async fn open(&mut self) -> Result<Opened, Failure> {
        let Some(endpoint) = self.settings.endpoint.clone() else { return self.open_detected() };
        let mut description = PortDescription { endpoint: endpoint.clone(), name: None, borrowed: false };
        let port = match &endpoint {
            Endpoint::Device(path) => {
                let (name, borrowed) = self.claim_configured(path)?;
                description = PortDescription { name, borrowed, ..description };
                platform::open_device(path, &self.settings.roots)?
            }
            Endpoint::Unix(path) => platform::connect_unix(path)?,
            Endpoint::Vsock { cid, port } => platform::connect_vsock(*cid, *port).await?,
            Endpoint::UnixListen(path) => {
                return Ok(Opened::Listener { listener: Listener::bind(path)?, description });
            }
        };
        Ok(Opened::Port { port, description })
    }

    /// The name of a port that the configuration names, and whether it is borrowed. What the driver has not told yet may be another
    /// service's name.
    fn claim_configured(&mut self, path: &Path) -> Result<(Option<String>, bool), Failure> {
        let (roots, now) = (&self.settings.roots, Instant::now());
        self.not_before.retain(|path, _| path.exists());
        let (name, rank) = detect::judge_configured(roots, path, self.settings.borrow)?;
        let unnamed = name.is_none() && detect::is_port(roots, path);
        if unnamed {
            self.let_name_settle(path, now);
        }
        let borrowed = rank != Rank::Named;
        if unnamed || borrowed {
            self.await_turn(path, now)?;
        }
        Ok((name, borrowed))
    }

    fn open_detected(&mut self) -> Result<Opened, Failure> {
        let survey = detect::survey(&self.settings.roots, self.settings.borrow);
        let now = Instant::now();
        self.not_before.retain(|path, _| survey.facts.ports.iter().any(|port| port.path == *path));
        let mut failures = Vec::new();
        for candidate in &survey.candidates {
            match self.open_candidate(candidate, now) {
                Ok(port) => return Ok(Opened::Port { port, description: describe(candidate) }),
                Err(failure) => failures.push(failure),
            }
        }
        Err(Failure::of_all(failures).unwrap_or_else(|| survey.why_none().into()))
    }

    fn open_candidate(&mut self, candidate: &Candidate, now: Instant) -> Result<Port, Failure> {
        if candidate.name.is_none() {
            self.let_name_settle(&candidate.path, now);
        }
        if candidate.borrowed() {
            self.await_turn(&candidate.path, now)?;
        }
        Ok(platform::open_device(&candidate.path, &self.settings.roots)?)
    }

    fn let_name_settle(&mut self, path: &Path, now: Instant) {
        self.not_before.entry(path.to_owned()).or_insert(now + NAME_SETTLES);
    }

    /// Refuses a port whose time has not come.
    fn await_turn(&self, path: &Path, now: Instant) -> Result<(), Failure> {
        match self.not_before.get(path) {
            Some(&next) if next > now => Err(Failure { error: None, next: Some(next) }),
            _ => Ok(()),
        }
    }

    /// Serves what was opened until it is lost, and says how long to wait then. `None`: the service wants no link any more.
    async fn serve(&mut self, opened: Opened, watch: Option<Watch>) -> Option<Duration> {
        match opened {
            Opened::Port { port, description } => {
                self.exchange.tell(LinkEvent::Opened { port: description.clone() });
                let error = self.serve_port(port, &description, watch).await?;
                Some(self.closed(error))
            }
            Opened::Listener { listener, description } => {
                self.exchange.tell(LinkEvent::Opened { port: description.clone() });
                let error = self.serve_listener(&listener, watch, &description.endpoint).await?;
                Some(self.closed(error))
            }
        }
    }

    fn closed(&mut self, error: LinkError) -> Duration {
        let pause = match error {
            LinkError::NamedPortAppeared { .. } | LinkError::Silent { .. } => Duration::ZERO,
            LinkError::Gone { .. } => Backoff::vanished(random()),
            _ => self.backoff.wait(Instant::now().into_std(), random()),
        };
        self.exchange.tell(LinkEvent::Closed { error });
        pause
    }

    async fn serve_port(
        &mut self,
        port: Port,
        description: &PortDescription,
        watch: Option<Watch>,
    ) -> Option<LinkError> {
        let endpoint = &description.endpoint;
        let mut session = match Session::new(port, description.borrowed, self.settings.max_line_bytes) {
            Ok(session) => session,
            Err(source) => return Some(LinkError::Io { what: format!("watching {endpoint}"), source }),
        };
        // A port of our own stays ours; for another one it matters who comes.
        let mut watch = match (description.borrowed, &self.settings.endpoint) {
            (false, _) => None,
            (true, None) => watch,
            (true, Some(_)) => Watch::ports(&self.settings.roots).ok(),
        };
        loop {
            return Some(match session.run(&mut self.exchange, watch.as_mut()).await {
                End::Stopped => return None,
                End::PortsChanged => match self.lost_claim(&endpoint.path()) {
                    Some(reason) => reason,
                    None => continue,
                },
                End::Silent => {
                    self.not_before.insert(endpoint.path(), Instant::now() + LEAVE_ALONE);
                    LinkError::Silent { path: endpoint.path() }
                }
                End::Closed => match endpoint {
                    Endpoint::Device(path) => {
                        // What comes back under this path is another port, whose name is to be waited for again.
                        self.not_before.remove(path);
                        LinkError::Gone { path: path.clone() }
                    }
                    socket => LinkError::HostClosed { endpoint: socket.to_string() },
                },
                End::Failed(source) => LinkError::Io { what: endpoint.to_string(), source },
            });
        }
    }

    /// Why a borrowed port is to be given back, if it is.
    fn lost_claim(&self, path: &Path) -> Option<LinkError> {
        let (roots, borrow) = (&self.settings.roots, self.settings.borrow);
        if self.settings.endpoint.is_some() {
            return detect::judge_configured(roots, path, borrow).err();
        }
        let survey = detect::survey(roots, borrow);
        if survey.chosen().is_some_and(|chosen| !chosen.borrowed()) {
            return Some(LinkError::NamedPortAppeared { path: path.to_owned() });
        }
        survey.rejected.into_iter().find(|port| port.path == path).map(|port| port.reason)
    }

    /// One host after another, until the socket's file is gone, by which alone they find it.
    async fn serve_listener(
        &mut self,
        listener: &Listener,
        mut watch: Option<Watch>,
        endpoint: &Endpoint,
    ) -> Option<LinkError> {
        loop {
            let listening = |source| LinkError::Io { what: "accepting a connection".to_owned(), source };
            let mut session = match self.exchange.meanwhile(next_host(listener, &mut watch)).await? {
                Ok(None) => return Some(LinkError::Gone { path: endpoint.path() }),
                Ok(Some(port)) => match Session::new(port, false, self.settings.max_line_bytes) {
                    Ok(session) => session,
                    Err(source) => return Some(listening(source)),
                },
                Err(source) => return Some(listening(source)),
            };
            match session.run(&mut self.exchange, None).await {
                End::Stopped => return None,
                _ => self.exchange.tell(LinkEvent::HostDetached),
            }
            self.exchange.flush().await?;
        }
    }
}

fn describe(candidate: &Candidate) -> PortDescription {
    PortDescription {
        endpoint: Endpoint::Device(candidate.path.clone()),
        name: candidate.name.clone(),
        borrowed: candidate.borrowed(),
    }
}

/// The next host that connects, or none where the file of the socket is gone.
async fn next_host(listener: &Listener, watch: &mut Option<Watch>) -> io::Result<Option<Port>> {
    while listener.has_file() {
        let Some(watching) = watch else { return listener.accept().await.map(Some) };
        tokio::select! {
            port = listener.accept() => return port.map(Some),
            changed = watching.changed() => if changed.is_err() { *watch = None },
        }
    }
    Ok(None)
}

async fn retry_or_change(retry_at: Instant, watch: &mut Option<Watch>) {
    let Some(watching) = watch else { return tokio::time::sleep_until(retry_at).await };
    tokio::select! {
        () = tokio::time::sleep_until(retry_at) => {}
        changed = watching.changed() => if changed.is_err() { *watch = None },
    }
}

/// Uniform in `0.0..1.0`. Without randomness the waits are the plain ones.
fn random() -> f64 {
    getrandom::u32().map_or(0.5, |bits| f64::from(bits) / f64::from(u32::MAX))
}
