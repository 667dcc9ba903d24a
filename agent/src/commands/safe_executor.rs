//! Safe commands: from the host's fields to an action that may run, judged by the policy and with a time of its own.

use std::sync::Arc;

use infini_protocol::ErrorCode;
use infini_protocol::host::SafeCommand;

use super::action::Action;
use super::executor::CommandLimits;
use super::executor::plan::{Plan, Refusal, check_id, time};
use super::executor::weight;
use super::outcome::CommandError;
use super::policy::{Judge, Permit, Policy, Request, Subject, process_facts};
use super::spec;
use crate::collector::linux::Roots;

/// What will run for an action. Nothing has started yet.
///
/// # Errors
/// Where there is no such action, a field holds no legal value, or the policy does not permit it.
pub fn plan(
    command: &SafeCommand,
    policy: &Arc<Policy>,
    limits: &CommandLimits,
    roots: &Roots,
) -> Result<Plan, Refusal> {
    check_id(&command.id)?;
    let name = command.command_type.action.as_str();
    let Some(spec) = spec(name) else {
        let sentence = format!("no action has the name {:?}", brief(name));
        return Err(CommandError::new(ErrorCode::UnknownCommand, sentence).into());
    };
    let action = (spec.parse)(command)?;
    let (time, note) = time([command.timeout.as_ref(), action.timeout()], spec.default_time, limits)?;
    let subjects = subjects(action.as_ref(), roots);
    let kind = action.kind().unwrap_or(spec.kind);
    let Permit { rule, .. } = policy.decide(&Request::of_safe(command, kind, &subjects))?;
    let (exclusive, bytes) = (action.exclusive(), weight::of_safe(command));
    let judge = Judge::new(policy, spec.name, subjects);
    Ok(Plan { time, note, rule, exclusive, bytes, run: Box::new(move |context| action.run(context.judged_by(judge))) })
}

fn subjects(action: &dyn Action, roots: &Roots) -> Vec<Subject> {
    let look_up = |pid| process_facts(&roots.proc, pid);
    action.targets().into_iter().map(|target| Subject::from_target(target, look_up)).collect()
}

fn brief(name: &str) -> &str {
    &name[..name.floor_char_boundary(64)]
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use serde_json::json;

    use super::*;
    use crate::commands::policy::{Asking, Permissions};
    use crate::commands::test_machine::TestMachine;

    #[tokio::test]
    async fn a_process_is_judged_anew_when_its_command_runs() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = child.id();
        let file = format!("/proc/{pid}/stat");
        let stat = |name: &str, started: u64| {
            format!("{pid} ({name}) S 1 {pid} {pid} 0 -1 4194560 1 2 0 0 4 1 0 0 20 0 1 0 {started} 8192 3")
        };
        let section = "[permissions]\nchanges = \"all\"\nprotected_processes = \"sshd\"\n";
        let policy = Arc::new(Policy::new(Asking::Holder, Some(Permissions::from_toml(section).unwrap())));
        let limits = CommandLimits::of(&crate::config::Config::default());
        let command = json!({ "id": "1", "command_type": { "action": "ProcessKill", "pid": pid, "force": true } });
        let command: SafeCommand = serde_json::from_value(command).unwrap();
        for (name, started, expected) in [
            ("sshd", 70, Some(ErrorCode::PermissionDenied)),
            ("sleep", 90, Some(ErrorCode::ProcessNotFound)),
            ("sleep", 70, None),
        ] {
            let machine = TestMachine::new(&[(&file, &stat("sleep", 70))]);
            let plan = plan(&command, &policy, &limits, &machine.context().roots).unwrap();
            let machine = machine.file(&file, &stat(name, started));
            let outcome = (plan.run)(machine.context()).await;
            let code = outcome.error.as_ref().map(|error| error.code);
            assert_eq!(code, expected, "{name} since {started}: {outcome:?}");
            assert!(expected.is_none() || child.try_wait().unwrap().is_none(), "{name} since {started} was ended");
        }
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }
}
