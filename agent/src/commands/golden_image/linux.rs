//! The steps on Linux.

mod agent;
mod homes;
mod identity;
mod logs;

use std::time::Duration;

use super::{OwnStep, Step};
use crate::commands::action::Context;
use crate::commands::cleanup::linux::{Place, Rule, Swept, clean_package_caches, sweep_places, trim};
use crate::commands::outcome::CommandError;
use crate::commands::tools;

/// Whatever its age, but not what locks, running services and sockets still need.
const UNUSED: Rule = Rule::Unused(Duration::ZERO);

const TEMP_FILES: [(&str, Rule); 2] = [("/tmp", UNUSED), ("/var/tmp", UNUSED)];

/// Of kdump and Debian's apport, of systemd, and of Fedora's abrt.
const CRASH_DUMPS: [(&str, Rule); 3] = [
    ("/var/crash", Rule::Everything),
    ("/var/lib/systemd/coredump", Rule::Everything),
    ("/var/spool/abrt", Rule::Everything),
];

/// Of dhclient, dhcpcd and NetworkManager. Theirs, too: what they make lasting ids of.
const DHCP_LEASES: [(&str, Rule); 6] = [
    ("/var/lib/dhcp", Rule::Named(&["*.leases", "*.lease"])),
    ("/var/lib/dhclient", Rule::Named(&["*.leases", "*.lease"])),
    ("/var/lib/dhcpcd", Rule::Named(&["*.lease", "*.lease6", "duid", "secret"])),
    ("/var/lib/dhcpcd5", Rule::Named(&["*.lease", "*.lease6"])),
    ("/etc", Rule::Named(&["dhcpcd.duid", "dhcpcd.secret"])),
    ("/var/lib/NetworkManager", Rule::Named(&["*.lease", "secret_key"])),
];

/// See systemd-creds(1).
const HOST_SECRET: [(&str, Rule); 1] = [("/var/lib/systemd", Rule::Named(&["credential.secret"]))];

/// Does a step and says what came of it.
///
/// # Errors
/// What of it failed.
pub async fn perform(context: &Context, step: Step) -> Result<String, CommandError> {
    match step {
        Step::CloudInit => cloud_init(context).await,
        Step::ShellHistory => homes::forget_history(context).await,
        Step::UserData => homes::empty(context).await,
        Step::TempFiles => remove(context, &TEMP_FILES).await,
        Step::CrashDumps => remove(context, &CRASH_DUMPS).await,
        Step::UserCaches => homes::empty_caches(context).await,
        Step::PackageCache => clean_package_caches(context).await.map(|freed| format!("{freed} bytes freed")),
        Step::DhcpLeases => remove(context, &DHCP_LEASES).await,
        Step::SshHostKeys => identity::remove_ssh_host_keys(context).await,
        Step::RandomSeed => identity::remove_random_seed(context).await,
        Step::HostSecret => remove(context, &HOST_SECRET).await,
        Step::Trim => trim_disks(context).await,
        Step::Journal => logs::remove_journal(context).await,
        Step::Logs => logs::empty(context).await,
        Step::MachineId => context.blocking(|context| identity::empty_machine_id(&context.roots)).await,
    }
}

/// Does a step to the agent. Each is short, and none is left half done when its command ends.
///
/// # Errors
/// What of it failed.
pub async fn perform_own(context: &Context, step: OwnStep) -> Result<String, CommandError> {
    let work: fn(&Context) -> Result<String, CommandError> = match step {
        OwnStep::Secret => |context| agent::remove_secret(&context.roots, &context.own),
        OwnStep::VmId => |context| agent::remove_vm_id(&context.roots, &context.own),
        OwnStep::State => |context| agent::remove_state(&context.roots, &context.own),
        OwnStep::Sync => |_| {
            rustix::fs::sync();
            Ok("all that was done is on the disk".to_owned())
        },
    };
    context.blocking(work).await
}

async fn cloud_init(context: &Context) -> Result<String, CommandError> {
    if tools::installed(&context.roots, "cloud-init").is_none() {
        return Ok("cloud-init is not installed".to_owned());
    }
    tools::output(context, "cloud-init", ["clean", "--logs"]).await?;
    Ok("cloud-init runs anew at the next boot".to_owned())
}

async fn trim_disks(context: &Context) -> Result<String, CommandError> {
    let steps = trim(context).await?;
    let told: Vec<&str> = steps.iter().map(|step| step.message.as_str()).collect();
    let told = if told.is_empty() { "there is no file system on a device".to_owned() } else { told.join("; ") };
    if steps.iter().all(|step| step.success) { Ok(told) } else { Err(CommandError::failed(told)) }
}

async fn remove(context: &Context, places: &[(&'static str, Rule)]) -> Result<String, CommandError> {
    told(swept(context, places).await?)
}

/// Sweeps those of the folders that are there; a link to another one is not one of them.
async fn swept(context: &Context, places: &[(&'static str, Rule)]) -> Result<Swept, CommandError> {
    let is_folder =
        |path: &str| context.roots.file(path).symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_dir());
    let there = places.iter().filter(|(path, _)| is_folder(path));
    let places = there.map(|(path, rule)| Place::new(*path, "", *rule)).collect();
    sweep_places(context, places, &[]).await
}

/// What a walk did, for people.
fn told(swept: Swept) -> Result<String, CommandError> {
    let files = if swept.removed_files == 1 { "file" } else { "files" };
    let done = match (swept.removed_files, swept.emptied_files) {
        (0, 0) => "there was nothing".to_owned(),
        (removed, 0) => format!("{removed} {files} removed"),
        (removed, emptied) => format!("{removed} {files} removed, {emptied} emptied"),
    };
    match swept.error() {
        None => Ok(done),
        Some(error) => Err(CommandError::failed(format!("{error}; {done}"))),
    }
}
