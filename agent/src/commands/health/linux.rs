//! Where each check of a Linux machine finds what it needs.

mod clock;
mod packages;
mod read_only;
mod reboot;
mod resources;

use std::fs;
use std::path::Path;

use serde_json::json;

pub use resources::{FULL_STALL_WARNING, LEAST_AVAILABLE_WARNING, LOAD_WARNING, processors};

use super::{CheckName, Finding, Status};
use crate::commands::action::Context;
use crate::commands::outcome::CommandError;
use crate::commands::system_bus::{BusError, SystemBus};
use crate::commands::tools;

/// Why a check could not be made: a sentence.
type Why = String;

/// Makes a check.
///
/// # Errors
/// Why it could not be made.
pub async fn check(context: &Context, bus: &dyn SystemBus, name: CheckName) -> Result<Finding, Why> {
    match name {
        CheckName::Disk => reading(context, resources::disk).await,
        CheckName::Memory => reading(context, resources::memory).await,
        CheckName::Load => reading(context, resources::load).await,
        CheckName::FailedUnits => failed_units(context, bus).await,
        CheckName::TimeSync => clock::time_sync(context, bus).await,
        CheckName::PendingReboot => reading(context, |context| Ok(reboot::pending(&context.roots))).await,
        CheckName::FilesystemReadOnly => reading(context, |context| read_only::check(&context.roots)).await,
        CheckName::OomKills => reading(context, |context| oom_kills(&context.roots.proc)).await,
        CheckName::PackageIntegrity => packages::integrity(context).await,
    }
}

/// Reads files where that may block.
async fn reading(
    context: &Context,
    read: impl FnOnce(&Context) -> Result<Finding, Why> + Send + 'static,
) -> Result<Finding, Why> {
    let read = move |context: &Context| read(context).map_err(CommandError::failed);
    context.blocking(read).await.map_err(|error| error.sentence)
}

fn text(path: &Path) -> Result<String, Why> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

async fn failed_units(context: &Context, bus: &dyn SystemBus) -> Result<Finding, Why> {
    let failed = failed_services(context, bus).await?;
    if failed.is_empty() {
        return Ok(Finding::new(Status::Healthy, "no unit has failed"));
    }
    let message = format!("failed: {}; look at their logs and restart them", failed.join(", "));
    Ok(Finding::new(Status::Warning, message).with(json!({ "units": failed })))
}

/// The failed units of systemd, or the crashed services of OpenRC.
///
/// # Errors
/// Why neither could be asked.
pub async fn failed_services(context: &Context, bus: &dyn SystemBus) -> Result<Vec<String>, Why> {
    match bus.failed_units().await {
        Ok(failed) => Ok(failed),
        Err(BusError::NoSystemd) => crashed(context).await,
        Err(error) => Err(format!("systemd did not tell which units have failed: {error}")),
    }
}

async fn crashed(context: &Context) -> Result<Vec<String>, Why> {
    if tools::installed(&context.roots, "rc-status").is_none() {
        return Err("neither systemd nor OpenRC runs this machine, so nobody knows which services failed".to_owned());
    }
    let finished =
        tools::run(context, "rc-status", ["--nocolor", "--crashed"]).await.map_err(|error| error.sentence)?;
    // It ends with 1 where nothing has crashed, so its exit code says nothing.
    Ok(finished.stdout.text.lines().filter_map(crashed_service).collect())
}

/// ` nginx  [  crashed  ]`, or the name alone.
fn crashed_service(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let name = words.next().filter(|name| !name.starts_with('*'))?;
    let is_named_so = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c));
    (is_named_so && words.next().is_none_or(|word| word == "[")).then(|| name.to_owned())
}

fn oom_kills(proc: &Path) -> Result<Finding, Why> {
    let vmstat = text(&proc.join("vmstat"))?;
    let kills: Option<u64> = vmstat.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
    let kills = kills.ok_or("this kernel does not count them (Linux 4.13 and later do)")?;
    if kills == 0 {
        return Ok(Finding::new(Status::Healthy, "no program was killed for lack of memory since boot"));
    }
    let advice = "`journalctl -k` says which; give the machine or the service more memory";
    let message = format!("programs killed for lack of memory since boot: {kills}; {advice}");
    Ok(Finding::new(Status::Warning, message).with(json!({ "kills_since_boot": kills })))
}
