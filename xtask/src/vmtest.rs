//! `cargo xtask vmtest`: builds what the virtual machine test needs and becomes it.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use crate::cargo::{cargo, programs};

/// How to run it.
#[derive(Args)]
pub struct Options {
    /// Build without optimisation: faster to build, and the agent's memory is not judged
    #[arg(long)]
    debug: bool,
    /// Fail where this machine cannot run the test, instead of skipping it; so it is with CI=true in the environment
    #[arg(long)]
    require: bool,
    /// For the test itself, such as `-- --only kills --seed 7`
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Runs it. Does not return where the test starts: this process becomes the test, so that Ctrl-C and signals reach it.
///
/// # Errors
/// Where the build fails or the test cannot start, and where it is required on a machine that cannot run it.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<ExitCode> {
    let folder = build(root, options.debug)?;
    let vmtest = folder.join("vmtest");
    let tools = Command::new(&vmtest).arg("tools").output().context("vmtest tools")?;
    if !tools.status.success() {
        let missing = String::from_utf8_lossy(&tools.stdout).into_owned() + &String::from_utf8_lossy(&tools.stderr);
        return skip(options.require || env::var("CI").is_ok_and(|value| value == "true"), missing.trim_end());
    }
    let cache = env::var_os("VMTEST_CACHE").map_or_else(|| root.join(".cache/vmtest"), PathBuf::from);
    let error = Command::new(&vmtest)
        .arg("run")
        .arg("--agent")
        .arg(folder.join("infiniservice"))
        .arg("--host")
        .arg(folder.join("infinihost"))
        .arg("--packaging")
        .arg(root.join("packaging/linux"))
        .arg("--cache")
        .arg(cache)
        .args(&options.arguments)
        .exec();
    Err(error).with_context(|| format!("starting {}", vmtest.display()))
}

/// Builds the three programs and gives the folder in which they are.
fn build(root: &Path, debug: bool) -> anyhow::Result<PathBuf> {
    let mut cargo = cargo(root);
    cargo.args(["build", "--locked", "--bins"]);
    cargo.args(["-p", "infiniservice", "-p", "infinihost", "-p", "vmtest"]).args((!debug).then_some("--release"));
    ensure!(cargo.status().context("cargo build")?.success(), "the programs could not be built");
    Ok(programs(root, if debug { "debug" } else { "release" }))
}

fn skip(required: bool, missing: &str) -> anyhow::Result<ExitCode> {
    let reason = missing.replace('\n', "\n  ");
    if required {
        bail!("this machine cannot run the virtual machine test, and it is required here:\n  {reason}");
    }
    println!("SKIPPED: this machine cannot run the virtual machine test:\n  {reason}");
    Ok(ExitCode::SUCCESS)
}
