//! Raw commands and scripts: from what the host says to a program. Whether it may run is the policy's to say, before.

pub mod powershell;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use infini_protocol::ErrorCode;
use infini_protocol::host::{Script, UnsafeCommand};

use super::action::{Context, Running};
use super::outcome::CommandError;
use super::policy::DirectProgram;
use super::process_runner::{Account, Program, SCRIPT_PATH};
use super::validation::{EnvironmentName, UserName};
use crate::collector::linux::Roots;

/// The shell where the host names none.
pub const DEFAULT_SHELL: &str = "sh";

/// A shell that a host can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// The POSIX shell, the default.
    Sh,
    /// Bash.
    Bash,
    /// Zsh.
    Zsh,
    /// PowerShell, which Linux knows as `pwsh`.
    PowerShell,
}

impl Shell {
    /// Reads a name in any case; absent is `sh`.
    ///
    /// # Errors
    /// `UNSUPPORTED_PLATFORM` for `cmd`, `INVALID_PARAMETERS` for what is no shell.
    pub fn named(name: Option<&str>) -> Result<Self, CommandError> {
        match name.unwrap_or(DEFAULT_SHELL).to_ascii_lowercase().as_str() {
            "sh" => Ok(Self::Sh),
            "bash" => Ok(Self::Bash),
            "zsh" => Ok(Self::Zsh),
            "powershell" | "pwsh" => Ok(Self::PowerShell),
            "cmd" => Err(CommandError::new(ErrorCode::UnsupportedPlatform, "the shell cmd is for Windows only")),
            other => {
                let sentence = format!("{other:?} is no shell; there are bash, sh, zsh, powershell, pwsh and cmd");
                Err(CommandError::new(ErrorCode::InvalidParameters, sentence))
            }
        }
    }

    /// Where it may be installed.
    const fn places(self) -> &'static [&'static str] {
        match self {
            Self::Sh => &["/bin/sh", "/usr/bin/sh"],
            Self::Bash => &["/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash"],
            Self::Zsh => &["/bin/zsh", "/usr/bin/zsh", "/usr/local/bin/zsh"],
            Self::PowerShell => &["/usr/bin/pwsh", "/opt/microsoft/powershell/7/pwsh", "/snap/bin/pwsh"],
        }
    }

    /// Where it is installed.
    fn find(self, roots: &Roots) -> Option<PathBuf> {
        self.places().iter().find(|path| roots.file(path).exists()).map(PathBuf::from)
    }

    fn path(self) -> Result<PathBuf, CommandError> {
        self.find(&Roots::default()).ok_or_else(|| {
            let sentence = format!("this machine has no {}; install it or name another shell", self.places()[0]);
            CommandError::failed(sentence)
        })
    }

    /// The arguments that make it run a line.
    fn line(self, line: &str) -> Vec<OsString> {
        match self {
            Self::Sh | Self::Bash | Self::Zsh => vec!["-c".into(), line.into()],
            Self::PowerShell => pwsh(["-Command", line]),
        }
    }

    /// The arguments that make it run the script at [`SCRIPT_PATH`].
    fn script(self) -> Vec<OsString> {
        match self {
            Self::Sh | Self::Bash | Self::Zsh => vec![SCRIPT_PATH.into()],
            // It runs no file whose name does not end in .ps1.
            Self::PowerShell => {
                pwsh(["-Command", &format!("& ([scriptblock]::Create([IO.File]::ReadAllText('{SCRIPT_PATH}')))")])
            }
        }
    }
}

fn pwsh(what: [&str; 2]) -> Vec<OsString> {
    ["-NoProfile", "-NonInteractive"].into_iter().chain(what).map(OsString::from).collect()
}

/// A program that is ready but for its user, who is looked up where that may take its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    program: Program,
    run_as: Option<UserName>,
}

impl Prepared {
    fn new(program: Program) -> Self {
        Self { program, run_as: None }
    }

    /// The program, with its user.
    ///
    /// # Errors
    /// `USER_NOT_FOUND`, or `COMMAND_FAILED` where that cannot be found out.
    pub async fn program(self) -> Result<Program, CommandError> {
        let Some(name) = self.run_as else { return Ok(self.program) };
        match Account::look_up(&name).await {
            Ok(Some(account)) => Ok(Program { run_as: Some(account), ..self.program }),
            Ok(None) => Err(CommandError::new(ErrorCode::UserNotFound, format!("there is no user {name}"))),
            Err(error) => Err(CommandError::failed(format!("the user {name} could not be looked up: {error}"))),
        }
    }
}

/// Runs it.
pub fn start(prepared: Prepared, context: Context) -> Running {
    Box::pin(async move {
        match prepared.program().await {
            Ok(program) => context.programs.run(program, context.stop.clone()).await.into(),
            Err(error) => error.into(),
        }
    })
}

/// The program that a raw command stands for where everything is permitted: a shell with the line.
///
/// # Errors
/// `INVALID_PARAMETERS` for a line, folder, variable or user that cannot be, `COMMAND_FAILED` without the shell.
pub fn shell(command: &UnsafeCommand) -> Result<Prepared, CommandError> {
    no_nul("raw_command", &command.raw_command)?;
    let shell = Shell::named(command.shell.as_deref())?;
    let mut program = Program::new(shell.path()?, shell.line(&command.raw_command));
    for (name, value) in command.env_vars.iter().flatten() {
        program.environment.push(variable(&named(name)?, value)?);
    }
    around(program, command)
}

/// The program that a raw command stands for where a rule permits it: the line's words, without a shell.
///
/// # Errors
/// As with [`shell`].
pub fn direct(command: &UnsafeCommand, direct: DirectProgram) -> Result<Prepared, CommandError> {
    let program = Program::new(direct.program.as_str(), direct.arguments);
    around(program, command)
}

/// The folder and the user.
fn around(mut program: Program, command: &UnsafeCommand) -> Result<Prepared, CommandError> {
    if let Some(folder) = &command.working_dir {
        no_nul("working_dir", folder)?;
        if !folder.starts_with('/') {
            return Err(invalid(format!("working_dir {folder:?} is no absolute path")));
        }
        program.working_dir = Some(folder.into());
    }
    Ok(Prepared { run_as: command.run_as.as_deref().map(user).transpose()?, ..Prepared::new(program) })
}

/// The program that a script stands for: a shell that reads it from a file without a name.
///
/// # Errors
/// As with [`shell`].
pub fn script(script: &Script) -> Result<Prepared, CommandError> {
    let shell = Shell::named(script.shell.as_deref())?;
    let mut program = Program::new(shell.path()?, shell.script());
    program.script = Some(script.script_content.clone().into_bytes());
    for (name, value) in inputs(script)? {
        program.environment.push(variable(&named(&name)?, &value)?);
    }
    Ok(Prepared { run_as: script.run_as.as_deref().map(user).transpose()?, ..Prepared::new(program) })
}

/// What a script asks for reaches it as environment variables of the same names; what is not text as JSON.
fn inputs(script: &Script) -> Result<Vec<(String, String)>, CommandError> {
    let values = match &script.input_values {
        None => return Ok(Vec::new()),
        Some(serde_json::Value::Object(values)) => values,
        Some(_) => return Err(invalid("input_values is no object")),
    };
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Ok(values.iter().map(|(name, value)| (name.clone(), text(value))).collect())
}

fn user(name: &str) -> Result<UserName, CommandError> {
    UserName::try_from(name.to_owned()).map_err(|error| invalid(error.to_string()))
}

fn named(name: &str) -> Result<EnvironmentName, CommandError> {
    EnvironmentName::try_from(name.to_owned()).map_err(|error| invalid(format!("{name:?}: {error}")))
}

fn variable(name: &EnvironmentName, value: &str) -> Result<(OsString, OsString), CommandError> {
    no_nul(name.as_str(), value)?;
    Ok((name.as_str().into(), OsString::from_vec(value.into())))
}

fn no_nul(what: &str, text: &str) -> Result<(), CommandError> {
    if text.contains('\0') { Err(invalid(format!("{what} has a NUL in it"))) } else { Ok(()) }
}

fn invalid(sentence: impl Into<String>) -> CommandError {
    CommandError::new(ErrorCode::InvalidParameters, sentence)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn raw(more: serde_json::Value) -> Result<Prepared, CommandError> {
        let mut command = json!({ "id": "1", "raw_command": "echo $HOME" });
        command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        shell(&serde_json::from_value(command).unwrap())
    }

    #[test]
    fn a_line_goes_to_the_shell_as_one_argument() {
        let program = raw(json!({ "working_dir": "/tmp", "env_vars": { "A_1": "x y" } })).unwrap().program;
        let arguments: Vec<OsString> = ["-c", "echo $HOME"].map(OsString::from).into();
        assert_eq!((program.path.as_path(), program.arguments), (Path::new("/bin/sh"), arguments));
        assert_eq!(program.environment, [("A_1".into(), "x y".into())]);
        assert_eq!(program.working_dir.as_deref(), Some(Path::new("/tmp")));
    }

    #[test]
    fn what_cannot_be_is_refused_before_anything_starts() {
        for (more, code) in [
            (json!({ "shell": "cmd" }), ErrorCode::UnsupportedPlatform),
            (json!({ "shell": "fish" }), ErrorCode::InvalidParameters),
            (json!({ "shell": "/bin/sh" }), ErrorCode::InvalidParameters),
            (json!({ "raw_command": "a\u{0}b" }), ErrorCode::InvalidParameters),
            (json!({ "working_dir": "tmp" }), ErrorCode::InvalidParameters),
            (json!({ "working_dir": "/tmp\u{0}" }), ErrorCode::InvalidParameters),
            (json!({ "env_vars": { "A=B": "c" } }), ErrorCode::InvalidParameters),
            (json!({ "env_vars": { "": "c" } }), ErrorCode::InvalidParameters),
            (json!({ "env_vars": { "1A": "c" } }), ErrorCode::InvalidParameters),
            (json!({ "env_vars": { "A": "c\u{0}" } }), ErrorCode::InvalidParameters),
            (json!({ "run_as": "-root" }), ErrorCode::InvalidParameters),
        ] {
            let error = raw(more.clone()).expect_err(&format!("{more} was taken"));
            assert_eq!(error.code, code, "{more}: {error}");
        }
    }

    #[tokio::test]
    async fn a_user_who_is_not_there_runs_nothing() {
        let prepared = raw(json!({ "run_as": "nobody-has-this-name" })).unwrap();
        assert_eq!(prepared.program().await.unwrap_err().code, ErrorCode::UserNotFound);
        let prepared = raw(json!({ "run_as": "root" })).unwrap();
        assert_eq!(prepared.program().await.unwrap().run_as.map(|account| account.uid), Some(0));
    }

    #[test]
    fn a_script_and_its_inputs_never_stand_in_arguments() {
        let given = json!({ "execution_id": "e", "script_content": "echo hidden", "shell": "BASH",
                            "input_values": { "NAME": "value", "COUNT": 3 } });
        let program = script(&serde_json::from_value(given).unwrap()).unwrap().program;
        assert_eq!(program.path, Path::new("/bin/bash"));
        assert_eq!(program.arguments, [OsString::from(SCRIPT_PATH)]);
        assert_eq!(program.script.as_deref(), Some(&b"echo hidden"[..]));
        assert_eq!(program.environment, [("COUNT".into(), "3".into()), ("NAME".into(), "value".into())]);
    }
}
