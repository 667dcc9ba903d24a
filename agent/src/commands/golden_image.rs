//! `PrepareGoldenImage`: takes from the machine what clones of it must not share, and in the end from the agent what makes it this
//! machine's, so that a clone's agent is locked until it is provisioned.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as platform;
mod own;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use infini_protocol::host::SafeCommand;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::action::{Action, Context, Running, fields};
use super::health::value;
use super::outcome::{CommandError, Outcome};
use super::power::{self, Down};
use super::system_bus::{DBus, SystemBus};
pub use own::OwnFiles;

/// One step may take this long: a program that hangs costs its step, not those that come after it.
const LONGEST_STEP: Duration = Duration::from_secs(5 * 60);

/// How much goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CleanupLevel {
    /// What tells machines apart, and what this one has written about itself.
    Minimal,
    /// Also what only makes sense on a machine that has already run.
    Standard,
    /// Also what can be made again; free blocks are given back.
    Deep,
}

use CleanupLevel::{Deep, Minimal, Standard};

/// Something to do to the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// cloud-init forgets that it ran.
    CloudInit,
    /// What people typed.
    ShellHistory,
    /// What people's homes hold, and their mail.
    UserData,
    /// What programs left in folders for that.
    TempFiles,
    /// What programs and kernels that crashed left.
    CrashDumps,
    /// The caches in homes.
    UserCaches,
    /// What package managers downloaded.
    PackageCache,
    /// Which addresses this machine was given.
    DhcpLeases,
    /// The keys by which SSH clients know this machine.
    SshHostKeys,
    /// What the next boot begins its random numbers with.
    RandomSeed,
    /// The key that systemd encrypts this machine's credentials with.
    HostSecret,
    /// Free blocks go back to the hypervisor.
    Trim,
    /// The journal.
    Journal,
    /// All other logs.
    Logs,
    /// The installation's id.
    MachineId,
}

/// The steps in their order, and the level from which on each is done; user data goes when the host says so. Programs write logs, so
/// logs come late, and the journal is found by the machine's id, so that comes last.
const STEPS: [(Step, &str, CleanupLevel); 15] = [
    (Step::CloudInit, "cloud_init", Minimal),
    (Step::ShellHistory, "shell_history", Minimal),
    (Step::UserData, "user_data", Minimal),
    (Step::TempFiles, "temp_files", Standard),
    (Step::CrashDumps, "crash_dumps", Standard),
    (Step::UserCaches, "user_caches", Deep),
    (Step::PackageCache, "package_cache", Minimal),
    (Step::DhcpLeases, "dhcp_leases", Standard),
    (Step::SshHostKeys, "ssh_host_keys", Minimal),
    (Step::RandomSeed, "random_seed", Standard),
    (Step::HostSecret, "host_secret", Deep),
    (Step::Trim, "trim", Deep),
    (Step::Journal, "journal", Minimal),
    (Step::Logs, "logs", Minimal),
    (Step::MachineId, "machine_id", Minimal),
];

/// Something to do to the agent, when nothing of it is written any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnStep {
    /// The shared secret.
    Secret,
    /// The id of the machine in the configuration.
    VmId,
    /// What the agent remembers over a restart, and its audit.
    State,
    /// All that was done is on the disk.
    Sync,
}

/// The secret first: whoever is interrupted here leaves an agent that is locked, never one that has forgotten which lines it has seen.
const OWN_STEPS: [(OwnStep, &str); 4] = [
    (OwnStep::Secret, "agent_secret"),
    (OwnStep::VmId, "agent_vm_id"),
    (OwnStep::State, "agent_state"),
    (OwnStep::Sync, "sync"),
];

/// `PrepareGoldenImage`.
#[derive(Clone, Copy, Debug, Deserialize)]
struct PrepareGoldenImage {
    cleanup_level: CleanupLevel,
    sanitize_user_data: bool,
    shutdown_after: bool,
}

/// Makes a `PrepareGoldenImage`.
///
/// # Errors
/// `INVALID_PARAMETERS` where a field is missing or holds no legal value.
pub fn prepare(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    fields::<PrepareGoldenImage>(command)
}

/// A step that was done.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Done {
    name: &'static str,
    success: bool,
    detail: String,
}

impl Done {
    fn new(name: &'static str, result: Result<String, CommandError>) -> Self {
        let success = result.is_ok();
        Self { name, success, detail: result.unwrap_or_else(|error| error.sentence) }
    }
}

impl Action for PrepareGoldenImage {
    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move { prepare_image(&context, Arc::new(DBus), *self).await.unwrap_or_else(Outcome::from) })
    }
}

/// What fails is a step that failed; the others are done all the same.
///
/// # Errors
/// Where nothing was done, or the command has to end: then the agent takes commands again, and a second try does the rest.
async fn prepare_image(
    context: &Context,
    bus: Arc<dyn SystemBus>,
    command: PrepareGoldenImage,
) -> Result<Outcome, CommandError> {
    if command.shutdown_after {
        power::check(context, Down::PowerOff)?;
    }
    let closed = context.intake.close().await?;
    tracing::warn!("this machine is being made into a golden image");
    let intake = "no command is taken until the agent is started again; then it is locked until it is provisioned";
    let mut steps = vec![Done::new("intake", Ok(intake.to_owned()))];
    for (step, name) in command.steps() {
        go_on(context)?;
        steps.push(Done::new(name, within_its_time(context, platform::perform(context, step)).await));
    }
    go_on(context)?;
    closed.forget().await?;
    for (step, name) in OWN_STEPS {
        steps.push(Done::new(name, within_its_time(context, platform::perform_own(context, step)).await));
    }
    if command.shutdown_after {
        power::schedule(context, bus, Down::PowerOff);
    }
    outcome(&steps, command.shutdown_after)
}

impl PrepareGoldenImage {
    fn steps(self) -> impl Iterator<Item = (Step, &'static str)> {
        let is_wanted = move |step, least| match step {
            Step::UserData => self.sanitize_user_data,
            _ => self.cleanup_level >= least,
        };
        STEPS.into_iter().filter(move |(step, _, least)| is_wanted(*step, *least)).map(|(step, name, _)| (step, name))
    }
}

/// A command that must end does no further step.
fn go_on(context: &Context) -> Result<(), CommandError> {
    context.stop.is_reached().map_or(Ok(()), |reason| Err(reason.into()))
}

async fn within_its_time(
    context: &Context,
    step: impl Future<Output = Result<String, CommandError>>,
) -> Result<String, CommandError> {
    let end = context.stop.deadline().min(Instant::now() + LONGEST_STEP);
    let late = |_| Err(CommandError::failed("it was not over within its time and was left as it was"));
    timeout_at(end, step).await.unwrap_or_else(late)
}

fn outcome(steps: &[Done], shutdown_after: bool) -> Result<Outcome, CommandError> {
    let failed: Vec<&str> = steps.iter().filter(|step| !step.success).map(|step| step.name).collect();
    let mut data = json!({ "steps": value(&steps)? });
    if shutdown_after {
        data["shutdown_in_seconds"] = power::LATEST.as_secs().into();
    }
    if failed.is_empty() {
        return Ok(Outcome::data(data));
    }
    let (count, all, names) = (failed.len(), steps.len(), failed.join(", "));
    let sentence = format!(
        "{count} of {all} steps failed ({names}); `steps` says why. Clones of this image may share what is left"
    );
    Ok(Outcome { data: Some(data), ..CommandError::failed(sentence).into() })
}

#[cfg(test)]
mod tests;
