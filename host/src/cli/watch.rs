use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use infini_protocol::ErrorCode;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, oneshot};

use super::failure::{Failure, SOFTWARE};
use super::{Patience, Show, first_sample, unheard};
use crate::vm::{Endpoint, Vm, VmEvent};
use crate::{json, view};

/// Shows a machine until the user, a signal or `--duration` ends it.
pub async fn run(name: &str, endpoint: Endpoint, patience: Patience, show: &Show) -> Result<(), Failure> {
    let (socket, has_key) = (endpoint.socket.clone(), endpoint.key.is_some());
    let vm = Vm::follow(endpoint);
    let contact = async {
        match first_sample(&vm, patience).await {
            Ok(_) => std::future::pending().await,
            Err(error) => Err(error.explain(&socket, has_key)),
        }
    };
    let show_it = async {
        if show.json || !io::stdout().is_terminal() {
            lines(name, &vm).await
        } else {
            view::run(name, &vm).await.map_err(Failure::from)
        }
    };
    let mut signals = Signals::new()?;
    tokio::select! {
        ended = show_it => ended,
        failed = contact => failed,
        () = signals.any() => Ok(()),
        () = elapsed(show.duration) => Ok(()),
    }
}

/// One JSON object a line for each sample, until the reader leaves. A reader that is slow misses samples.
async fn lines(name: &str, vm: &Vm) -> Result<(), Failure> {
    let mut events = vm.events();
    let (lines, mut failed) = writer();
    let mut refused = false;
    let unheard = unheard(vm);
    tokio::pin!(unheard);
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            not_taken = &mut unheard, if !refused => {
                refused = true;
                if not_taken.is_ok() {
                    let note = "the agent does not take our requests (wrong secret?); these are its own samples";
                    writeln!(io::stderr(), "infinihost: {note}").ok();
                }
                continue;
            }
            error = &mut failed => match error {
                Ok(error) if !Failure::is_broken_pipe(&error) => return Err(error.into()),
                _ => return Ok(()),
            },
        };
        let sample = match event {
            Ok(VmEvent::Metrics(sample)) => sample,
            Ok(VmEvent::Error(error)) if error.details.error_code == ErrorCode::AuthFailed && !refused => {
                refused = true;
                let note = "the agent refuses what this host signs: wrong secret? These are its own samples";
                writeln!(io::stderr(), "infinihost: {note}").ok();
                continue;
            }
            Ok(_) | Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return Err(Failure::new(SOFTWARE, "the connection's task ended")),
        };
        let line = json::line(name, &sample).map_err(|error| Failure::new(SOFTWARE, error.to_string()))?;
        // Where the reader has not taken the lines before, this one is dropped; a closed channel shows in `failed`.
        lines.try_send(line).ok();
    }
}

/// Writes lines to standard output on a thread of its own: a reader that stalls must hold up neither `--duration` nor a signal.
fn writer() -> (mpsc::Sender<Vec<u8>>, oneshot::Receiver<io::Error>) {
    let (lines, mut inbox) = mpsc::channel::<Vec<u8>>(2);
    let (failed, failure) = oneshot::channel();
    std::thread::spawn(move || {
        let mut stdout = io::stdout();
        while let Some(line) = inbox.blocking_recv() {
            if let Err(error) = stdout.write_all(&line).and_then(|()| stdout.flush()) {
                failed.send(error).ok();
                return;
            }
        }
    });
    (lines, failure)
}

async fn elapsed(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

/// The signals that end the program in order: the terminal is restored and the demo's agent ended.
pub struct Signals([Signal; 3]);

impl Signals {
    pub fn new() -> io::Result<Self> {
        Ok(Self([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]))
    }

    pub async fn any(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
