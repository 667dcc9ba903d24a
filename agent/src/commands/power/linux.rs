//! Rebooting: systemd over D-Bus, else the program of the init system.

use std::time::Duration;

use tokio::time::Instant;

use crate::commands::action::Context;
use crate::commands::outcome::CommandError;
use crate::commands::process_runner::Ending;
use crate::commands::stop::Stop;
use crate::commands::system_bus::{BusError, SystemBus};
use crate::commands::tools;

/// The program only tells the init system, or does not come back.
const TIME: Duration = Duration::from_secs(60);

/// Whether anybody is there to do it.
pub fn can_reboot(context: &Context) -> Result<(), CommandError> {
    let is_systemd = context.roots.file("/run/systemd/system").is_dir();
    if is_systemd || tools::installed(&context.roots, "reboot").is_some() {
        return Ok(());
    }
    Err(CommandError::failed(
        "neither systemd nor a `reboot` program is there, as in a container; reboot it from outside",
    ))
}

/// Reboots. The command's own time is over by then, so this has one of its own.
pub async fn reboot(context: &Context, bus: &dyn SystemBus, force: bool) -> Result<(), CommandError> {
    match bus.reboot(force).await {
        Ok(()) => return Ok(()),
        Err(BusError::NoSystemd) => {}
        Err(BusError::Failed(why)) => return Err(CommandError::failed(why)),
    }
    let (_order, stop) = Stop::at(Instant::now() + TIME);
    let arguments: &[&str] = if force { &["-f"] } else { &[] };
    let finished = tools::run_until(context, stop, "reboot", arguments).await?;
    if finished.ending == Ending::Exit(0) { Ok(()) } else { Err(tools::complaint("reboot", &finished)) }
}
