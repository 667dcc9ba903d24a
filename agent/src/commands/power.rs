//! `RebootSystem`, and how every action has the machine go down: answered first.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as platform;

use std::sync::Arc;
use std::time::Duration;

use infini_protocol::host::SafeCommand;
use serde::Deserialize;
use serde_json::{Value, json};

use super::action::{Action, Context, Running, fields};
use super::outcome::{CommandError, Outcome};
use super::system_bus::{DBus, SystemBus};

/// Between the answer and the end: enough for the answer to pass a slow port, and for the audit to reach the disk.
pub const DELAY: Duration = Duration::from_secs(3);

/// How the machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// It comes up again.
    Reboot {
        /// Services are not stopped in order.
        force: bool,
    },
    /// It stays off.
    PowerOff,
}

/// `RebootSystem`; with force without stopping the services in order.
#[derive(Debug, Deserialize)]
struct RebootSystem {
    force: Option<bool>,
}

/// Makes a `RebootSystem`.
///
/// # Errors
/// `INVALID_PARAMETERS` where `force` is neither true nor false.
pub fn reboot(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    fields::<RebootSystem>(command)
}

impl Action for RebootSystem {
    fn run(self: Box<Self>, context: Context) -> Running {
        let down = Down::Reboot { force: self.force.unwrap_or(false) };
        Box::pin(async move { Outcome::from(reboot_system(&context, Arc::new(DBus), down)) })
    }
}

fn reboot_system(context: &Context, bus: Arc<dyn SystemBus>, down: Down) -> Result<Value, CommandError> {
    check(context, down)?;
    schedule(context, bus, down);
    Ok(json!({ "scheduled_in_seconds": DELAY.as_secs() }))
}

/// Whether anybody is there to do it: to be asked before anything else is done that ends with it.
///
/// # Errors
/// Where nobody is.
pub fn check(context: &Context, down: Down) -> Result<(), CommandError> {
    platform::check(context, down)
}

/// Has the machine go down after [`DELAY`], in a task that nobody waits for: the command is over and answered before.
pub fn schedule(context: &Context, bus: Arc<dyn SystemBus>, down: Down) {
    let context = context.clone();
    tokio::spawn(async move {
        tokio::time::sleep(DELAY).await;
        if let Err(error) = platform::go_down(&context, &*bus, down).await {
            // The answer is out; only the log can tell.
            tracing::error!("the machine does not go down: {error}");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::test_machine::{FakeBus, TestMachine};
    use crate::commands::testing::assert_golden;

    /// Lets the scheduled task run: with paused time a sleep is over as soon as nothing else can run.
    async fn pass(time: Duration) {
        tokio::time::sleep(time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_comes_first() {
        let machine = TestMachine::new(&[("/run/systemd/system/x", "")]);
        let bus = FakeBus::systemd();
        let down = Down::Reboot { force: true };
        let data = reboot_system(&machine.context(), Arc::new(bus.clone()), down).unwrap();
        assert_golden("RebootSystem", &data);
        pass(DELAY - Duration::from_millis(1)).await;
        assert!(bus.called().is_empty(), "{:?}", bus.called());
        pass(Duration::from_millis(2)).await;
        assert_eq!(bus.called(), ["Reboot { force: true }"]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_systemd_the_program_does_it() {
        for (down, line) in [
            (Down::Reboot { force: false }, "reboot"),
            (Down::Reboot { force: true }, "reboot -f"),
            (Down::PowerOff, "poweroff"),
        ] {
            let machine = TestMachine::new(&[]).prints(line, "");
            check(&machine.context(), down).unwrap();
            schedule(&machine.context(), Arc::new(FakeBus::default()), down);
            pass(DELAY * 2).await;
            assert_eq!(machine.ran(), [line]);
        }
    }

    #[tokio::test]
    async fn a_machine_that_cannot_go_down_says_so_at_once() {
        let machine = TestMachine::new(&[]);
        for (down, program) in [(Down::Reboot { force: false }, "`reboot`"), (Down::PowerOff, "`poweroff`")] {
            let error = check(&machine.context(), down).unwrap_err();
            assert!(error.sentence.contains(program), "{error}");
        }
    }
}
