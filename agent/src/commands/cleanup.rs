//! `DiskCleanup`, `CleanTemporaryFiles`, `AutoOptimizeDisk`: room on disks.

#[cfg(target_os = "linux")]
pub mod linux;
#[cfg(target_os = "linux")]
use linux as platform;

use std::path::PathBuf;

use infini_protocol::host::SafeCommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::action::{Action, Context, Running, fields};
use super::health::value;
use super::outcome::{CommandError, Outcome};
use super::validation::MountPoint;

/// What can be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CleanupTarget {
    /// Files in `/tmp` and `/var/tmp` that nobody used for long.
    Temp,
    /// Files in users' caches that nobody used for long.
    Cache,
    /// Rotated logs and old journals.
    Logs,
    /// What users threw away long ago.
    Trash,
    /// Packages that the package manager downloaded and has installed.
    Packages,
    /// Old dumps of programs and kernels that crashed.
    CrashDumps,
}

/// `DiskCleanup`.
#[derive(Debug, Deserialize)]
struct DiskCleanup {
    drive: MountPoint,
    targets: Vec<CleanupTarget>,
}

/// `CleanTemporaryFiles`.
#[derive(Debug, Deserialize)]
struct CleanTemporaryFiles {
    targets: Option<Vec<CleanupTarget>>,
}

/// `AutoOptimizeDisk`.
#[derive(Debug, Deserialize)]
struct AutoOptimizeDisk {}

/// Makes a `DiskCleanup`.
///
/// # Errors
/// `INVALID_PARAMETERS` where a field is missing, the drive is no mount point's path, or a target is unknown. Whether something is mounted
/// there is found out when it runs.
pub fn disk(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    fields::<DiskCleanup>(command)
}

/// Makes a `CleanTemporaryFiles`.
///
/// # Errors
/// `INVALID_PARAMETERS` where a target is unknown.
pub fn temporary(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    fields::<CleanTemporaryFiles>(command)
}

/// Makes an `AutoOptimizeDisk`.
///
/// # Errors
/// None: it has no fields.
pub fn optimize(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    fields::<AutoOptimizeDisk>(command)
}

/// `data` of both cleanups.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Cleaned {
    /// Together.
    pub freed_bytes: u64,
    /// Together.
    pub removed_files: u64,
    /// Each, in the order of [`CleanupTarget`].
    pub targets: Vec<CleanedTarget>,
}

/// What became of a target.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct CleanedTarget {
    /// Which.
    pub name: CleanupTarget,
    /// What its files took on disk; a file that another name still leads to frees nothing.
    pub freed_bytes: u64,
    /// The first thing that could not be removed, and how many there were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Something that was done.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What.
    pub name: String,
    /// Whether it went well.
    pub success: bool,
    /// How it went.
    pub message: String,
}

impl Step {
    /// A step from what came of it.
    pub fn new(name: impl Into<String>, result: Result<String, CommandError>) -> Self {
        let success = result.is_ok();
        Self { name: name.into(), success, message: result.unwrap_or_else(|error| error.sentence) }
    }
}

impl Action for DiskCleanup {
    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move { Outcome::from(clean(&context, Some(self.drive.as_str().into()), self.targets).await) })
    }
}

impl Action for CleanTemporaryFiles {
    fn run(self: Box<Self>, context: Context) -> Running {
        let targets = self.targets.unwrap_or_else(|| vec![CleanupTarget::Temp]);
        Box::pin(async move { Outcome::from(clean(&context, None, targets).await) })
    }
}

async fn clean(
    context: &Context,
    drive: Option<PathBuf>,
    mut targets: Vec<CleanupTarget>,
) -> Result<Value, CommandError> {
    targets.sort_unstable();
    targets.dedup();
    value(&platform::clean(context, drive, &targets).await?)
}

impl Action for AutoOptimizeDisk {
    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move { Outcome::from(optimize_disks(&context).await) })
    }
}

async fn optimize_disks(context: &Context) -> Result<Value, CommandError> {
    let actions = platform::trim(context).await?;
    Ok(json!({ "actions": value(&actions)?, "reboot_required": false }))
}

#[cfg(test)]
mod tests;
