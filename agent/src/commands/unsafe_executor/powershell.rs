//! `ExecutePowerShellScript`: a raw command in a safe one's clothes. The raw rules judge it, and it runs as a raw command does.

use std::collections::BTreeMap;

use infini_protocol::ErrorCode;
use infini_protocol::host::{SafeCommand, Timeout};
use serde::Deserialize;

use super::{Prepared, Shell, pwsh, start, user, variable};
use crate::collector::linux::Roots;
use crate::commands::action::{Action, Context, Running, fields};
use crate::commands::outcome::CommandError;
use crate::commands::policy::NO_ADMIN;
use crate::commands::process_runner::Program;
use crate::commands::validation::{EnvironmentName, FilePath};

/// `ExecutePowerShellScript`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Fields")]
struct ExecutePowerShellScript {
    script: Script,
    timeout: Option<Timeout>,
    working_directory: Option<FilePath>,
    variables: BTreeMap<EnvironmentName, String>,
    /// As the agent, which is root; else as [`NO_ADMIN`].
    run_as_admin: bool,
}

#[derive(Debug)]
enum Script {
    /// Its text.
    Inline(String),
    /// Where it is on this machine.
    File(FilePath),
}

#[derive(Deserialize)]
struct Fields {
    script: String,
    script_type: ScriptType,
    timeout_seconds: Option<Timeout>,
    working_directory: Option<FilePath>,
    environment_vars: Option<BTreeMap<EnvironmentName, String>>,
    run_as_admin: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ScriptType {
    Inline,
    File,
}

impl TryFrom<Fields> for ExecutePowerShellScript {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        let script = match fields.script_type {
            ScriptType::Inline => Script::Inline(fields.script),
            ScriptType::File => Script::File(fields.script.try_into().map_err(|why| format!("script: {why}"))?),
        };
        Ok(Self {
            script,
            timeout: fields.timeout_seconds,
            working_directory: fields.working_directory,
            variables: fields.environment_vars.unwrap_or_default(),
            run_as_admin: fields.run_as_admin,
        })
    }
}

/// Makes an `ExecutePowerShellScript`.
///
/// # Errors
/// `INVALID_PARAMETERS` where a field is missing or holds no legal value.
pub fn execute(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    fields::<ExecutePowerShellScript>(command)
}

impl ExecutePowerShellScript {
    /// The program that it stands for on this machine.
    fn prepare(self, roots: &Roots) -> Result<Prepared, CommandError> {
        let Some(pwsh_path) = Shell::PowerShell.find(roots) else {
            let sentence = "this machine has no PowerShell: there is neither /usr/bin/pwsh nor another place where it is installed";
            return Err(CommandError::new(ErrorCode::UnsupportedPlatform, sentence));
        };
        let mut program = match self.script {
            Script::Inline(text) => {
                let program = Program::new(pwsh_path, Shell::PowerShell.script());
                Program { script: Some(text.into_bytes()), ..program }
            }
            Script::File(path) => Program::new(pwsh_path, pwsh(["-File", path.as_str()])),
        };
        for (name, value) in &self.variables {
            program.environment.push(variable(name, value)?);
        }
        program.working_dir = self.working_directory.map(|folder| folder.as_str().into());
        let run_as = if self.run_as_admin { None } else { Some(user(NO_ADMIN)?) };
        Ok(Prepared { run_as, ..Prepared::new(program) })
    }
}

impl Action for ExecutePowerShellScript {
    fn timeout(&self) -> Option<&Timeout> {
        self.timeout.as_ref()
    }

    fn run(self: Box<Self>, context: Context) -> Running {
        match self.prepare(&context.roots) {
            Ok(prepared) => start(prepared, context),
            Err(error) => Box::pin(async { error.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::Path;
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::commands::process_runner::SCRIPT_PATH;
    use crate::commands::test_machine::TestMachine;

    fn action(more: Value) -> Result<ExecutePowerShellScript, serde_json::Error> {
        let mut fields = json!({ "script": "Get-Date", "script_type": "inline", "run_as_admin": true });
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(fields)
    }

    fn machine() -> TestMachine {
        TestMachine::new(&[("/usr/bin/pwsh", "")])
    }

    fn prepared(more: Value) -> Result<Prepared, CommandError> {
        action(more).unwrap().prepare(&machine().context().roots)
    }

    #[test]
    fn a_text_stands_in_no_argument_and_a_file_is_named() {
        let more = json!({ "working_directory": "/srv", "environment_vars": { "A": "x y" } });
        let Prepared { program, run_as } = prepared(more).unwrap();
        assert_eq!((program.path.as_path(), run_as), (Path::new("/usr/bin/pwsh"), None));
        assert_eq!(program.script.as_deref(), Some(&b"Get-Date"[..]));
        let line: Vec<_> = program.arguments.iter().map(|word| word.to_str().unwrap()).collect();
        assert!(!line.concat().contains("Get-Date") && line.concat().contains(SCRIPT_PATH), "{line:?}");
        assert_eq!(program.working_dir.as_deref(), Some(Path::new("/srv")));
        assert_eq!(program.environment, [("A".into(), "x y".into())]);

        let program = prepared(json!({ "script_type": "file", "script": "/srv/a b.ps1" })).unwrap().program;
        let expected = ["-NoProfile", "-NonInteractive", "-File", "/srv/a b.ps1"].map(OsString::from);
        assert_eq!((program.arguments, program.script), (expected.into(), None));
    }

    #[test]
    fn who_is_no_admin_is_nobody() {
        let prepared = prepared(json!({ "run_as_admin": false })).unwrap();
        assert_eq!(prepared.run_as.map(|user| user.to_string()).as_deref(), Some("nobody"));
    }

    #[test]
    fn without_powershell_it_is_another_platforms() {
        let error = action(json!({})).unwrap().prepare(&TestMachine::new(&[]).context().roots).unwrap_err();
        assert_eq!(error.code, ErrorCode::UnsupportedPlatform);
        let snap = TestMachine::new(&[("/snap/bin/pwsh", "")]);
        assert!(action(json!({})).unwrap().prepare(&snap.context().roots).is_ok());
    }

    #[test]
    fn illegal_fields_are_refused_before_anything_starts() {
        for more in [
            json!({ "script": null }),
            json!({ "script": ["id"] }),
            json!({ "script_type": "Inline" }),
            json!({ "script_type": "url" }),
            json!({ "script_type": null }),
            json!({ "script_type": "file" }),
            json!({ "script_type": "file", "script": "/srv/../a.ps1" }),
            json!({ "script_type": "file", "script": "-EncodedCommand" }),
            json!({ "working_directory": "srv" }),
            json!({ "working_directory": "/srv/" }),
            json!({ "environment_vars": { "A=B": "c" } }),
            json!({ "environment_vars": { "": "c" } }),
            json!({ "environment_vars": { "A": 1 } }),
            json!({ "environment_vars": ["A=b"] }),
            json!({ "run_as_admin": "false" }),
            json!({ "run_as_admin": null }),
        ] {
            let taken = action(more.clone());
            assert!(taken.is_err(), "{more}: {taken:?}");
        }
        assert!(prepared(json!({ "environment_vars": { "A": "b\u{0}" } })).is_err());
    }

    #[test]
    fn its_own_time_is_told() {
        let timeout = |more| action(more).unwrap().timeout().map(Timeout::get);
        assert_eq!(timeout(json!({ "timeout_seconds": 7 })), Some(Ok(Duration::from_secs(7))));
        assert!(timeout(json!({ "timeout_seconds": 0 })).is_some_and(|time| time.is_err()));
        assert_eq!(timeout(json!({})), None);
    }
}
