//! `RebootSystem`: answered before the machine goes down.

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

/// Between the answer and the reboot: enough for the answer to pass a slow port, and for the audit to reach the disk.
const DELAY: Duration = Duration::from_secs(3);

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
        let force = self.force.unwrap_or(false);
        Box::pin(async move { Outcome::from(schedule(context, Arc::new(DBus), force)) })
    }
}

/// Has the machine reboot after [`DELAY`], in a task that nobody waits for: the command is over and answered before.
fn schedule(context: Context, bus: Arc<dyn SystemBus>, force: bool) -> Result<Value, CommandError> {
    platform::can_reboot(&context)?;
    tokio::spawn(async move {
        tokio::time::sleep(DELAY).await;
        if let Err(error) = platform::reboot(&context, &*bus, force).await {
            // The answer is out; only the log can tell.
            tracing::error!("the machine does not reboot: {error}");
        }
    });
    Ok(json!({ "scheduled_in_seconds": DELAY.as_secs() }))
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
        let data = schedule(machine.context(), Arc::new(bus.clone()), true).unwrap();
        assert_golden("RebootSystem", &data);
        pass(DELAY - Duration::from_millis(1)).await;
        assert!(bus.called().is_empty(), "{:?}", bus.called());
        pass(Duration::from_millis(2)).await;
        assert_eq!(bus.called(), ["reboot force=true"]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_systemd_the_program_does_it() {
        for (force, line) in [(false, "reboot"), (true, "reboot -f")] {
            let machine = TestMachine::new(&[]).prints(line, "");
            schedule(machine.context(), Arc::new(FakeBus::default()), force).unwrap();
            pass(DELAY * 2).await;
            assert_eq!(machine.ran(), [line]);
        }
    }

    #[tokio::test]
    async fn a_machine_that_cannot_reboot_says_so_at_once() {
        let machine = TestMachine::new(&[]);
        let error = schedule(machine.context(), Arc::new(FakeBus::default()), false).unwrap_err();
        assert!(error.sentence.contains("reboot"), "{error}");
    }
}
