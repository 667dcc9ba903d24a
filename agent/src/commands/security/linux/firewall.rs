//! Which firewall is at work: the one that manages the rules first, then the rules themselves.

use std::fs;

use infini_protocol::ErrorCode;

use super::super::Firewall;
use crate::commands::action::Context;
use crate::commands::outcome::CommandError;
use crate::commands::system_bus::SystemBus;
use crate::commands::tools;

/// # Errors
/// Where the command has to end. A program that fails leaves it unknown.
pub async fn find(context: &Context, bus: &dyn SystemBus) -> Result<Firewall, CommandError> {
    if bus.has_owner("org.fedoraproject.FirewallD1").await == Ok(true) {
        return Ok(active("firewalld"));
    }
    if ufw_is_enabled(context) {
        return Ok(active("ufw"));
    }
    let nft = ask(context, "nft", &["list", "ruleset"], filters_input).await?;
    if nft == Some(true) {
        return Ok(active("nftables"));
    }
    let iptables = ask(context, "iptables", &["-S", "INPUT"], |rules| !is_open(rules)).await?;
    if iptables == Some(true) {
        return Ok(active("iptables"));
    }
    Ok(Firewall { active: nft.or(iptables), backend: None })
}

const fn active(backend: &'static str) -> Firewall {
    Firewall { active: Some(true), backend: Some(backend) }
}

/// `ufw status` says the same, and needs Python for it.
fn ufw_is_enabled(context: &Context) -> bool {
    let configuration = fs::read_to_string(context.roots.file("/etc/ufw/ufw.conf")).unwrap_or_default();
    let is_enabled = configuration.lines().any(|line| line.trim().eq_ignore_ascii_case("ENABLED=yes"));
    is_enabled && tools::installed(&context.roots, "ufw").is_some()
}

/// What a program's output means; `None` where it is not installed or refuses.
async fn ask(
    context: &Context,
    program: &str,
    arguments: &[&str],
    judge: fn(&str) -> bool,
) -> Result<Option<bool>, CommandError> {
    match tools::output(context, program, arguments).await {
        Ok(printed) => Ok(Some(judge(&printed))),
        Err(error) if error.code == ErrorCode::CommandFailed => Ok(None),
        Err(stopped) => Err(stopped),
    }
}

/// Whether a chain at the input hook drops by default, or has a rule at all. Each chain ends with a brace on a line of its own.
fn filters_input(ruleset: &str) -> bool {
    let mut is_input = false;
    for line in ruleset.lines().map(str::trim) {
        if line.contains("hook input") && line.starts_with("type filter") {
            is_input = true;
            if line.contains("policy drop") {
                return true;
            }
        } else if line == "}" {
            is_input = false;
        } else if is_input && !line.is_empty() {
            return true;
        }
    }
    false
}

/// Nothing but the policy to accept.
fn is_open(rules: &str) -> bool {
    rules.lines().all(|line| line.trim().is_empty() || line.trim() == "-P INPUT ACCEPT")
}
