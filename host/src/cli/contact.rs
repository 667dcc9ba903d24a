use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use infini_protocol::ErrorCode;
use tokio::time::{Instant, sleep_until};

use super::failure::{Failure, NO_INPUT, NO_PERMISSION, SOFTWARE, UNAVAILABLE};
use super::quoted;
use crate::peers;
use crate::sanitize::sanitize;
use crate::vm::{ANSWER_TIME, Disconnection, Endpoint, RequestError, Requests, Sample, Status, Vm, VmState};

/// How long to wait for a machine's first sample.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until the first byte, whatever it is; `None` gives up never, not even where the socket is missing.
    first_byte: Option<Duration>,
    /// Until the first sample of an agent that said something.
    sample: Duration,
    /// Whether a sample counts only where the agent has also answered something that this host signed.
    answered: bool,
}

impl Patience {
    /// With a key, 5 s: the agent answers a signed request at once. Without one, a little longer than its own interval of 30 s.
    #[must_use]
    pub fn of(endpoint: &Endpoint) -> Self {
        let (first_byte, sample) = if endpoint.key.is_some() { (5, 15) } else { (35, 35) };
        Self { first_byte: Some(Duration::from_secs(first_byte)), sample: Duration::from_secs(sample), answered: false }
    }

    /// Takes a sample only from an agent that answers this host, where there is a key to ask with.
    #[must_use]
    pub fn for_an_answer(self, endpoint: &Endpoint) -> Self {
        Self { answered: endpoint.key.is_some(), ..self }
    }

    /// Never gives up.
    #[must_use]
    pub const fn endless() -> Self {
        Self { first_byte: None, sample: Duration::MAX, answered: false }
    }
}

/// Why there is no sample.
#[derive(Debug)]
pub enum NoContact {
    /// There is no connection, for this reason.
    Absent(Disconnection),
    /// Not one byte came within this time.
    Silent(Duration),
    /// The agent refused what was signed, in these words.
    Refused(String),
    /// Samples came, but no answer to anything that this host signed.
    Unheard,
    /// The agent speaks but sent no sample.
    NoSample,
    /// The task that follows the machine ended.
    Closed,
}

/// The first sample of a machine that is asked for samples, or why there is none.
///
/// # Errors
/// Where the machine cannot be reached, stays silent, or refuses this host.
pub async fn first_sample(vm: &Vm, patience: Patience) -> Result<Arc<Sample>, NoContact> {
    let start = Instant::now();
    let Some(first_byte) = patience.first_byte else {
        let status = vm.wait_for(|status| status.sample.is_some()).await.map_err(|_| NoContact::Closed)?;
        return status.sample.clone().ok_or(NoContact::Closed);
    };
    let settled = vm.wait_for(|status| outcome(status, patience).is_some());
    tokio::pin!(settled);
    let mut deadline = start + first_byte;
    loop {
        tokio::select! {
            status = &mut settled => {
                let status = status.map_err(|_| NoContact::Closed)?;
                return outcome(&status, patience).unwrap_or(Err(NoContact::Closed));
            }
            () = sleep_until(deadline) => match vm.status() {
                status if status.heard_bytes == 0 => return Err(NoContact::Silent(first_byte)),
                status if status.sample.is_some() => return Err(NoContact::Unheard),
                _ if deadline == start + patience.sample => return Err(NoContact::NoSample),
                _ => deadline = start + patience.sample,
            },
        }
    }
}

/// Waits until samples come from an agent that does not take what this host signs.
///
/// # Errors
/// Where the task that follows the machine ended.
pub async fn unheard(vm: &Vm) -> Result<(), RequestError> {
    loop {
        let status = vm.wait_for(|status| status.unheard_at().is_some()).await?;
        if let Some(at) = status.unheard_at() {
            sleep_until(at).await;
        }
        if vm.status().is_unheard(Instant::now()) {
            return Ok(());
        }
    }
}

fn outcome(status: &Status, patience: Patience) -> Option<Result<Arc<Sample>, NoContact>> {
    if let Some(sample) = &status.sample
        && (!patience.answered || status.requests == Requests::Taken)
    {
        return Some(Ok(Arc::clone(sample)));
    }
    if let (VmState::Absent, Some(failure)) = (status.state, &status.failure) {
        return Some(Err(NoContact::Absent(failure.clone())));
    }
    let refusal = status.complaint.as_ref().filter(|error| error.details.error_code == ErrorCode::AuthFailed)?;
    Some(Err(NoContact::Refused(refusal.error.clone())))
}

impl NoContact {
    /// What to tell the user.
    pub(super) fn explain(self, socket: &Path, has_key: bool) -> Failure {
        let at = sanitize(&socket.to_string_lossy()).into_owned();
        match self {
            Self::Absent(failure) => {
                let code = match failure.kind {
                    ErrorKind::NotFound => NO_INPUT,
                    ErrorKind::PermissionDenied => NO_PERMISSION,
                    _ => UNAVAILABLE,
                };
                Failure::new(code, format!("{at}: {}", failure.why))
            }
            Self::Silent(time) => Failure::new(UNAVAILABLE, silence(&at, time, socket, has_key)),
            Self::Refused(words) => Failure::new(
                NO_PERMISSION,
                format!(
                    "{at}: the agent refuses what this host signs ({}); the secret is wrong, or the agent has none: compare the \
                     secret given here with the one the guest was installed with",
                    quoted(&words)
                ),
            ),
            Self::Unheard => Failure::new(
                UNAVAILABLE,
                format!(
                    "{at}: samples come, but nothing that this host signed was answered within {} s; the agent has another secret or \
                     none (compare the one given here with the one that the guest was installed with), it is down and the samples are \
                     old ones (infiniservice --diagnose in the guest tells), or another client holds the socket",
                    ANSWER_TIME.as_secs()
                ),
            ),
            Self::NoSample => Failure::new(
                UNAVAILABLE,
                format!("{at}: something speaks but sends no sample; is that the socket of InfiniService's port?"),
            ),
            Self::Closed => Failure::new(SOFTWARE, format!("{at}: the connection's task ended")),
        }
    }
}

/// Nothing came: the three things it can be, and which it is where that can be seen.
fn silence(at: &str, time: Duration, socket: &Path, has_key: bool) -> String {
    let clients = peers::clients(socket).unwrap_or_default();
    let asked = if has_key { "although the agent was asked" } else { "and without a secret it cannot be asked" };
    let begin = format!("{at}: nothing came within {} s, {asked}", time.as_secs());
    if clients.is_empty() {
        let wrong_secret = if has_key { " or the agent has another secret" } else { "" };
        return format!(
            "{begin}; the agent in the guest is down{wrong_secret} (infiniservice --diagnose in the guest tells), or another client \
             holds the socket, though none can be seen from here"
        );
    }
    let holders: Vec<String> = clients.iter().map(describe).collect();
    format!("{begin}; another client holds the socket, and QEMU serves one at a time: {}", holders.join(", "))
}

fn describe(client: &peers::Client) -> String {
    match (client.pid, &client.name) {
        (Some(pid), Some(name)) => format!("pid {pid} ({})", sanitize(name)),
        (Some(pid), None) => format!("pid {pid}"),
        (None, _) => "a process of another user or container (its pid shows to root)".to_owned(),
    }
}
