//! The command line: `infinihost watch`, `metrics`, `demo`, and what has a guest do something.

mod answer;
mod contact;
mod conversation;
mod data;
mod demo;
mod failure;
mod help;
mod metrics;
mod order;
mod raw;
mod scripts;
mod table;
mod target;
mod typed;
mod watch;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::sanitize::excerpt;
use crate::vm::Endpoint;
pub use contact::{NoContact, Patience, first_sample, unheard};
use failure::{Failure, USAGE};
use help::AFTER_HELP;
use target::Target;

/// The host side of InfiniService: see into virtual machines without a network.
#[derive(Debug, Parser)]
#[command(name = "infinihost", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a virtual machine live
    ///
    /// A terminal view where standard output is a terminal, else one JSON object a line. With a secret a sample is asked for each
    /// interval; without one the agent's own samples are shown as they come, every 30 s by default.
    Watch(WatchArgs),
    /// Print one sample of a virtual machine
    Metrics(MetricsArgs),
    /// Show this very machine live, through an agent that is started for it
    Demo(DemoArgs),
    #[command(flatten)]
    Order(Box<order::Order>),
    /// The agent of the demo.
    #[command(name = AGENT_COMMAND, hide = true)]
    Agent {
        parent: u32,
        #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
        args: Vec<OsString>,
    },
}

const AGENT_COMMAND: &str = "__agent";

#[derive(Debug, Args)]
struct WatchArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    show: Show,
    /// Keep waiting for a machine that does not answer, instead of giving up
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Args)]
struct Show {
    /// One JSON object a line: {"vm", "timestamp" (guest's clock), "received" (host's clock), "data"}
    #[arg(long)]
    json: bool,
    /// End after this time, such as 5s or 2m
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Ask for a sample this often, 100ms to 1day
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,
}

#[derive(Debug, Args)]
struct MetricsArgs {
    #[command(flatten)]
    target: Target,
    /// One JSON object on one line: {"vm", "timestamp" (guest's clock), "received" (host's clock), "data"}
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct DemoArgs {
    #[command(flatten)]
    show: Show,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if interval < Duration::from_millis(100) {
        return Err("100ms is the least: a sample costs the guest some milliseconds".to_owned());
    }
    if interval > Duration::from_secs(86_400) {
        return Err("1day is the most".to_owned());
    }
    Ok(interval)
}

/// Runs the program with the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    // The demo's agent is this very program, which it starts once more for each command that it runs.
    if let Some(code) = infiniservice::cli::helper_from(std::env::args_os()) {
        return code;
    }
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            // A reader that left wants no help.
            error.print().ok();
            return ExitCode::from(code);
        }
    };
    let ended = match command {
        // No thread may run yet: the agent takes its secret out of the environment.
        Command::Agent { parent, args } => match demo::end_with(parent) {
            Ok(()) => {
                return infiniservice::cli::main_from(std::iter::once(OsString::from("infiniservice")).chain(args));
            }
            Err(error) => Err(error.into()),
        },
        command => run(command),
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            writeln!(io::stderr(), "infinihost: {failure}").ok();
            ExitCode::from(failure.code)
        }
    }
}

/// Gives the exit code of what ended in order.
fn run(command: Command) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Order(order) => return order.run().await,
            Command::Watch(args) => watch(args).await,
            Command::Metrics(args) => {
                metrics::run(&args.target.vm, args.target.endpoint()?, args.json, &mut io::stdout().lock()).await
            }
            Command::Demo(args) => demo::run(&args.show).await,
            Command::Agent { .. } => Ok(()),
        }
        .map(|()| 0)
    })
}

async fn watch(args: WatchArgs) -> Result<(), Failure> {
    let endpoint = args.target.endpoint()?.refreshed_every(args.show.interval);
    let patience = if args.wait { Patience::endless() } else { Patience::of(&endpoint) };
    warn_without_key(&endpoint);
    watch::run(&args.target.vm, endpoint, patience, &args.show).await
}

/// Without a secret the agent hears nothing; the user should know why so little happens.
fn warn_without_key(endpoint: &Endpoint) {
    if endpoint.key.is_none() {
        let note = "no secret given (--secret-file): waiting for the agent's own samples, every 30 s by default";
        writeln!(io::stderr(), "infinihost: {note}").ok();
    }
}

/// Text of a guest, cut and quoted for a terminal.
fn quoted(text: &str) -> String {
    format!("\"{}\"", excerpt(text, 200))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_interval_that_makes_no_sense_is_refused() {
        assert_eq!(interval("250ms"), Ok(Duration::from_millis(250)));
        assert!(interval("1ms").is_err());
        assert!(interval("soon").is_err());
        assert!(interval("1day").is_ok());
        assert!(interval("99999999999years").is_err());
    }
}
