//! What becomes of an answer: its exit code, what is printed where, and what to do next where it is a refusal.

use std::io::{self, IsTerminal, Write};

use infini_protocol::ErrorCode;
use infini_protocol::agent::{Ended, Response};
use serde::Serialize;
use serde_json::Value;

use super::data;
use super::failure::{CANCELLED, Failure, NO_PERMISSION, SOFTWARE, TIMED_OUT, TRY_LATER, UNAVAILABLE, USAGE};
use crate::json;
use crate::quote::{self, Dialect};
use crate::sanitize::{excerpt, output};

/// The guest's command failed, and nothing says how better.
const FAILED: u8 = 1;

/// A program that a signal ended, whose number is not told.
const SIGNALLED: u8 = 128;

/// A program that its memory limit ended: as shells say SIGKILL.
const OUT_OF_MEMORY: u8 = 137;

/// The longest sentence of a guest.
const SENTENCE: usize = 1000;

/// The longest command that advice repeats.
const REPEATED: usize = 300;

/// The exit code that follows the guest's: a program's own where one ran, else one for the reason.
pub fn exit_code(response: &Response) -> u8 {
    let by_reason = match response.error_code {
        // The result was cut, or there is nothing wrong.
        None | Some(ErrorCode::MessageTooLarge) if response.success => return program(response.exit_code, 0),
        Some(ErrorCode::CommandTimeout) => return TIMED_OUT,
        Some(ErrorCode::CommandCancelled) => return CANCELLED,
        Some(ErrorCode::PermissionDenied | ErrorCode::AuthFailed) => return NO_PERMISSION,
        Some(ErrorCode::InvalidParameters | ErrorCode::UnknownCommand) => return USAGE,
        Some(ErrorCode::ResourceLimit | ErrorCode::ShuttingDown) => return TRY_LATER,
        Some(ErrorCode::Interrupted) => return UNAVAILABLE,
        Some(ErrorCode::Internal) => return SOFTWARE,
        _ => FAILED,
    };
    match response.ended {
        Some(Ended::OutOfMemory) => OUT_OF_MEMORY,
        Some(Ended::Signal) => program(response.exit_code.max(0), SIGNALLED),
        Some(Ended::Timeout) => TIMED_OUT,
        Some(Ended::Cancelled) => CANCELLED,
        Some(Ended::Exit | Ended::Unknown) | None => program(response.exit_code, by_reason),
    }
}

/// A program's exit code as one of this program; what a system does not have becomes 255, and none at all `without`.
pub fn program(code: i32, without: u8) -> u8 {
    match code {
        0 => without,
        code => u8::try_from(code).unwrap_or(u8::MAX),
    }
}

/// One line for programs: the machine's name and the guest's answer.
pub fn print_json(vm: &str, answer: &impl Serialize) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Line<'a, T> {
        vm: &'a str,
        #[serde(flatten)]
        answer: &'a T,
    }
    let line = json::any_line(&Line { vm, answer }).map_err(|error| Failure::new(SOFTWARE, error.to_string()))?;
    written(io::stdout().lock().write_all(&line))
}

/// What a program in the guest printed: as it is into a file or a pipe; of what a terminal acts on only colours reach a terminal.
pub fn print_streams(stdout: &str, stderr: &str) -> Result<(), Failure> {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    let printed = if out.is_terminal() { output(stdout) } else { stdout.into() };
    written(out.write_all(printed.as_bytes()).and_then(|()| out.flush()))?;
    let printed = if err.is_terminal() { output(stderr) } else { stderr.into() };
    written(err.write_all(printed.as_bytes()))
}

/// A typed action's answer for people: the result as text, and what a program said beside it.
pub fn print_result(action: &str, response: &Response) -> Result<(), Failure> {
    if let Some(data) = &response.data {
        let text = data::text(action, data);
        let mut out = io::stdout().lock();
        written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))?;
    }
    if response.success && response.data.is_some() {
        return Ok(());
    }
    print_streams(&response.stdout, &response.stderr)
}

/// The reader of the output may leave.
fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if !Failure::is_broken_pipe(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

/// What to tell the user beside the output; nothing where the output and the exit code say all. `command` is what the guest was
/// asked for, in the form that `infiniservice policy explain` takes.
pub fn note(response: &Response, command: &Value) -> Option<String> {
    let ran_and_failed = response.error_code == Some(ErrorCode::CommandFailed)
        && response.ended == Some(Ended::Exit)
        && response.command_type == RAW;
    if ran_and_failed && !response.truncated {
        return None;
    }
    let mut note = match &response.error {
        Some(sentence) => excerpt(sentence, SENTENCE),
        None if response.truncated => "the output was too long for a line: its middle is left out".to_owned(),
        None if response.success || response.ended == Some(Ended::Exit) => return None,
        None => "the guest gave no reason".to_owned(),
    };
    if let Some(code) = response.error_code {
        note = format!("{note} ({code})");
        if let Some(advice) = advice(code, command) {
            note = format!("{note}; {advice}");
        }
    }
    Some(note)
}

/// What `command_type` says of a raw command.
const RAW: &str = "unsafe";

/// What to do next.
fn advice(code: ErrorCode, command: &Value) -> Option<String> {
    Some(match code {
        ErrorCode::PermissionDenied => format!(
            "in the guest, {} names the rule that decides, and [permissions] of its configuration is where it stands",
            explaining(command)
        ),
        ErrorCode::AuthFailed => "the guest's clock may have been set meanwhile: try again".to_owned(),
        ErrorCode::UnknownCommand => "the agent in the guest may be older than this program: update it".to_owned(),
        ErrorCode::ResourceLimit => "the agent has too much to do: try again later".to_owned(),
        ErrorCode::ShuttingDown => "try again when the agent is back".to_owned(),
        ErrorCode::CommandTimeout => "--timeout gives it more time".to_owned(),
        ErrorCode::Interrupted => {
            "it ran, and how it ended is not known: look at its effects before you run it again".to_owned()
        }
        ErrorCode::Internal => "the agent's log in the guest has more".to_owned(),
        _ => return None,
    })
}

/// The line that asks the guest's policy about this command, ready to be pasted into a shell. A password stays out of it.
fn explaining(command: &Value) -> String {
    let mut command = command.clone();
    if let Some(password) = command.get_mut("password") {
        *password = "...".into();
    }
    let words = ["infiniservice", "policy", "explain", &command.to_string()].map(str::to_owned);
    let line = quote::line(Dialect::Posix, &words).unwrap_or_default();
    let line = excerpt(&line, REPEATED + 1);
    if line.chars().count() > REPEATED { "infiniservice policy explain 'COMMAND AS JSON'".to_owned() } else { line }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(exit_code: i32, code: Option<ErrorCode>, ended: Option<Ended>) -> Response {
        let success = code.is_none() && exit_code == 0;
        let error = code.map(|_| "a sentence\u{1b}".to_owned());
        let command_type = RAW.to_owned();
        Response { exit_code, success, error, error_code: code, ended, command_type, ..Response::default() }
    }

    #[test]
    fn the_exit_code_follows_the_guests() {
        use ErrorCode as Code;
        for (exit, code, ended, expected) in [
            (0, None, Some(Ended::Exit), 0),
            (3, Some(Code::CommandFailed), Some(Ended::Exit), 3),
            (3, None, Some(Ended::Exit), 3),
            (77, Some(Code::CommandFailed), Some(Ended::Exit), 77),
            (-1, Some(Code::CommandFailed), Some(Ended::Signal), 128),
            (143, Some(Code::CommandFailed), Some(Ended::Signal), 143),
            (-1, Some(Code::CommandFailed), Some(Ended::OutOfMemory), 137),
            (i32::MIN, Some(Code::CommandFailed), Some(Ended::Exit), 255),
            (512, None, Some(Ended::Exit), 255),
            (0, Some(Code::CommandFailed), None, 1),
            (-1, Some(Code::CommandTimeout), Some(Ended::Timeout), 124),
            (-1, Some(Code::CommandCancelled), Some(Ended::Cancelled), 130),
            (1, Some(Code::CommandCancelled), None, 130),
            (1, Some(Code::PermissionDenied), None, 77),
            (1, Some(Code::AuthFailed), None, 77),
            (1, Some(Code::InvalidParameters), None, 64),
            (1, Some(Code::UnknownCommand), None, 64),
            (1, Some(Code::ResourceLimit), None, 75),
            (-1, Some(Code::ShuttingDown), Some(Ended::Cancelled), 75),
            (1, Some(Code::Interrupted), None, 69),
            (1, Some(Code::ServiceNotFound), None, 1),
            (1, Some(Code::UnsupportedPlatform), None, 1),
            (1, Some(Code::Unknown), None, 1),
        ] {
            assert_eq!(exit_code(&answer(exit, code, ended)), expected, "{exit} {code:?} {ended:?}");
        }
        let cut = Response { success: true, ..answer(0, Some(Code::MessageTooLarge), None) };
        assert_eq!(exit_code(&cut), 0, "a result that was cut is one");
    }

    #[test]
    fn a_refusal_says_what_to_do_next_without_the_password() {
        let command = json!({ "action": "JoinDomain", "domain": "it's", "password": "hunter2" });
        let note = note(&answer(1, Some(ErrorCode::PermissionDenied), None), &command).unwrap();
        assert!(
            note.starts_with("a sentence␛ (PERMISSION_DENIED); in the guest, infiniservice policy explain '{"),
            "{note}"
        );
        assert!(note.contains("[permissions]") && !note.contains("hunter2"), "{note}");
    }

    #[test]
    fn a_program_that_failed_has_spoken_for_itself() {
        let failed = answer(3, Some(ErrorCode::CommandFailed), Some(Ended::Exit));
        assert_eq!(note(&failed, &Value::Null), None);
        assert_eq!(note(&answer(3, None, Some(Ended::Exit)), &Value::Null), None);
        let typed = Response { command_type: "PackageInstall".to_owned(), ..failed };
        assert_eq!(note(&typed, &Value::Null).as_deref(), Some("a sentence␛ (COMMAND_FAILED)"));
    }
}
