//! `cargo xtask soak`: the test `soak` of infinihost in full, with the agent as it is released.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::cargo::{cargo, programs};

/// How to run it.
#[derive(Args)]
pub struct Options {
    /// How many commands
    #[arg(long, default_value_t = 10_000)]
    commands: usize,
    /// Repeat the choices of a run that printed this
    #[arg(long)]
    seed: Option<u64>,
}

/// Builds the agent and runs the test.
///
/// # Errors
/// Where the build or the test cannot start, or the agent cannot be built.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<ExitCode> {
    let mut build = cargo(root);
    build.args(["build", "--locked", "--release", "-p", "infiniservice", "--bin", "infiniservice"]);
    ensure!(build.status().context("cargo build")?.success(), "the agent could not be built");
    let mut test = cargo(root);
    test.args(["test", "--locked", "-p", "infinihost", "--test", "soak", "--", "--nocapture"]);
    test.env("SOAK_AGENT", programs(root, "release").join("infiniservice"))
        .env("SOAK_COMMANDS", options.commands.to_string());
    test.envs(options.seed.map(|seed| ("SOAK_SEED", seed.to_string())));
    let passed = test.status().context("cargo test")?.success();
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
