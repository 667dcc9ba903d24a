//! The commands that a guest carries out.

use std::io::{self, Write};
use std::time::Duration;

use clap::{Args, Subcommand};
use infini_protocol::agent::Response;
use serde_json::Value;

use super::conversation::Conversation;
use super::failure::Failure;
use super::help::ORDER_HELP;
use super::target::Target;
use super::{answer, raw, scripts, typed};

#[derive(Debug, Subcommand)]
pub enum Order {
    /// Run a program in the guest with these arguments
    ///
    /// The arguments reach the program as they stand here: they are quoted for the guest's shell. Needs the guest's permission for
    /// raw commands.
    #[command(after_help = ORDER_HELP)]
    Exec(raw::ExecArgs),
    /// Have the guest's shell run a line
    #[command(after_help = ORDER_HELP)]
    Sh(raw::ShArgs),
    /// Start, stop, restart, enable or disable a service of the guest, or show its state
    #[command(after_help = ORDER_HELP)]
    Service(typed::ServiceArgs),
    /// List the guest's services
    #[command(after_help = ORDER_HELP)]
    Services(typed::ServicesArgs),
    /// Install, remove, update, search or list packages of the guest
    #[command(after_help = ORDER_HELP)]
    Package(typed::PackageArgs),
    /// List the guest's processes
    #[command(after_help = ORDER_HELP)]
    Ps(typed::PsArgs),
    /// List the processes that take most of the guest's processors or memory
    #[command(after_help = ORDER_HELP)]
    Top(typed::TopArgs),
    /// End a process of the guest
    #[command(after_help = ORDER_HELP)]
    Kill(typed::KillArgs),
    /// Have any action done, given as JSON such as '{"action":"OsInfo"}'
    #[command(after_help = ORDER_HELP)]
    Run(typed::RunArgs),
    /// Run scripts in the guest, one after another
    #[command(after_help = ORDER_HELP)]
    Scripts(scripts::ScriptsArgs),
}

impl Order {
    /// Has it done and gives the exit code.
    pub async fn run(&self) -> Result<u8, Failure> {
        match self {
            Self::Exec(args) => raw::exec(args).await,
            Self::Sh(args) => raw::sh(args).await,
            Self::Service(args) => typed::run(&args.common, args.action(), typed::CHANGE_TIME).await,
            Self::Services(args) => typed::run(&args.common, typed::action("ServiceList", []), typed::READ_TIME).await,
            Self::Package(args) => typed::package(args).await,
            Self::Ps(args) => typed::run(&args.common, args.action(), typed::READ_TIME).await,
            Self::Top(args) => typed::run(&args.common, args.action(), typed::READ_TIME).await,
            Self::Kill(args) => typed::run(&args.common, args.action(), typed::CHANGE_TIME).await,
            Self::Run(args) => typed::any(args).await,
            Self::Scripts(args) => scripts::run(args).await,
        }
    }
}

/// What all of them take.
#[derive(Debug, Args)]
pub struct Common {
    #[command(flatten)]
    pub target: Target,
    /// One JSON object a line: {"vm", and the fields of the agent's answer}
    #[arg(long)]
    pub json: bool,
    /// How long the guest may take, in whole seconds, such as 90s, 5m or 90
    #[arg(long, value_name = "TIME", value_parser = limit)]
    pub timeout: Option<Duration>,
}

/// A command's time. The wire has whole seconds.
fn limit(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map(Duration::from_secs).ok();
    let limit = seconds.map_or_else(|| humantime::parse_duration(text).map_err(|error| error.to_string()), Ok)?;
    if limit.is_zero() || limit.subsec_nanos() > 0 {
        return Err("whole seconds, at least 1s".to_owned());
    }
    if limit > Duration::from_secs(86_400) {
        return Err("1day is the most; the agent has a limit of its own, 1h by default".to_owned());
    }
    Ok(limit)
}

/// Prints what is told beside an answer, and gives the exit code.
pub fn conclude(response: &Response, command: &Value) -> u8 {
    if let Some(note) = answer::note(response, command) {
        writeln!(io::stderr(), "infinihost: {note}").ok();
    }
    answer::exit_code(response)
}

/// Warns where the guest says that it is another one.
pub async fn begin(common: &Common) -> Result<Conversation, Failure> {
    let conversation = Conversation::begin(&common.target).await?;
    if let Some(told) = &conversation.vm.status().wrong_vm_id {
        let told = super::quoted(told);
        writeln!(io::stderr(), "infinihost: the guest says that its vm_id is {told}, which is not this socket's").ok();
    }
    Ok(conversation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_whole_seconds() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("5m", 300), ("1h", 3600)] {
            assert_eq!(limit(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["0", "0s", "500ms", "1s 1ms", "2days", "-1", "soon", "99999999999999999999"] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }
}
