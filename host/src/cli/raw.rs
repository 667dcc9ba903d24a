//! `exec` and `sh`: raw commands.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use infini_protocol::host::UnsafeCommand;
use serde_json::json;

use super::answer;
use super::conversation::Conversation;
use super::failure::{Failure, USAGE};
use super::order::{Common, begin, conclude};
use crate::quote::{self, Dialect};
use crate::vm::Command;

/// The shells that the protocol names.
pub const SHELLS: [&str; 6] = ["bash", "sh", "zsh", "powershell", "pwsh", "cmd"];

/// A raw command's time where the user gives none.
pub const RAW_TIME: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub struct ExecArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    surroundings: Surroundings,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    words: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ShArgs {
    #[command(flatten)]
    common: Common,
    /// The line
    #[arg(allow_hyphen_values = true)]
    line: String,
    #[command(flatten)]
    surroundings: Surroundings,
}

/// Where and as whom a raw command runs.
#[derive(Debug, Args)]
struct Surroundings {
    /// Run it in this directory of the guest
    #[arg(long, value_name = "DIRECTORY")]
    cwd: Option<String>,
    /// Add this to its environment; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Run it as this user of the guest
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The guest's shell that reads it [default: sh, on Windows powershell]
    #[arg(long, value_name = "SHELL", value_parser = SHELLS)]
    shell: Option<String>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a variable is NAME=VALUE".to_owned()),
    }
}

/// `exec`.
pub async fn exec(args: &ExecArgs) -> Result<u8, Failure> {
    let shell = args.surroundings.shell.as_deref();
    let unquotable = |error: quote::QuoteError| Failure::new(USAGE, error.to_string());
    // A shell that cannot be quoted for is told before anything is connected.
    Dialect::of(shell, None).map_err(unquotable)?;
    let conversation = begin(&args.common).await?;
    let dialect = Dialect::of(shell, conversation.platform().as_deref()).map_err(unquotable)?;
    let line = quote::line(dialect, &args.words).map_err(unquotable)?;
    run(conversation, &args.common, &args.surroundings, line).await
}

/// `sh`.
pub async fn sh(args: &ShArgs) -> Result<u8, Failure> {
    let conversation = begin(&args.common).await?;
    run(conversation, &args.common, &args.surroundings, args.line.clone()).await
}

async fn run(
    mut conversation: Conversation,
    common: &Common,
    surroundings: &Surroundings,
    line: String,
) -> Result<u8, Failure> {
    let asked = json!({ "raw_command": line });
    let command = surroundings.command(line);
    let command = Command::raw(command, Some(common.timeout.unwrap_or(RAW_TIME)))?;
    let response = conversation.ask(command).await?;
    if common.json {
        answer::print_json(&conversation.name, &response)?;
        return Ok(answer::exit_code(&response));
    }
    answer::print_streams(&response.stdout, &response.stderr)?;
    Ok(conclude(&response, &asked))
}

impl Surroundings {
    fn command(&self, line: String) -> UnsafeCommand {
        let variables: BTreeMap<String, String> = self.env.iter().cloned().collect();
        UnsafeCommand {
            id: String::new(),
            raw_command: line,
            shell: self.shell.clone(),
            timeout: None,
            working_dir: self.cwd.clone(),
            env_vars: (!variables.is_empty()).then_some(variables),
            run_as: self.user.clone(),
        }
    }
}
