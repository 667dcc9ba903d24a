//! Other programs in the guest that answer on a port, to be measured beside the agent.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use crate::guest::bare;

/// qemu-guest-agent, as a hypervisor asks it (QEMU's docs/interop/qemu-ga-ref).
#[derive(Debug)]
pub struct Qga(BufReader<UnixStream>);

impl Qga {
    /// The name of its port.
    pub const PORT_NAME: &str = "org.qemu.guest_agent.0";

    /// Connects, and waits until it answers: what it was sent before it had its port open reaches it when it has.
    pub async fn connect(socket: &Path) -> anyhow::Result<Self> {
        let mut qga = Self(BufReader::new(connect(socket).await?));
        let id = u64::from(std::process::id());
        let answer = qga.execute("guest-sync", json!({ "id": id })).await?;
        ensure!(answer == id, "qemu-guest-agent answers {id} with {answer}");
        Ok(qga)
    }

    /// The cheapest thing that it can be asked.
    pub async fn ping(&mut self) -> anyhow::Result<()> {
        self.execute("guest-ping", json!({})).await.map(drop)
    }

    /// Runs a program and asks for its status, again and again without a pause, until it has ended. Gives its output, in base64.
    pub async fn run(&mut self, path: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let order = json!({ "path": path, "arg": arguments, "capture-output": true });
        let started = self.execute("guest-exec", order).await?;
        loop {
            let status = self.execute("guest-exec-status", json!({ "pid": started["pid"] })).await?;
            if status["exited"] == true {
                ensure!(status["exitcode"] == 0, "{path} ended with {status}");
                return Ok(status["out-data"].as_str().unwrap_or_default().to_owned());
            }
        }
    }

    async fn execute(&mut self, command: &str, arguments: Value) -> anyhow::Result<Value> {
        let request = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        self.0.get_mut().write_all(request.as_bytes()).await?;
        let mut line = String::new();
        ensure!(self.0.read_line(&mut line).await? > 0, "the connection ended");
        let mut answer: Value = serde_json::from_str(&line).with_context(|| format!("an answer to {command}"))?;
        ensure!(answer.get("return").is_some(), "{command} was refused: {answer}");
        Ok(answer["return"].take())
    }
}

/// `vmtest guest bare`, the least that answering can cost.
#[derive(Debug)]
pub struct Bare(BufReader<UnixStream>);

impl Bare {
    /// Connects; the program may be started later.
    pub async fn connect(socket: &Path) -> anyhow::Result<Self> {
        Ok(Self(BufReader::new(connect(socket).await?)))
    }

    /// A line there and a line back.
    pub async fn ping(&mut self) -> anyhow::Result<()> {
        self.ask(bare::PING).await.map(drop)
    }

    /// Runs a program and gives its output.
    pub async fn run(&mut self, line: &str) -> anyhow::Result<Vec<u8>> {
        self.ask(&format!("{}{line}", bare::RUN)).await
    }

    async fn ask(&mut self, request: &str) -> anyhow::Result<Vec<u8>> {
        self.0.get_mut().write_all(format!("{request}\n").as_bytes()).await?;
        let mut length = String::new();
        self.0.read_line(&mut length).await?;
        let mut output = vec![0; length.trim().parse().with_context(|| format!("{request}: no length: {length:?}"))?];
        self.0.read_exact(&mut output).await?;
        Ok(output)
    }
}

async fn connect(socket: &Path) -> anyhow::Result<UnixStream> {
    UnixStream::connect(socket).await.with_context(|| format!("connecting to {}", socket.display()))
}
