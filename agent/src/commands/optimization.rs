//! `CheckResourceOptimization`: where the machine's resources could be used better.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as platform;

use infini_protocol::host::SafeCommand;
use serde::{Deserialize, Serialize};

use super::action::{Action, Context, Running, fields};
use super::health::value;
use super::outcome::{CommandError, Outcome};

/// `CheckResourceOptimization`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Fields")]
struct CheckResourceOptimization {
    days: Option<u32>,
}

#[derive(Deserialize)]
struct Fields {
    evaluation_window_days: Option<u32>,
}

/// Makes a `CheckResourceOptimization`.
///
/// # Errors
/// `INVALID_PARAMETERS` where the days are no whole number from 1 to 365.
pub fn resources(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    fields::<CheckResourceOptimization>(command)
}

impl TryFrom<Fields> for CheckResourceOptimization {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        match fields.evaluation_window_days {
            Some(days) if !(1..=365).contains(&days) => {
                Err(format!("evaluation_window_days is from 1 to 365, not {days}"))
            }
            days => Ok(Self { days }),
        }
    }
}

/// `data` of `CheckResourceOptimization`.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Optimization {
    cpu_optimization_available: bool,
    memory_optimization_available: bool,
    disk_optimization_available: bool,
    recommendations: Vec<String>,
}

impl Action for CheckResourceOptimization {
    fn run(self: Box<Self>, context: Context) -> Running {
        Box::pin(async move {
            let found = platform::look(&context, self.days).await;
            Outcome::from(found.and_then(|optimization| value(&optimization)))
        })
    }
}
