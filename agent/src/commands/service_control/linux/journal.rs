//! What a unit last wrote into the journal.

use std::path::Path;

use super::program;
use crate::commands::action::Context;
use crate::commands::process_runner::Program;
use crate::commands::service_control::manager::tail;

/// As many as `systemctl status` shows twice over: the reason of a failure is seldom further up.
const LINES: &str = "20";

/// What is kept of them. A single entry may be many megabytes long.
const LONGEST: usize = 8 * 1024;

/// The last lines of a unit. None where there is no journal, or it cannot be read: they are an addition to what failed.
pub(super) async fn last_lines(root: &Path, unit: &str, context: &Context) -> String {
    let Some(path) = program(root, "journalctl") else { return String::new() };
    let arguments =
        ["--no-pager", "--quiet", "--no-hostname", "--output=short-iso", "--lines", LINES, &format!("--unit={unit}")]
            .map(str::to_owned);
    match context.programs.run(Program::new(path, arguments), context.stop.clone()).await {
        Ok(finished) => tail(&finished.stdout.text, LONGEST).to_owned(),
        Err(error) => {
            tracing::debug!(%error, "no lines of the journal");
            String::new()
        }
    }
}
