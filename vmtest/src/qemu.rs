//! The QEMU process and its command line.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::UnixListener;
use tokio::process::{Child, Command};

use crate::control::wire::PORT_NAME;
use crate::image::Image;
use crate::qmp::Qmp;

/// The agent's port, as libvirt and the agent know it.
pub const AGENT_PORT_NAME: &str = "org.infinibay.agent";

/// QEMU's ids of the agent's port and of what carries its bytes.
pub const AGENT_PORT: &str = "agent";
/// See [`AGENT_PORT`].
pub const AGENT_CHARDEV: &str = "agent-socket";

/// How long QEMU may take to be ready for commands.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// A running QEMU; dropping it kills it.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
    /// For commands and events.
    pub qmp: Qmp,
}

/// Where a machine's sockets and logs are.
#[derive(Debug, Clone)]
pub struct Places {
    /// A folder with a short path: a socket's path may have 107 bytes.
    pub sockets: PathBuf,
    /// Where the console and QEMU's complaints are written.
    pub logs: PathBuf,
}

impl Places {
    /// The socket of the agent's port.
    pub fn agent(&self) -> PathBuf {
        self.sockets.join("agent.sock")
    }

    /// The socket of the control channel.
    pub fn control(&self) -> PathBuf {
        self.sockets.join("control.sock")
    }
}

impl Qemu {
    /// Starts a machine with the image and a second disk.
    pub async fn start(image: &Image, second_disk: &Path, places: &Places) -> anyhow::Result<Self> {
        // QEMU connects here, which tells without looking again and again that it is up: it makes its sockets before.
        let monitor = places.sockets.join("qmp.sock");
        let listener = UnixListener::bind(&monitor).with_context(|| format!("{}", monitor.display()))?;
        let complaints = File::create(places.logs.join("qemu.log"))?;
        let mut child = bound_to_us("qemu-system-x86_64")
            .args(arguments(image, second_disk, places))
            .stdin(Stdio::null())
            .stdout(complaints.try_clone()?)
            .stderr(complaints)
            .spawn()
            .context("starting QEMU")?;
        let qmp = async { Qmp::start(listener.accept().await?.0).await };
        let qmp = tokio::select! {
            qmp = tokio::time::timeout(START_DEADLINE, qmp) => qmp.context("QEMU was not ready in time")??,
            status = child.wait() => anyhow::bail!("QEMU ended at once: {}; see {}", status?, places.logs.display()),
        };
        Ok(Self { child, qmp })
    }
}

impl Qemu {
    /// Waits until the machine was switched off from inside, which ends the process.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        let status = self.child.wait().await?;
        anyhow::ensure!(status.success(), "QEMU ended with {status}");
        Ok(())
    }
}

/// A command whose process dies with this one, however this one dies.
pub fn bound_to_us(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).kill_on_drop(true);
    command
}

fn arguments(image: &Image, second_disk: &Path, places: &Places) -> Vec<String> {
    let disk = |id: &str, file: &Path, more: &str| {
        vec![
            "-drive".to_owned(),
            format!("file={},if=none,id={id},format=raw,cache=unsafe,{more}", file.display()),
            "-device".to_owned(),
            format!("virtio-blk-pci,drive={id}"),
        ]
    };
    let port = |id: &str, chardev: &str, name: &str, socket: &Path| {
        vec![
            "-chardev".to_owned(),
            format!("socket,id={chardev},path={},server=on,wait=off", socket.display()),
            "-device".to_owned(),
            format!("virtserialport,id={id},chardev={chardev},name={name}"),
        ]
    };
    let mut arguments: Vec<String> = FIXED.iter().map(|&word| word.to_owned()).collect();
    arguments.extend(["-kernel".to_owned(), image.kernel.display().to_string()]);
    arguments.extend(["-initrd".to_owned(), image.initramfs.display().to_string()]);
    // The console is the only way to see why a kernel does not come up; names of interfaces shall not depend on slots. The emulated
    // processor offers virtualisation, for which udev would load modules; taking the feature itself away breaks mounting in the guest.
    let boot =
        "console=ttyS0 quiet panic=-1 net.ifnames=0 systemd.show_status=auto modprobe.blacklist=kvm_amd,kvm_intel";
    arguments.extend(["-append".to_owned(), boot.to_owned()]);
    arguments.extend(["-serial".to_owned(), format!("file:{}", places.logs.join("console.log").display())]);
    arguments.extend(["-qmp".to_owned(), format!("unix:{}", places.sockets.join("qmp.sock").display())]);
    let root = if image.is_kept { "snapshot=off" } else { "snapshot=on" };
    arguments.extend(disk("root", &image.root, root));
    arguments.extend(disk("seed", second_disk, "readonly=on"));
    arguments.extend(["-device".to_owned(), "virtio-serial-pci".to_owned()]);
    arguments.extend(port(AGENT_PORT, AGENT_CHARDEV, AGENT_PORT_NAME, &places.agent()));
    arguments.extend(port("control", "control-socket", PORT_NAME, &places.control()));
    arguments
}

/// What no run changes. TCG always: nested KVM is not to be had everywhere, and where it is offered it may hang.
const FIXED: [&str; 20] = [
    "-accel",
    // The cache of translated code is kept small: with the default of 1 GiB a guest that reboots in the same QEMU pays for every page of
    // code that the boot before has left in it, and takes 30 to 130 s instead of 15.
    "tcg,thread=multi,tb-size=128",
    "-cpu",
    "max",
    "-m",
    "1024",
    "-smp",
    "2",
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-device",
    "virtio-rng-pci",
    // The guest reaches this machine under 10.0.2.2 and nothing else.
    "-netdev",
    "user,id=net,restrict=off,ipv6=off",
    "-device",
    "virtio-net-pci,netdev=net,romfile=",
    "-rtc",
    "base=utc",
];
