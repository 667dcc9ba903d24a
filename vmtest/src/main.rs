//! Boots a real virtual machine under QEMU, installs the agent in it as provisioning would, and checks from the host side what the
//! protocol promises. `vmtest run` is the test; `vmtest guest` is the part of it that works inside of the machine.

mod checks;
mod control;
mod guest;
mod host_process;
mod host_side;
mod image;
mod local_agent;
mod peers;
mod qemu;
mod qmp;
mod random;
mod report;
mod stats;
mod tolerance;
mod tools;
mod vm;
mod workbench;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Tests InfiniService in a real virtual machine", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Boot a machine and run the checks
    Run(RunArgs),
    /// Say what this machine lacks for the test; exit code 1 when it lacks something
    Tools,
    /// What runs inside of the machine
    #[command(subcommand, hide = true)]
    Guest(guest::Command),
}

/// What the test is run on and how.
#[derive(Args, Clone, Debug)]
struct RunArgs {
    /// The infiniservice binary that is installed in the machine
    #[arg(long)]
    agent: PathBuf,
    /// The infinihost binary that is used from outside
    #[arg(long)]
    host: PathBuf,
    /// The folder with install-linux.sh and the systemd unit
    #[arg(long)]
    packaging: PathBuf,
    /// Where images are kept between runs
    #[arg(long)]
    cache: PathBuf,
    /// Repeat the random choices of an earlier run
    #[arg(long)]
    seed: Option<u64>,
    /// How many kills in all, half of them in the machine
    #[arg(long, default_value_t = 200)]
    kills: usize,
    /// Only the checks whose name contains one of these words (the machine is booted and the agent installed in any case)
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => finish(run(args)),
        Command::Guest(command) => finish(guest::run(command).map(|()| true)),
        Command::Tools => {
            let missing = tools::missing();
            missing.iter().for_each(|sentence| println!("{sentence}"));
            if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

fn finish(result: anyhow::Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vmtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: RunArgs) -> anyhow::Result<bool> {
    let image = image::prepare(&args.cache).context("the machine's image could not be built")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Returning drops the bench, and with it QEMU and every other process that the test started.
        tokio::select! {
            passed = checks::run(&args, &image) => passed,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        }
    })
}
