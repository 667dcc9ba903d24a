//! What every check works with.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use infini_protocol::Timestamp;
use infini_protocol::envelope::Key;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::RunArgs;
use crate::host_side::HostSide;
use crate::image::{Image, Seed};
use crate::qemu::Places;
use crate::random::Random;
use crate::vm::Vm;

/// The identity that provisioning gives the machine.
pub const VM_ID: &str = "vmtest-1";

/// The name of the agent's unit.
pub const UNIT: &str = "infiniservice.service";

/// What changes the unit until the next boot.
const DROP_IN: &str = "/run/systemd/system/infiniservice.service.d";

/// The booted machine and everything that belongs to the run.
#[derive(Debug)]
pub struct Workbench {
    /// The machine.
    pub vm: Vm,
    /// What it was booted from.
    pub image: Image,
    /// The disk with what changes from run to run.
    pub second_disk: PathBuf,
    /// What the run was started with.
    pub args: RunArgs,
    /// The machine's secret.
    pub key: Key,
    /// The same in a file, as infinihost takes it.
    pub secret_file: PathBuf,
    /// Random choices that the printed seed repeats.
    pub random: Random,
    /// Where the run leaves what may help after a failure.
    pub logs: PathBuf,
    /// For what the checks write on this machine; removed at the end.
    pub scratch: PathBuf,
    /// How long the boot took until the guest answered.
    pub boot_time: Duration,
    // Dropped last: the sockets are in it.
    _folder: TempDir,
}

impl Workbench {
    /// Boots the machine.
    pub async fn set_up(args: &RunArgs, image: &Image, random: Random) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("vmtest-").tempdir()?;
        let secret = format!("{:032x}", u128::from(Random::fresh_seed()) << 64 | u128::from(Random::fresh_seed()));
        let secret_file = folder.path().join("secret");
        write_private(&secret_file, &secret)?;
        let seed = Seed { agent: &args.agent, packaging: &args.packaging, secret: &secret };
        let second_disk = seed.write(folder.path())?;
        let places = Places { sockets: folder.path().to_owned(), logs: image.logs.clone() };
        let started = Instant::now();
        let vm = Vm::boot(image, &second_disk, places).await?;
        Ok(Self {
            vm,
            image: image.clone(),
            second_disk,
            args: args.clone(),
            key: Key::new(&secret)?,
            secret_file,
            random,
            logs: image.logs.clone(),
            scratch: folder.path().to_owned(),
            boot_time: started.elapsed(),
            _folder: folder,
        })
    }

    /// A new connection of the host side, with the machine's secret.
    pub async fn connect(&self) -> anyhow::Result<HostSide> {
        HostSide::connect(&self.vm.agent_socket(), &self.key, Instant::now() + Duration::from_secs(5)).await
    }

    /// The process id of the agent in the guest.
    pub async fn agent_pid(&self) -> anyhow::Result<u32> {
        let pid = self.vm.run(&format!("systemctl show --property=MainPID --value {UNIT}")).await?;
        pid.parse().ok().filter(|pid| *pid > 0).with_context(|| format!("the agent does not run: MainPID is {pid}"))
    }

    /// The guest's clock.
    pub async fn guest_time(&self) -> anyhow::Result<Timestamp> {
        let ms = self.vm.run("date +%s%3N").await?;
        ms.parse().map(Timestamp::from_unix_ms).with_context(|| format!("the guest's time is {ms:?}"))
    }

    /// Changes the agent's unit until the next [`Workbench::reset_unit`], and restarts the agent. `settings` are lines of the unit's
    /// `[Service]`.
    pub async fn change_unit(&self, settings: &[&str]) -> anyhow::Result<()> {
        let lines = settings.iter().map(|line| format!("'{line}'")).collect::<Vec<_>>().join(" ");
        let write = format!("mkdir -p {DROP_IN} && printf '%s\\n' '[Service]' {lines} >{DROP_IN}/vmtest.conf");
        self.vm.run(&format!("{write} && systemctl daemon-reload")).await?;
        self.restart_agent().await
    }

    /// The unit as installed, and an agent started by it.
    pub async fn reset_unit(&self) -> anyhow::Result<()> {
        self.vm.run(&format!("rm -r {DROP_IN} && systemctl daemon-reload")).await?;
        self.restart_agent().await
    }

    /// Restarts the agent and waits until systemd calls it ready.
    pub async fn restart_agent(&self) -> anyhow::Result<()> {
        self.vm.run(&format!("systemctl restart {UNIT}")).await.map(drop)
    }

    /// Leaves the guest's logs where a person can read them after a failure.
    pub async fn save_logs(&self) -> anyhow::Result<()> {
        let journal = self.vm.run("journalctl --no-pager --output=short-monotonic | tail -c 300000").await?;
        std::fs::write(self.logs.join("journal.txt"), journal).context("writing the guest's journal")
    }
}

/// Writes a file that only its owner may read.
pub fn write_private(path: &std::path::Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes()).with_context(|| format!("{}", path.display()))
}
