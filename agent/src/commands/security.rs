//! `CheckLinuxSecurity`: firewall, mandatory access control, security updates, SSH.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as platform;

use infini_protocol::host::SafeCommand;
use serde::{Deserialize, Serialize};

use super::action::{Action, Context, Running, fields};
use super::health::value;
use super::outcome::{CommandError, Outcome};
use super::system_bus::DBus;

/// `CheckLinuxSecurity`.
#[derive(Debug, Deserialize)]
struct CheckLinuxSecurity {}

/// Makes a `CheckLinuxSecurity`.
///
/// # Errors
/// None: it has no fields.
pub fn linux_security(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    fields::<CheckLinuxSecurity>(command)
}

/// `data` of `CheckLinuxSecurity`.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Security {
    firewall: Firewall,
    mandatory_access: MandatoryAccess,
    /// How many security updates wait; null where nobody has counted them.
    security_updates: Option<u64>,
    ssh: Ssh,
    recommendations: Vec<String>,
}

/// Whether packets that come in are filtered.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Firewall {
    /// Null where nobody could be asked.
    active: Option<bool>,
    /// `firewalld`, `ufw`, `nftables` or `iptables`.
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<&'static str>,
}

/// Which system confines programs.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct MandatoryAccess {
    /// `selinux`, `apparmor` or `none`.
    system: &'static str,
    /// `enforcing`, `permissive` (it only logs), `disabled`, or `unknown`.
    mode: &'static str,
}

/// How people get in over SSH; empty where no server is configured.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Ssh {
    /// Whether a password is enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    password_authentication: Option<bool>,
    /// sshd's own word: `yes`, `no`, `prohibit-password` or `forced-commands-only`.
    #[serde(skip_serializing_if = "Option::is_none")]
    root_login: Option<String>,
}

impl Action for CheckLinuxSecurity {
    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move {
            let security = platform::examine(&context, &DBus, platform::pending_security_updates).await;
            Outcome::from(security.and_then(|security| value(&security)))
        })
    }
}
