//! Whether a time service keeps the clock.

use serde_json::json;

use super::Why;
use crate::commands::action::Context;
use crate::commands::health::{Finding, Status};
use crate::commands::system_bus::SystemBus;
use crate::commands::tools;

/// systemd-timesyncd touches this file whenever it has set the clock.
const TIMESYNCD: &str = "/run/systemd/timesync/synchronized";

/// Asks timedated, which knows whichever service does it; without it chrony, and timesyncd's mark.
pub async fn time_sync(context: &Context, bus: &dyn SystemBus) -> Result<Finding, Why> {
    let (is_synchronized, source) = match bus.is_clock_synchronized().await {
        Ok(is_synchronized) => (is_synchronized, "timedated"),
        Err(_) if tools::installed(&context.roots, "chronyc").is_some() => (chrony(context).await?, "chrony"),
        Err(_) if context.roots.file(TIMESYNCD).exists() => (true, "systemd-timesyncd"),
        Err(error) => return Err(format!("nobody tells whether the clock is kept: {error}; chrony is not installed")),
    };
    let finding = if is_synchronized {
        Finding::new(Status::Healthy, "a time service keeps the clock")
    } else {
        Finding::new(Status::Warning, "no time service keeps the clock; enable systemd-timesyncd or chrony")
    };
    Ok(finding.with(json!({ "source": source })))
}

async fn chrony(context: &Context) -> Result<bool, Why> {
    let tracking = tools::output(context, "chronyc", ["-n", "tracking"]).await.map_err(|error| error.sentence)?;
    let leap = tracking.lines().find_map(|line| line.strip_prefix("Leap status")?.split_once(':'));
    let (_, leap) = leap.ok_or("chronyc does not tell the leap status")?;
    Ok(leap.trim() != "Not synchronised")
}
