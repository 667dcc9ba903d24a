//! The machine's own programs: where they are, and running one to its end.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::action::Context;
use super::outcome::CommandError;
use super::process_runner::{Ending, Finished, Program};
use super::stop::Stop;
use crate::collector::linux::Roots;

/// Where distributions put programs. Not `/usr/local`: what an administrator put there need not understand the same options.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The absolute path of a program; `None` where it is not installed.
#[must_use]
pub fn installed(roots: &Roots, name: &str) -> Option<PathBuf> {
    let paths = FOLDERS.iter().map(|folder| Path::new(folder).join(name));
    paths.into_iter().find(|path| roots.file(path).exists())
}

/// Runs an installed program until it ends.
///
/// # Errors
/// Where it is not installed, cannot be started, or the command has to end first.
pub async fn run(
    context: &Context,
    name: &str,
    arguments: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<Finished, CommandError> {
    run_until(context, context.stop.clone(), name, arguments).await
}

/// As [`run`], with an earlier end.
///
/// # Errors
/// As with [`run`].
pub async fn run_until(
    context: &Context,
    stop: Stop,
    name: &str,
    arguments: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<Finished, CommandError> {
    let path = installed(&context.roots, name);
    let path = path.ok_or_else(|| CommandError::failed(format!("{name} is not installed")))?;
    let finished = context.programs.run(Program::new(path, arguments), stop).await;
    let finished = finished.map_err(|error| CommandError::failed(error.to_string()))?;
    match finished.ending {
        Ending::Stopped(reason) => Err(reason.into()),
        _ => Ok(finished),
    }
}

/// What a program printed, where it ended well.
///
/// # Errors
/// As with [`run`], and where it ended otherwise: with the last line of its complaint.
pub async fn output(
    context: &Context,
    name: &str,
    arguments: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<String, CommandError> {
    let finished = run(context, name, arguments).await?;
    if finished.ending == Ending::Exit(0) { Ok(finished.stdout.text) } else { Err(complaint(name, &finished)) }
}

/// How a program failed, for people.
#[must_use]
pub fn complaint(name: &str, finished: &Finished) -> CommandError {
    let how = match finished.ending {
        Ending::Exit(code) => format!("{name} ended with exit code {code}"),
        Ending::Signal(signal) => format!("{name} was ended by signal {signal}"),
        Ending::OutOfMemory => format!("{name} reached its memory limit"),
        Ending::Stopped(_) => format!("{name} had to end"),
    };
    let printed = last_line(&finished.stderr.text).or_else(|| last_line(&finished.stdout.text));
    CommandError::failed(printed.map_or_else(|| how.clone(), |line| format!("{how}: {line}")))
}

/// The last line with something in it.
#[must_use]
pub fn last_line(text: &str) -> Option<&str> {
    text.lines().rev().map(str::trim).find(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::test_machine::TestMachine;

    #[tokio::test]
    async fn a_program_runs_by_its_path_and_its_complaint_is_told() {
        let machine =
            TestMachine::new(&[]).prints("nft list ruleset", "table").fails("nft -x", 1, "a\nno such option\n\n");
        let context = machine.context();
        assert_eq!(output(&context, "nft", ["list", "ruleset"]).await.as_deref(), Ok("table"));
        let error = output(&context, "nft", ["-x"]).await.unwrap_err();
        assert_eq!(error.sentence, "nft ended with exit code 1: no such option");
        let error = output(&context, "ufw", ["status"]).await.unwrap_err();
        assert_eq!(error.sentence, "ufw is not installed");
        assert_eq!(installed(&context.roots, "nft"), Some("/usr/sbin/nft".into()));
    }
}
