//! Running cargo, and where it puts what it builds.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The cargo that runs this, at the project's root.
pub fn cargo(root: &Path) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root);
    cargo
}

/// Where a profile's programs are: `release` or `debug`.
pub fn programs(root: &Path, profile: &str) -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| root.join(folder));
    target.join(profile)
}
