use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use infini_protocol::ErrorCode;
use infini_protocol::agent::Response;
use tokio::time::{Instant, sleep};

use super::contact::NoContact;
use super::failure::{CANCELLED, CONFIG, Failure, SOFTWARE, UNAVAILABLE, USAGE};
use super::target::Target;
use super::watch::Signals;
use crate::link::SendError;
use crate::vm::{ANSWER_TIME, Command, RequestError, Status, Vm, VmState};

/// When an agent that has not answered whether it is there is asked once more: a line that was signed before the guest's clock was
/// known may have been refused for its time.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// A machine whose agent has answered this host, and the user's Ctrl-C.
pub struct Conversation {
    /// What the user calls the machine.
    pub name: String,
    /// The machine.
    pub vm: Vm,
    /// SIGINT, SIGTERM, SIGHUP.
    pub signals: Signals,
}

impl Conversation {
    /// Reaches the agent and has it answer something that this host signed. Until then nothing was asked for, and whoever cannot
    /// be reached has done nothing.
    pub async fn begin(target: &Target) -> Result<Self, Failure> {
        let endpoint = target.endpoint()?;
        let socket = endpoint.socket.clone();
        if endpoint.key.is_none() {
            return Err(no_secret(&socket));
        }
        let mut signals = Signals::new()?;
        let vm = Vm::follow(endpoint);
        tokio::select! {
            reached = contact(&vm) => reached.map_err(|error| error.explain(&socket, true))?,
            () = signals.any() => return Err(Failure::new(CANCELLED, "ended before anything was sent")),
        }
        Ok(Self { name: target.vm.clone(), vm, signals })
    }

    /// What the agent said of itself.
    pub fn platform(&self) -> Option<String> {
        self.vm.status().handshake.as_ref().map(|handshake| handshake.platform.clone())
    }

    /// Has a command done and waits for its answer. The first Ctrl-C takes it back, the second leaves.
    pub async fn ask(&mut self, command: Command) -> Result<Response, Failure> {
        let id = command.id().to_owned();
        let failed = |error| explain(&error, &id);
        let answer = self.vm.run(command);
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => return answer.map_err(failed),
            () = self.signals.any() => {}
        }
        take_back(&self.vm, &id).await;
        tokio::select! {
            answer = &mut answer => answer.map_err(failed),
            () = self.signals.any() => Err(left_behind(&id)),
        }
    }
}

/// Takes a command back and tells the user what to expect.
pub async fn take_back(vm: &Vm, id: &str) {
    let note = match vm.cancel(id).await {
        Ok(()) => "taking the command back; Ctrl-C again leaves at once".to_owned(),
        Err(error) => format!("{error}: waiting for its answer; Ctrl-C again leaves at once"),
    };
    writeln!(io::stderr(), "infinihost: {note}").ok();
}

/// The user did not wait for the end.
pub fn left_behind(id: &str) -> Failure {
    Failure::new(CANCELLED, format!("left without an answer; the command {id} may still run in the guest"))
}

fn no_secret(socket: &std::path::Path) -> Failure {
    let at = crate::sanitize::sanitize(&socket.to_string_lossy()).into_owned();
    let remedy = "give --secret-file, or name the machine's secret_file in the configuration";
    Failure::new(CONFIG, format!("{at}: the agent takes signed commands only, and no secret is known here; {remedy}"))
}

/// Waits until the agent has answered whether it is there.
async fn contact(vm: &Vm) -> Result<(), NoContact> {
    let deadline = Instant::now() + ANSWER_TIME;
    loop {
        let tried = |status: &Status| status.state != VmState::Absent || status.failure.is_some();
        let status = vm.wait_for(|status| tried(status)).await.map_err(|_| NoContact::Closed)?;
        if let (VmState::Absent, Some(failure)) = (status.state, &status.failure) {
            return Err(NoContact::Absent(failure.clone()));
        }
        let refused = vm.wait_for(|status| refusal(status).is_some());
        tokio::select! {
            alive = vm.keep_alive(ASK_AGAIN) => match alive {
                Ok(()) => return Ok(()),
                Err(RequestError::Closed) => return Err(NoContact::Closed),
                Err(RequestError::NoAnswer(_)) => {}
                Err(_) => sleep(ASK_AGAIN).await,
            },
            status = refused => {
                let status = status.map_err(|_| NoContact::Closed)?;
                return Err(NoContact::Refused(refusal(&status).unwrap_or_default()));
            }
        }
        if Instant::now() >= deadline {
            let silent = vm.status().heard_bytes == 0;
            return Err(if silent { NoContact::Silent(ANSWER_TIME) } else { NoContact::Unheard });
        }
    }
}

/// The words in which the agent refuses what this host signs.
fn refusal(status: &Status) -> Option<String> {
    let complaint = status.complaint.as_ref().filter(|error| error.details.error_code == ErrorCode::AuthFailed)?;
    Some(complaint.error.clone())
}

/// What to tell the user where there is no answer.
pub fn explain(error: &RequestError, id: &str) -> Failure {
    let unknown = format!("whether the command {id} ran is not known");
    match error {
        RequestError::Send(SendError::TooLong(_)) => Failure::new(USAGE, error.to_string()),
        RequestError::Send(_) => Failure::new(UNAVAILABLE, format!("the command was not sent: {error}")),
        RequestError::NoAnswer(_) => Failure::new(UNAVAILABLE, format!("{error}; {unknown}")),
        RequestError::Rebooted => Failure::new(UNAVAILABLE, format!("{error}; {unknown}, and it is not sent again")),
        RequestError::TooMany | RequestError::CannotCancel | RequestError::Closed | RequestError::Random(_) => {
            Failure::new(SOFTWARE, error.to_string())
        }
    }
}

/// Reads a file, or standard input where the path is `-`.
pub fn read_text(path: &PathBuf) -> Result<String, Failure> {
    let read = if path.as_os_str() == "-" { io::read_to_string(io::stdin()) } else { std::fs::read_to_string(path) };
    let at = crate::sanitize::sanitize(&path.to_string_lossy()).into_owned();
    read.map_err(|error| Failure::new(super::failure::NO_INPUT, format!("{at}: {error}")))
}
