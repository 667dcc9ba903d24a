//! The host's end of the control channel: a virtio-serial port of the test's own, over which the guest runs shell lines. It does not
//! depend on anything that is being tested.

pub mod wire;

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};

use wire::{Outcome, Reply, Request};

/// Runs shell lines in the guest.
#[derive(Debug)]
pub struct Control {
    calls: mpsc::Sender<Call>,
    boot: watch::Receiver<Option<String>>,
}

#[derive(Debug)]
struct Call {
    line: String,
    timeout: Duration,
    reply: oneshot::Sender<Outcome>,
}

impl Control {
    /// Connects to the port's socket. The guest need not be up yet.
    pub async fn connect(socket: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(socket).await.with_context(|| format!("{}", socket.display()))?;
        let (reader, writer) = stream.into_split();
        let (calls, inbox) = mpsc::channel(16);
        let (boots, boot) = watch::channel(None);
        let lines = BufReader::new(reader).lines();
        tokio::spawn(Channel { lines, writer, pending: HashMap::new(), next_id: 0, boots }.serve(inbox));
        Ok(Self { calls, boot })
    }

    /// Waits until the guest's end says hello in a boot other than `previous`, and gives that boot's id.
    pub async fn boot_after(&self, previous: Option<&str>) -> anyhow::Result<String> {
        let mut boot = self.boot.clone();
        let seen = boot.wait_for(|id| id.is_some() && id.as_deref() != previous).await;
        seen.ok().and_then(|id| id.clone()).context("the control channel closed: QEMU ended")
    }

    /// Runs a line by `sh -c` and says how it ended; after `timeout` it is killed.
    pub async fn run(&self, line: &str, timeout: Duration) -> anyhow::Result<Outcome> {
        let (reply, answer) = oneshot::channel();
        let call = Call { line: line.to_owned(), timeout, reply };
        self.calls.send(call).await.ok().context("the control channel is closed")?;
        // The guest keeps the deadline; the margin is for a guest that hangs as a whole.
        match tokio::time::timeout(timeout + Duration::from_secs(10), answer).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(_)) => anyhow::bail!("the guest went away while it ran: {line}"),
            Err(_) => anyhow::bail!("the guest did not say within {} s how this ended: {line}", timeout.as_secs()),
        }
    }
}

/// The one owner of the socket.
struct Channel {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
    pending: HashMap<u64, oneshot::Sender<Outcome>>,
    next_id: u64,
    boots: watch::Sender<Option<String>>,
}

impl Channel {
    async fn serve(mut self, mut inbox: mpsc::Receiver<Call>) {
        loop {
            tokio::select! {
                line = self.lines.next_line() => match line {
                    Ok(Some(line)) => self.receive(&line),
                    Ok(None) | Err(_) => return,
                },
                call = inbox.recv() => match call {
                    Some(call) => self.send(call).await,
                    None => return,
                },
            }
        }
    }

    fn receive(&mut self, line: &str) {
        match serde_json::from_str(line) {
            Ok(Reply::Hello { boot_id }) => {
                // What was asked of the boot before is never answered.
                self.pending.clear();
                self.boots.send_replace(Some(boot_id));
            }
            Ok(Reply::Done { id, outcome }) => {
                // The caller may have given up.
                self.pending.remove(&id).map(|reply| reply.send(outcome));
            }
            Err(error) => eprintln!("vmtest: the guest said something odd ({error}): {line}"),
        }
    }

    async fn send(&mut self, call: Call) {
        self.next_id += 1;
        let request = Request { id: self.next_id, line: call.line, timeout_seconds: call.timeout.as_secs().max(1) };
        let Ok(mut line) = serde_json::to_vec(&request) else { return };
        line.push(b'\n');
        if self.writer.write_all(&line).await.is_ok() {
            self.pending.insert(request.id, call.reply);
        }
    }
}
