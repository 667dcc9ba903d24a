//! What tells this machine from its clones.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use infini_protocol::ErrorCode;

use super::{swept, told};
use crate::collector::linux::Roots;
use crate::commands::action::Context;
use crate::commands::cleanup::linux::Rule;
use crate::commands::outcome::CommandError;
use crate::commands::service_control::Change;
use crate::commands::tools;
use crate::commands::validation::ServiceName;

const SSH_HOST_KEYS: [(&str, Rule); 2] =
    [("/etc/ssh", Rule::Named(&["ssh_host_*"])), ("/etc/dropbear", Rule::Named(&["dropbear_*_host_key"]))];

/// What makes new host keys when the machine starts: of Fedora and newer Debians, of Arch, of SUSE, and of OpenRC.
const KEY_MAKERS: [&str; 8] = [
    "/usr/lib/systemd/system/sshd-keygen.target",
    "/usr/lib/systemd/system/sshd-keygen.service",
    "/usr/lib/systemd/system/sshd-keygen@.service",
    "/etc/systemd/system/sshd-keygen.service",
    "/usr/lib/systemd/system/sshdgenkeys.service",
    "/usr/sbin/sshd-gen-keys-start",
    "/usr/lib/ssh/sshd-gen-keys-start",
    "/etc/init.d/sshd",
];

/// Of systemd, of sysvinit and OpenRC, and of systemd-boot.
const RANDOM_SEEDS: [(&str, Rule); 7] = [
    ("/var/lib/systemd", Rule::Named(&["random-seed"])),
    ("/var/lib/urandom", Rule::Named(&["random-seed"])),
    ("/var/lib/misc", Rule::Named(&["random-seed"])),
    ("/var/lib/seedrng", Rule::Named(&["seed.*"])),
    ("/boot/loader", Rule::Named(&["random-seed"])),
    ("/boot/efi/loader", Rule::Named(&["random-seed"])),
    ("/efi/loader", Rule::Named(&["random-seed"])),
];

/// Who would save a seed again as the machine goes down.
const SEED_SAVERS: [&str; 3] = ["systemd-random-seed", "seedrng", "urandom"];

pub async fn remove_ssh_host_keys(context: &Context) -> Result<String, CommandError> {
    let swept = swept(context, &SSH_HOST_KEYS).await?;
    let had_keys = swept.removed_files > 0;
    let detail = told(swept)?;
    let is_there = |path: &&str| context.roots.file(path).exists();
    let makes_keys = tools::installed(&context.roots, "cloud-init").is_some() || KEY_MAKERS.iter().any(is_there);
    if !had_keys || makes_keys {
        return Ok(detail);
    }
    Ok(format!("{detail}; nothing here makes new ones at boot: a clone needs `ssh-keygen -A` before it can be reached"))
}

/// Removes the seeds, once those have stopped that would save one at the end: all clones would begin with it.
pub async fn remove_random_seed(context: &Context) -> Result<String, CommandError> {
    let mut problems = Vec::new();
    for saver in SEED_SAVERS {
        let Ok(name) = ServiceName::try_from(saver.to_owned()) else { continue };
        match context.services.change(Change::Stop, &name, context).await {
            Ok(()) => {}
            Err(failure)
                if matches!(failure.error.code, ErrorCode::ServiceNotFound | ErrorCode::UnsupportedPlatform) => {}
            Err(failure) => problems.push(format!("{saver} may save one again: {failure}")),
        }
    }
    let detail = told(swept(context, &RANDOM_SEEDS).await?)?;
    if problems.is_empty() {
        Ok(detail)
    } else {
        Err(CommandError::failed(format!("{}; {detail}", problems.join("; "))))
    }
}

/// An empty file: machine-id(5) has it as what images ship, and unlike a missing one it can be mounted over where the root is read-only.
/// D-Bus's own copy has to go, because systemd would take the id back from there.
pub fn empty_machine_id(roots: &Roots) -> Result<String, CommandError> {
    let (own, of_dbus) = (roots.etc.join("machine-id"), roots.file("/var/lib/dbus/machine-id"));
    let emptied = match File::options().write(true).truncate(true).open(&own).and_then(|file| file.sync_all()) {
        Ok(()) => "emptied",
        Err(error) if error.kind() == io::ErrorKind::NotFound => "not there",
        Err(error) => return Err(failed(&own, &error)),
    };
    let copy = match of_dbus.symlink_metadata() {
        Ok(found) if found.is_symlink() => "a link, kept",
        Ok(_) => fs::remove_file(&of_dbus).map(|()| "removed").map_err(|error| failed(&of_dbus, &error))?,
        Err(_) => "not there",
    };
    Ok(format!("/etc/machine-id: {emptied}; /var/lib/dbus/machine-id: {copy}"))
}

fn failed(path: &Path, error: &io::Error) -> CommandError {
    CommandError::failed(format!("{}: {error}", path.display()))
}
