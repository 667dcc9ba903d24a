//! From a raw command or a script to what will run: legal, permitted, with a time of its own. Nothing has started yet.
//! [`crate::commands::safe_executor`] does the same for actions.

use std::time::Duration;

use infini_protocol::ErrorCode;
use infini_protocol::host::{InvalidTimeout, Script, Timeout, UnsafeCommand};

use super::{CommandLimits, weight};
use crate::commands::action::{CHANGE_TIME, Context, Exclusive, Running};
use crate::commands::outcome::CommandError;
use crate::commands::policy::{Denial, Permit, Policy, Request};
use crate::commands::unsafe_executor;

/// The longest id: what people and programs use as one has some 36 characters.
const LONGEST_ID: usize = 256;

/// The agent answers earlier than the host's own timer ends by this, or by a tenth of the time where that is less.
const HEAD_START: Duration = Duration::from_millis(500);

/// A command that may run.
pub struct Plan {
    /// From its receipt to its answer.
    pub time: Duration,
    /// For the end of `stderr`.
    pub note: Option<String>,
    /// The rule that permits it.
    pub rule: String,
    /// What only one at a time may do of it.
    pub exclusive: Option<Exclusive>,
    /// How much memory it takes while it waits, about.
    pub bytes: usize,
    /// Starts it.
    pub run: Box<dyn FnOnce(Context) -> Running + Send>,
}

/// Why a command may not run.
#[derive(Debug)]
pub struct Refusal {
    /// For the host.
    pub error: CommandError,
    /// The rule that forbids it; absent where it was refused for what it is.
    pub rule: Option<String>,
}

impl From<CommandError> for Refusal {
    fn from(error: CommandError) -> Self {
        Self { error, rule: None }
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Self { rule: Some(denial.rule.clone()), error: denial.into() }
    }
}

/// Plans a raw command.
pub fn raw(command: &UnsafeCommand, policy: &Policy, limits: &CommandLimits) -> Result<Plan, Refusal> {
    check_id(&command.id)?;
    let (time, note) = time([command.timeout.as_ref()], CHANGE_TIME, limits)?;
    let Permit { rule, direct } = policy.decide(&Request::Raw(command.into()))?;
    let prepared = match direct {
        Some(direct) => unsafe_executor::direct(command, direct)?,
        None => unsafe_executor::shell(command)?,
    };
    let run = Box::new(move |context| unsafe_executor::start(prepared, context));
    Ok(Plan { time, note, rule, exclusive: None, bytes: weight::of_raw(command), run })
}

/// Plans a script.
pub fn script(script: &Script, policy: &Policy, limits: &CommandLimits) -> Result<Plan, Refusal> {
    check_id(&script.execution_id)?;
    let (time, note) = time([script.timeout_seconds.as_ref()], CHANGE_TIME, limits)?;
    let Permit { rule, .. } = policy.decide(&Request::Script(script.into()))?;
    let prepared = unsafe_executor::script(script)?;
    let run = Box::new(move |context| unsafe_executor::start(prepared, context));
    Ok(Plan { time, note, rule, exclusive: Some(Exclusive::Scripts), bytes: weight::of_script(script), run })
}

/// Whether it can be a command's id.
pub fn check_id(id: &str) -> Result<(), CommandError> {
    if id.is_empty() || id.len() > LONGEST_ID || id.chars().any(char::is_control) {
        let sentence = format!("an id has 1 to {LONGEST_ID} bytes and no control characters");
        return Err(CommandError::new(ErrorCode::InvalidParameters, sentence));
    }
    Ok(())
}

/// The time from receipt to answer, and what to tell of it. Where the host asks for more than one, the shortest counts.
pub fn time<'t>(
    asked: impl IntoIterator<Item = Option<&'t Timeout>>,
    default: Duration,
    limits: &CommandLimits,
) -> Result<(Duration, Option<String>), CommandError> {
    let invalid = |error: InvalidTimeout| CommandError::new(ErrorCode::InvalidParameters, error.to_string());
    let asked = asked.into_iter().flatten().map(|timeout| timeout.get().map_err(invalid));
    let asked = asked.collect::<Result<Vec<_>, _>>()?.into_iter().min().unwrap_or(default);
    let time = asked.min(limits.max_timeout);
    let note = (time < asked)
        .then(|| format!("infiniservice: {} s were asked for, {} s are the most", asked.as_secs(), time.as_secs()));
    Ok((time - HEAD_START.min(time / 10), note))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn time_of(timeout: serde_json::Value) -> Result<(Duration, bool), ErrorCode> {
        let timeout: Option<Timeout> = serde_json::from_value(timeout).unwrap();
        let found =
            time([timeout.as_ref()], Duration::from_secs(30), &CommandLimits::of(&crate::config::Config::default()));
        found.map(|(time, note)| (time, note.is_some())).map_err(|error| error.code)
    }

    #[test]
    fn the_answer_comes_before_the_hosts_own_timer_ends() {
        for (timeout, milliseconds, clamped) in [
            (json!(null), 29_500, false),
            (json!(1), 900, false),
            (json!(3), 2_700, false),
            (json!(5), 4_500, false),
            (json!(60), 59_500, false),
            (json!(3600), 3_599_500, false),
            (json!(3601), 3_599_500, true),
            (json!(u64::MAX), 3_599_500, true),
        ] {
            assert_eq!(time_of(timeout.clone()), Ok((Duration::from_millis(milliseconds), clamped)), "{timeout}");
        }
        for timeout in [json!(0), json!(-1), json!(1.5), json!("5"), json!([5])] {
            assert_eq!(time_of(timeout.clone()), Err(ErrorCode::InvalidParameters), "{timeout}");
        }
    }

    #[test]
    fn an_id_is_short_and_printable() {
        for id in ["1", "é1", "6f1c1b1e-2f7e-4a55-9f0e-3a2f6d1c9b10", &"x".repeat(256)] {
            assert!(check_id(id).is_ok(), "{id:?}");
        }
        for id in ["", "a\nb", "\0script e", "\u{7f}", &"x".repeat(257)] {
            assert!(check_id(id).is_err(), "{id:?}");
        }
    }
}
