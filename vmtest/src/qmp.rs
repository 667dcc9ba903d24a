//! QEMU's machine protocol: commands with their answers, and events (QEMU's docs/interop/qmp-spec).

mod message;

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{broadcast, mpsc, oneshot};

use message::Message;

/// What QEMU says without being asked.
pub use message::Event;

/// How long QEMU may take for any command that the test gives.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// Events that wait for a slow reader; a machine makes a handful a minute.
const EVENT_QUEUE: usize = 1024;

/// A connection that is ready for commands.
#[derive(Debug)]
pub struct Qmp {
    calls: mpsc::Sender<Call>,
    events: broadcast::Sender<Event>,
}

#[derive(Debug)]
struct Call {
    command: &'static str,
    arguments: Value,
    reply: oneshot::Sender<Result<Value, String>>,
}

impl Qmp {
    /// Negotiates on a fresh connection.
    pub async fn start(stream: UnixStream) -> anyhow::Result<Self> {
        let (reader, writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        let greeting = lines.next_line().await?.context("QEMU closed the connection")?;
        anyhow::ensure!(Message::parse(&greeting)? == Message::Greeting, "QEMU did not greet but said {greeting}");
        let (calls, inbox) = mpsc::channel(4);
        let (events, _) = broadcast::channel(EVENT_QUEUE);
        let monitor = Monitor { lines, writer, pending: HashMap::new(), next_id: 0, events: events.clone() };
        tokio::spawn(monitor.serve(inbox));
        let qmp = Self { calls, events };
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// Gives a command and waits for what it returns.
    pub async fn execute(&self, command: &'static str, arguments: Value) -> anyhow::Result<Value> {
        let (reply, answer) = oneshot::channel();
        self.calls.send(Call { command, arguments, reply }).await.ok().context("QEMU is gone")?;
        let answer = tokio::time::timeout(ANSWER_DEADLINE, answer).await;
        match answer.with_context(|| format!("QEMU did not answer {command}"))? {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(sentence)) => anyhow::bail!("QEMU refused {command}: {sentence}"),
            Err(_) => anyhow::bail!("QEMU ended during {command}"),
        }
    }

    /// Events from now on: call it before doing what causes them.
    pub fn events(&self) -> Events {
        Events(self.events.subscribe())
    }
}

/// Events in their order.
#[derive(Debug)]
pub struct Events(broadcast::Receiver<Event>);

impl Events {
    /// Waits for the first that is wanted.
    pub async fn wait_for(
        &mut self,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&Event) -> bool,
    ) -> anyhow::Result<Event> {
        let search = async {
            loop {
                match self.0.recv().await {
                    Ok(event) if wanted(&event) => return Ok(event),
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => anyhow::bail!("QEMU ended before: {what}"),
                }
            }
        };
        let found = tokio::time::timeout(deadline, search).await;
        found.with_context(|| format!("QEMU did not report within {} s: {what}", deadline.as_secs()))?
    }
}

/// The one owner of the socket.
struct Monitor {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
    pending: HashMap<u64, oneshot::Sender<Result<Value, String>>>,
    next_id: u64,
    events: broadcast::Sender<Event>,
}

impl Monitor {
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
        match Message::parse(line) {
            Ok(Message::Answer { id, result }) => {
                // The caller may have given up.
                self.pending.remove(&id).map(|reply| reply.send(result));
            }
            // Nobody has to listen.
            Ok(Message::Event(event)) => drop(self.events.send(event)),
            Ok(Message::Greeting) => {}
            Err(error) => eprintln!("vmtest: QEMU said something odd ({error}): {line}"),
        }
    }

    async fn send(&mut self, call: Call) {
        self.next_id += 1;
        let line = format!("{}\n", json!({"execute": call.command, "arguments": call.arguments, "id": self.next_id}));
        if self.writer.write_all(line.as_bytes()).await.is_ok() {
            self.pending.insert(self.next_id, call.reply);
        }
    }
}
