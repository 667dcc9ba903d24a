//! What runs inside of the machine: the control channel's end, and loads that a shell line cannot make.

pub mod bare;
mod serve;

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;

/// What the test's program does inside of the machine.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Serve the control channel
    Serve,
    /// Hold that much memory until killed; says `ready` when it does
    Resident {
        /// How much, in MiB
        #[arg(long)]
        mib: usize,
    },
    /// Listen on a free TCP port until killed; says `ready PORT` when it does
    Listen,
    /// Answer on a port as simply as a program can, to be measured beside; says `ready` when it has the port
    Bare,
}

/// Does it.
pub fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve => serve::run(),
        Command::Resident { mib } => resident(mib),
        Command::Listen => listen(),
        Command::Bare => bare::run(),
    }
}

fn resident(mib: usize) -> anyhow::Result<()> {
    // The program itself takes some of it.
    let status = std::fs::read_to_string("/proc/self/status")?;
    let own =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<usize>().ok());
    let rest = ((mib << 10).saturating_sub(own.context("no VmRSS in /proc/self/status")?)) << 10;
    // Every page differs from zero, so that the kernel must really give each one.
    let memory = vec![0x5a_u8; rest];
    say(&format!("ready {}", std::hint::black_box(&memory).len()))?;
    wait_for_ever()
}

fn listen() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").context("listening")?;
    say(&format!("ready {}", listener.local_addr()?.port()))?;
    wait_for_ever()
}

/// The port appears with its driver; udev names it a moment later. The kernel has no event that a plain program could await here,
/// so this looks again, for a minute at most.
fn open_port(name: &str) -> anyhow::Result<File> {
    let path = Path::new("/dev/virtio-ports").join(name);
    for _ in 0..600 {
        if path.exists() {
            let port = OpenOptions::new().read(true).write(true).open(&path);
            return port.with_context(|| format!("{}", path.display()));
        }
        thread::sleep(Duration::from_millis(100));
    }
    anyhow::bail!("{} did not appear within a minute", path.display())
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}")?;
    stdout.flush().context("saying so")
}

fn wait_for_ever() -> ! {
    loop {
        thread::park();
    }
}
