//! The project's own chores. `cargo xtask --help` lists them.

mod bench;
mod cargo;
mod check;
#[cfg(test)]
mod protocol_map;
mod soak;
mod vmtest;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

/// The project's own chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Verb {
    /// Run everything that must pass before a change, and report all that failed at once.
    Check(check::Options),
    /// Send thousands of commands to the released agent over a connection that keeps breaking.
    Soak(soak::Options),
    /// Measure, and fail where a budget is missed. For a machine that does nothing else meanwhile.
    Bench,
    /// Boot a real virtual machine, install the agent in it and try everything from the host.
    Vmtest(vmtest::Options),
}

fn main() -> anyhow::Result<ExitCode> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies directly below the project's root")?;
    match Verb::parse() {
        Verb::Check(options) => check::run(root, &options),
        Verb::Soak(options) => soak::run(root, &options),
        Verb::Bench => bench::run(root),
        Verb::Vmtest(options) => vmtest::run(root, &options),
    }
}
