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
use tokio::time::timeout;

use super::action::{Action, Context, Running, fields};
use super::outcome::{CommandError, Outcome};
use super::system_bus::{DBus, SystemBus};

/// How long the machine stays up at most for a host that does not read the command's answer.
pub const LATEST: Duration = Duration::from_secs(3);

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
    Ok(json!({ "scheduled_in_seconds": LATEST.as_secs() }))
}

/// Whether anybody is there to do it: to be asked before anything else is done that ends with it.
///
/// # Errors
/// Where nobody is.
pub fn check(context: &Context, down: Down) -> Result<(), CommandError> {
    platform::check(context, down)
}

/// Has the machine go down once the command's answer has left, after [`LATEST`] in any case. A task that nobody waits for does it, for
/// the command has to end before it can be answered.
pub fn schedule(context: &Context, bus: Arc<dyn SystemBus>, down: Down) {
    let context = context.clone();
    tokio::spawn(async move {
        if !matches!(timeout(LATEST, context.receipt.written()).await, Ok(true)) {
            tracing::warn!("the machine goes down, and the host has not taken the answer that says so");
        }
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
    use crate::communication::Delivery;

    /// Lets the scheduled task run: with paused time a sleep is over as soon as nothing else can run.
    async fn pass(time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// A reboot that nobody has answered yet, and what is to be told of its answer.
    fn rebooting() -> (FakeBus, Delivery) {
        let machine = TestMachine::new(&[("/run/systemd/system/x", "")]);
        let (bus, delivery) = (FakeBus::systemd(), Delivery::default());
        let context = Context { receipt: delivery.receipt(), ..machine.context() };
        let data = reboot_system(&context, Arc::new(bus.clone()), Down::Reboot { force: true }).unwrap();
        assert_golden("RebootSystem", &data);
        (bus, delivery)
    }

    const REBOOTED: [&str; 1] = ["Reboot { force: true }"];

    #[tokio::test(start_paused = true)]
    async fn the_machine_goes_down_right_after_the_answer_has_left() {
        let (bus, delivery) = rebooting();
        pass(LATEST / 2).await;
        assert!(bus.called().is_empty(), "{:?}", bus.called());
        delivery.written();
        pass(Duration::from_millis(1)).await;
        assert_eq!(bus.called(), REBOOTED);
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_does_not_read_is_waited_for_and_no_longer() {
        let (bus, delivery) = rebooting();
        pass(LATEST - Duration::from_millis(1)).await;
        assert!(bus.called().is_empty(), "{:?}", bus.called());
        pass(Duration::from_millis(2)).await;
        assert_eq!(bus.called(), REBOOTED);
        drop(delivery);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_lost_is_not_waited_for() {
        let (bus, delivery) = rebooting();
        drop(delivery);
        pass(Duration::from_millis(1)).await;
        assert_eq!(bus.called(), REBOOTED);
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
            pass(LATEST).await;
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
