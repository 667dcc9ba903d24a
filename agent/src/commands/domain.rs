//! `JoinDomain`: makes the machine a member of a directory's domain.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as platform;

use std::fmt;
use std::sync::Arc;

use infini_protocol::host::SafeCommand;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::action::{Action, Context, Running, fields};
use super::health::value;
use super::outcome::{CommandError, Outcome};
use super::power::{self, Down};
use super::system_bus::{DBus, SystemBus};
use super::validation::{ComputerName, DomainName, OrganizationalUnit, PrincipalName};

/// Longer than any directory takes.
const LONGEST_PASSWORD: usize = 1024;

/// What stands where a program printed the password.
const REDACTED: &str = "(redacted)";

/// `JoinDomain`.
#[derive(Debug, Deserialize)]
struct JoinDomain {
    domain: DomainName,
    username: PrincipalName,
    password: Password,
    ou: Option<OrganizationalUnit>,
    computer_name: Option<ComputerName>,
    restart_after: bool,
}

/// Makes a `JoinDomain`.
///
/// # Errors
/// `INVALID_PARAMETERS` where a field is missing or holds no legal value; what the password is, no error says.
pub fn join(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    fields::<JoinDomain>(command)
}

/// A password, which nothing shows.
#[derive(Deserialize)]
#[serde(try_from = "Value")]
struct Password(Zeroizing<String>);

impl TryFrom<Value> for Password {
    type Error = &'static str;

    /// From any value, because serde's own errors would quote it.
    fn try_from(value: Value) -> Result<Self, &'static str> {
        let Value::String(text) = value else { return Err("the password is no text") };
        let text = Zeroizing::new(text);
        if text.is_empty() || text.len() > LONGEST_PASSWORD {
            return Err("the password has 1 to 1024 bytes");
        }
        // It is handed over as a line.
        if text.chars().any(char::is_control) {
            return Err("the password has no control characters");
        }
        Ok(Self(text))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

impl Password {
    /// A line with it, for a program's standard input.
    fn line(&self) -> Vec<u8> {
        format!("{}\n", *self.0).into_bytes()
    }

    /// What a program printed, without it.
    fn scrub(&self, text: &mut String) {
        if text.contains(&*self.0) {
            *text = text.replace(&*self.0, REDACTED);
        }
    }
}

/// `data` of `JoinDomain`.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Joined {
    domain: String,
    computer_name: String,
    restart_required: bool,
}

impl Action for JoinDomain {
    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move { join_domain(&context, Arc::new(DBus), &self).await.unwrap_or_else(Outcome::from) })
    }
}

async fn join_domain(
    context: &Context,
    bus: Arc<dyn SystemBus>,
    command: &JoinDomain,
) -> Result<Outcome, CommandError> {
    let reboot = Down::Reboot { force: false };
    if command.restart_after {
        power::check(context, reboot)?;
    }
    let program = platform::program(&context.roots, command)?;
    let finished = context.programs.run(program, context.stop.clone()).await;
    let mut finished = finished.map_err(|error| CommandError::failed(error.to_string()))?;
    for printed in [&mut finished.stdout, &mut finished.stderr] {
        command.password.scrub(&mut printed.text);
    }
    let outcome = platform::outcome(finished);
    if outcome.error.is_some() {
        return Ok(Outcome { data: None, ..outcome });
    }
    let data = value(&platform::joined(&context.roots, command))?;
    if command.restart_after {
        power::schedule(context, bus, reboot);
    }
    Ok(Outcome { data: Some(data), ..outcome })
}

#[cfg(test)]
mod tests;
