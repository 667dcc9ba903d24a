//! `cargo xtask bench`: holds the agent's cost against its budgets. For a machine that does nothing else meanwhile: another program can
//! miss them.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::cargo::cargo;

/// The benchmarks that have budgets.
const BENCHMARKS: [&str; 3] = ["collect_system", "collect_processes", "commands"];

/// Tells them that a missed budget is a failure.
const ENFORCE: &str = "BENCH_ENFORCE_BUDGETS";

/// Runs the tables with the budgets and none of the rest. The exit code says whether all were met.
///
/// # Errors
/// Where cargo cannot be started.
pub fn run(root: &Path) -> anyhow::Result<ExitCode> {
    let mut cargo = cargo(root);
    cargo.args(["bench", "--locked", "--no-fail-fast", "-p", "infiniservice", "-p", "infinihost"]);
    for name in BENCHMARKS {
        cargo.args(["--bench", name]);
    }
    // No benchmark of criterion's has this name.
    cargo.args(["--", "none"]).env(ENFORCE, "1");
    let is_met = cargo.status().context("cargo bench")?.success();
    println!("{}", if is_met { "all budgets are met" } else { "FAILED: a budget is missed; see above" });
    Ok(if is_met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
