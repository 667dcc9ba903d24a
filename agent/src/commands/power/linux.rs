//! Going down: systemd over D-Bus, else the program of the init system.

use std::time::Duration;

use tokio::time::Instant;

use super::Down;
use crate::commands::action::Context;
use crate::commands::outcome::CommandError;
use crate::commands::process_runner::Ending;
use crate::commands::stop::Stop;
use crate::commands::system_bus::{BusError, SystemBus};
use crate::commands::tools;

/// The program only tells the init system, or does not come back.
const TIME: Duration = Duration::from_secs(60);

/// The program that does it where systemd does not run, and its arguments.
const fn program(down: Down) -> (&'static str, &'static [&'static str]) {
    match down {
        Down::Reboot { force: false } => ("reboot", &[]),
        Down::Reboot { force: true } => ("reboot", &["-f"]),
        Down::PowerOff => ("poweroff", &[]),
    }
}

/// Whether anybody is there to do it.
pub fn check(context: &Context, down: Down) -> Result<(), CommandError> {
    let is_systemd = context.roots.file("/run/systemd/system").is_dir();
    let (name, _) = program(down);
    if is_systemd || tools::installed(&context.roots, name).is_some() {
        return Ok(());
    }
    let sentence = format!("neither systemd nor a `{name}` program is there, as in a container; do it from outside");
    Err(CommandError::failed(sentence))
}

/// Goes down. The command's own time is over by then, so this has one of its own.
pub async fn go_down(context: &Context, bus: &dyn SystemBus, down: Down) -> Result<(), CommandError> {
    match bus.go_down(down).await {
        Ok(()) => return Ok(()),
        Err(BusError::NoSystemd) => {}
        Err(BusError::Failed(why)) => return Err(CommandError::failed(why)),
    }
    let (_order, stop) = Stop::at(Instant::now() + TIME);
    let (name, arguments) = program(down);
    let finished = tools::run_until(context, stop, name, arguments).await?;
    if finished.ending == Ending::Exit(0) { Ok(()) } else { Err(tools::complaint(name, &finished)) }
}
