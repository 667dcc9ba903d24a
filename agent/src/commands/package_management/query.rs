//! Asking a package manager: which programs, what they may answer, and the pure function that reads it.

use infini_protocol::ErrorCode;

use crate::commands::action::Context;
use crate::commands::outcome::CommandError;
use crate::commands::process_runner::{Ending, Finished, Program, Stdin};

/// One program of a question.
#[derive(Clone, Debug)]
pub struct Ask {
    program: Program,
    fine: &'static [i32],
}

/// How the programs' output is read: one text a program, in their order.
type Parse<T> = Box<dyn FnOnce(&[String]) -> Result<T, CommandError> + Send>;

/// A question to a package manager.
pub struct Query<T> {
    asks: Vec<Ask>,
    parse: Parse<T>,
}

/// What was found, and whether some of it is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// What was found.
    pub value: T,
    /// A program printed more than an answer can hold.
    pub truncated: bool,
}

/// A program that answers with 0.
pub fn ask(path: &str, arguments: &[&str]) -> Ask {
    ask_fine(path, arguments, &[0])
}

/// A program of which each of these exit codes is an answer.
pub fn ask_fine(path: &str, arguments: &[&str], fine: &'static [i32]) -> Ask {
    let mut program = Program::new(path, arguments);
    // Times without a zone are then in this one.
    program.environment.push(("TZ".into(), "UTC".into()));
    program.stdin = Stdin::Null;
    Ask { program, fine }
}

impl<T> Query<T> {
    /// A question.
    pub fn new(
        asks: impl IntoIterator<Item = Ask>,
        parse: impl FnOnce(&[String]) -> Result<T, CommandError> + Send + 'static,
    ) -> Self {
        Self { asks: asks.into_iter().collect(), parse: Box::new(parse) }
    }

    /// Runs the programs, one after another, and reads what they print.
    ///
    /// # Errors
    /// Where a program cannot be started, fails, must end, or prints what makes no sense.
    pub async fn run(self, context: &Context) -> Result<Found<T>, CommandError> {
        let mut texts = Vec::with_capacity(self.asks.len());
        let mut truncated = false;
        for ask in self.asks {
            let path = ask.program.path.clone();
            let running = context.programs.run(ask.program, context.stop.clone());
            let finished = running.await.map_err(|error| CommandError::failed(error.to_string()))?;
            fine(&path.to_string_lossy(), &finished, ask.fine)?;
            truncated |= finished.stdout.omitted > 0;
            texts.push(finished.stdout.text);
        }
        Ok(Found { value: (self.parse)(&texts)?, truncated })
    }
}

/// Whether a program ended as it may.
///
/// # Errors
/// `COMMAND_FAILED` with the last words of the program, or why it was stopped.
pub fn fine(path: &str, finished: &Finished, codes: &[i32]) -> Result<(), CommandError> {
    let how = match finished.ending {
        Ending::Exit(code) if codes.contains(&code) => return Ok(()),
        Ending::Exit(code) => format!("ended with exit code {code}"),
        Ending::Signal(signal) => format!("was ended by signal {signal}"),
        Ending::OutOfMemory => "needed more memory than it may have".to_owned(),
        Ending::Stopped(reason) => return Err(reason.into()),
    };
    let words = [&finished.stderr.text, &finished.stdout.text].into_iter().find_map(|text| last_line(text));
    let words = words.map_or_else(String::new, |line| format!(": {line}"));
    Err(CommandError::new(ErrorCode::CommandFailed, format!("{path} {how}{words}")))
}

fn last_line(text: &str) -> Option<&str> {
    text.lines().map(str::trim).rfind(|line| !line.is_empty())
}
