//! What the kernel, the firewall's programs and sshd's configuration say.

mod firewall;
mod sshd;

use std::fs;

use super::{MandatoryAccess, Security, Ssh};
use crate::collector::linux::Roots;
use crate::commands::action::Context;
use crate::commands::outcome::CommandError;
use crate::commands::system_bus::SystemBus;

/// Counts the security updates that wait; `None` where nobody knows.
pub type PendingSecurityUpdates = fn(&Roots) -> Option<u64>;

/// What Ubuntu's update-notifier counted last. Where it is not installed nobody has counted.
pub fn pending_security_updates(roots: &Roots) -> Option<u64> {
    let told = fs::read_to_string(roots.file("/var/lib/update-notifier/updates-available")).ok()?;
    let line = told.lines().find(|line| line.contains("security update"))?;
    line.split_whitespace().next()?.parse().ok()
}

pub async fn examine(
    context: &Context,
    bus: &dyn SystemBus,
    updates: PendingSecurityUpdates,
) -> Result<Security, CommandError> {
    let firewall = firewall::find(context, bus).await?;
    let read = move |context: &Context| {
        let roots = &context.roots;
        Ok((mandatory_access(roots), updates(roots), sshd::read(roots)))
    };
    let (mandatory_access, security_updates, ssh) = context.blocking(read).await?;
    let mut security = Security { firewall, mandatory_access, security_updates, ssh, recommendations: Vec::new() };
    security.recommendations = recommendations(&security);
    Ok(security)
}

fn mandatory_access(roots: &Roots) -> MandatoryAccess {
    let word = |path: &str| fs::read_to_string(roots.sys.join(path)).map(|text| text.trim().to_owned()).ok();
    if let Some(enforce) = word("fs/selinux/enforce") {
        let mode = if enforce == "1" { "enforcing" } else { "permissive" };
        return MandatoryAccess { system: "selinux", mode };
    }
    if word("module/apparmor/parameters/enabled").as_deref() == Some("Y") {
        let mode = match word("kernel/security/apparmor/profiles") {
            None => "unknown",
            Some(profiles) if profiles.contains("(enforce)") => "enforcing",
            Some(profiles) if profiles.contains("(complain)") => "permissive",
            Some(_) => "disabled",
        };
        return MandatoryAccess { system: "apparmor", mode };
    }
    MandatoryAccess { system: "none", mode: "disabled" }
}

fn recommendations(security: &Security) -> Vec<String> {
    let Security { firewall, mandatory_access: access, security_updates, ssh, .. } = security;
    let Ssh { password_authentication, root_login } = ssh;
    let unconfined = access.mode != "enforcing" && access.mode != "unknown";
    let advice = [
        (firewall.active == Some(false), "no firewall filters what comes in: enable nftables, ufw or firewalld"),
        (firewall.active.is_none(), "nobody could say whether a firewall is active: look with `nft list ruleset`"),
        (unconfined, "no program is confined: enable AppArmor or SELinux in enforcing mode"),
        (security_updates.is_some_and(|count| count > 0), "security updates wait: install them"),
        (security_updates.is_none(), "nobody has counted security updates: ask `CheckLinuxUpdates`"),
        (
            *password_authentication == Some(true),
            "SSH takes passwords: use keys and set `PasswordAuthentication no` in sshd_config",
        ),
        (root_login.as_deref() == Some("yes"), "root may log in over SSH with a password: set `PermitRootLogin no`"),
    ];
    advice.into_iter().filter(|(applies, _)| *applies).map(|(_, advice)| advice.to_owned()).collect()
}

#[cfg(test)]
mod tests;
