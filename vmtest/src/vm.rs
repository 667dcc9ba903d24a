//! A running machine: its QEMU, its control channel and the agent's socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::control::Control;
use crate::control::wire::Outcome;
use crate::image::Image;
use crate::qemu::{AGENT_CHARDEV, AGENT_PORT, AGENT_PORT_NAME, Places, Qemu};
use crate::qmp::{Events, Qmp};

/// How long a boot under emulation may take on a busy machine.
pub const BOOT_DEADLINE: Duration = Duration::from_secs(180);

/// How long an ordinary shell line may take.
const LINE_DEADLINE: Duration = Duration::from_secs(30);

/// A machine that has booted at least once.
#[derive(Debug)]
pub struct Vm {
    qemu: Qemu,
    control: Control,
    boot_id: String,
    places: Places,
}

/// A program that was started in the guest and goes on.
#[derive(Debug, Clone)]
pub struct Background {
    /// Its process id.
    pub pid: u32,
    /// The first line that it printed.
    pub said: String,
}

/// A port that only one check needs.
#[derive(Debug)]
pub struct ExtraPort {
    id: &'static str,
    chardev: String,
    /// Where the host's end of it is.
    pub socket: PathBuf,
}

impl Vm {
    /// Boots the image with a second disk and waits until the guest answers.
    pub async fn boot(image: &Image, second_disk: &Path, places: Places) -> anyhow::Result<Self> {
        let qemu = Qemu::start(image, second_disk, &places).await?;
        let control = Control::connect(&places.control()).await?;
        let booted = timeout(BOOT_DEADLINE, control.boot_after(None)).await;
        let boot_id = booted.with_context(|| {
            format!(
                "the guest did not boot within {} s; its console is in {}",
                BOOT_DEADLINE.as_secs(),
                places.logs.display()
            )
        })??;
        Ok(Self { qemu, control, boot_id, places })
    }

    /// The socket of the agent's port.
    pub fn agent_socket(&self) -> PathBuf {
        self.places.agent()
    }

    /// The kernel's name for the boot that runs.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// QEMU's events from now on.
    pub fn events(&self) -> Events {
        self.qmp().events()
    }

    fn qmp(&self) -> &Qmp {
        &self.qemu.qmp
    }

    /// Runs a shell line in the guest; it must succeed. Gives what it printed, without the last line end.
    pub async fn run(&self, line: &str) -> anyhow::Result<String> {
        self.run_for(LINE_DEADLINE, line).await
    }

    /// As [`Vm::run`], for lines that take their time.
    pub async fn run_for(&self, limit: Duration, line: &str) -> anyhow::Result<String> {
        let outcome = self.try_run_for(limit, line).await?;
        if outcome.code != Some(0) {
            bail!("in the guest: {line}\nended with {:?}\n{}{}", outcome.code, outcome.stdout, outcome.stderr);
        }
        Ok(outcome.stdout.trim_end_matches('\n').to_owned())
    }

    /// Runs a shell line in the guest, however it ends.
    pub async fn try_run_for(&self, limit: Duration, line: &str) -> anyhow::Result<Outcome> {
        self.control.run(line, limit).await
    }

    /// Starts a program that goes on, and waits for the first line that it prints (or for its end).
    pub async fn start(&self, program: &str) -> anyhow::Result<Background> {
        let line = format!(
            "fifo=/run/vmtest-$$; mkfifo $fifo || exit; {program} >$fifo 2>/dev/null </dev/null & pid=$!; \
             read -r said <$fifo; rm $fifo; echo \"$pid $said\""
        );
        let answer = self.run(&line).await?;
        let (pid, said) = answer.split_once(' ').unwrap_or((&answer, ""));
        Ok(Background {
            pid: pid.parse().with_context(|| format!("{program} gave no pid: {answer}"))?,
            said: said.to_owned(),
        })
    }

    /// Ends a program that was started.
    pub async fn kill(&self, program: &Background) -> anyhow::Result<()> {
        self.run(&format!("kill -KILL {}", program.pid)).await.map(drop)
    }

    /// Waits until the guest, which somebody has told to reboot, answers again.
    pub async fn rebooted(&mut self) -> anyhow::Result<()> {
        let booted = self.control.boot_after(Some(&self.boot_id));
        let id = timeout(BOOT_DEADLINE, booted).await.context("the guest did not come back from its reboot")??;
        self.boot_id = id;
        Ok(())
    }

    /// Waits until the machine has switched itself off.
    pub async fn switched_off(mut self, limit: Duration) -> anyhow::Result<()> {
        timeout(limit, self.qemu.ended()).await.context("the machine does not switch itself off")?
    }

    /// Takes the agent's port out of the machine.
    pub async fn unplug_agent_port(&self) -> anyhow::Result<()> {
        self.take_out(AGENT_PORT).await
    }

    async fn take_out(&self, port: &str) -> anyhow::Result<()> {
        let mut events = self.events();
        self.qmp().execute("device_del", json!({ "id": port })).await?;
        events.wait_for("the port is out", LINE_DEADLINE, |event| event.is_deleted(port)).await.map(drop)
    }

    /// Puts it back in.
    pub async fn plug_agent_port(&self) -> anyhow::Result<()> {
        let port = json!({
            "driver": "virtserialport",
            "id": AGENT_PORT,
            "chardev": AGENT_CHARDEV,
            "name": AGENT_PORT_NAME,
        });
        self.qmp().execute("device_add", port).await.map(drop)
    }

    /// Has QEMU close the agent's socket, with the connection on it, and remove its file.
    pub async fn take_agent_socket_away(&self) -> anyhow::Result<()> {
        // A device always has a backend, so another socket takes its place; QEMU removes the file of the one that it closes.
        self.move_agent_socket(&self.places.agent().with_extension("elsewhere")).await
    }

    /// Has QEMU listen on the agent's socket again.
    pub async fn put_agent_socket_back(&self) -> anyhow::Result<()> {
        self.move_agent_socket(&self.places.agent()).await
    }

    async fn move_agent_socket(&self, path: &Path) -> anyhow::Result<()> {
        let change = json!({ "id": AGENT_CHARDEV, "backend": listening_on(path) });
        self.qmp().execute("chardev-change", change).await.map(drop)
    }

    /// Puts one more port into the machine, with a socket of its own.
    pub async fn plug_port(&self, id: &'static str, name: &str) -> anyhow::Result<ExtraPort> {
        let (chardev, socket) = (format!("{id}-socket"), self.places.sockets.join(format!("{id}.sock")));
        self.qmp().execute("chardev-add", json!({ "id": chardev, "backend": listening_on(&socket) })).await?;
        let port = json!({ "driver": "virtserialport", "id": id, "chardev": chardev, "name": name });
        self.qmp().execute("device_add", port).await?;
        Ok(ExtraPort { id, chardev, socket })
    }

    /// Takes such a port out again.
    pub async fn unplug_port(&self, port: ExtraPort) -> anyhow::Result<()> {
        self.take_out(port.id).await?;
        self.qmp().execute("chardev-remove", json!({ "id": port.chardev })).await.map(drop)
    }

    /// Whether the guest has the agent's port open, as QEMU sees it.
    pub async fn agent_port_is_open(&self) -> anyhow::Result<bool> {
        let list = self.qmp().execute("query-chardev", json!({})).await?;
        let chardevs = list.as_array().context("query-chardev gave no list")?;
        let ours = chardevs.iter().find(|chardev| chardev["label"] == AGENT_CHARDEV);
        Ok(ours.context("the agent's chardev is gone")?["frontend-open"] == true)
    }

    /// Waits until the guest has the agent's port open.
    pub async fn agent_port_opened(&self, limit: Duration) -> anyhow::Result<()> {
        let mut events = self.events();
        if self.agent_port_is_open().await? {
            return Ok(());
        }
        let open = events.wait_for("the agent opens its port", limit, |event| event.is_port(AGENT_PORT, true));
        open.await.map(drop)
    }
}

/// A backend of a device, as QEMU's protocol describes it.
fn listening_on(socket: &Path) -> Value {
    let address = json!({ "type": "unix", "data": { "path": socket } });
    json!({ "type": "socket", "data": { "addr": address, "server": true, "wait": false } })
}
