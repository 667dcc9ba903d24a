//! `service`, `services`, `package`, `ps`, `top`, `kill` and `run`: actions with structured parameters.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use infini_protocol::host::Action;
use serde_json::Value;

use super::answer;
use super::conversation::read_text;
use super::failure::{Failure, USAGE};
use super::order::{Common, begin, conclude};
use crate::vm::Command;

/// The agent's own times where a host gives none: of what only looks,
pub const READ_TIME: Duration = Duration::from_secs(30);
/// of what changes something,
pub const CHANGE_TIME: Duration = Duration::from_secs(60);
/// and of what installs.
const LONG_TIME: Duration = Duration::from_secs(30 * 60);

#[derive(Debug, Args)]
pub struct ServicesArgs {
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct ServiceArgs {
    #[command(flatten)]
    pub common: Common,
    /// What to do
    operation: Operation,
    /// The service, as `infinihost services` names it
    service: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Operation {
    Start,
    Stop,
    Restart,
    Enable,
    Disable,
    Status,
}

#[derive(Debug, Args)]
pub struct PackageArgs {
    #[command(flatten)]
    common: Common,
    /// What to do
    operation: PackageOperation,
    /// The package as the guest's package manager names it; with search, what to look for
    #[arg(required_if_eq_any = PackageOperation::WITH_NAME.map(|name| ("operation", name)))]
    name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PackageOperation {
    Install,
    Remove,
    Update,
    Search,
    List,
}

impl PackageOperation {
    /// Those that say nothing without a name.
    const WITH_NAME: [&str; 4] = ["install", "remove", "update", "search"];
}

#[derive(Debug, Args)]
pub struct PsArgs {
    #[command(flatten)]
    pub common: Common,
    /// Show at most this many
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
}

#[derive(Debug, Args)]
pub struct TopArgs {
    #[command(flatten)]
    pub common: Common,
    /// Show at most this many
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// What to sort by
    #[arg(long, value_name = "BY")]
    sort: Option<Sort>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sort {
    Cpu,
    Memory,
}

#[derive(Debug, Args)]
pub struct KillArgs {
    #[command(flatten)]
    pub common: Common,
    /// The process, as `infinihost ps` numbers it
    pid: u32,
    /// Do not ask the process to end but end it: SIGKILL instead of SIGTERM
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    common: Common,
    /// The action as JSON: {"action":NAME, its fields}; `-` reads it from standard input, where no other user sees a password
    action: String,
}

/// An action of this name with the fields that are given.
pub fn action<const N: usize>(name: &str, fields: [(&str, Option<Value>); N]) -> Action {
    let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Action { action: name.to_owned(), fields: given.collect() }
}

impl ServiceArgs {
    /// What it asks the guest for.
    pub fn action(&self) -> Action {
        let operation = word(self.operation);
        action("ServiceControl", [("service", Some(self.service.clone().into())), ("operation", operation)])
    }
}

impl PsArgs {
    /// What it asks the guest for.
    pub fn action(&self) -> Action {
        action("ProcessList", [("limit", self.limit.map(Value::from))])
    }
}

impl TopArgs {
    /// What it asks the guest for.
    pub fn action(&self) -> Action {
        action("ProcessTop", [("limit", self.limit.map(Value::from)), ("sort_by", self.sort.and_then(word))])
    }
}

impl KillArgs {
    /// What it asks the guest for.
    pub fn action(&self) -> Action {
        action("ProcessKill", [("pid", Some(self.pid.into())), ("force", self.force.then_some(Value::Bool(true)))])
    }
}

impl PackageArgs {
    /// What it asks the guest for, and how long that may take.
    fn action(&self) -> (Action, Duration) {
        let name = || self.name.clone().map(Value::from);
        match self.operation {
            PackageOperation::Install => (action("PackageInstall", [("package", name())]), LONG_TIME),
            PackageOperation::Remove => (action("PackageRemove", [("package", name())]), LONG_TIME),
            PackageOperation::Update => (action("PackageUpdate", [("package", name())]), LONG_TIME),
            PackageOperation::Search => (action("PackageSearch", [("query", name())]), READ_TIME),
            PackageOperation::List => (action("PackageList", []), READ_TIME),
        }
    }
}

/// The word on the command line, which is that of the protocol.
fn word(value: impl ValueEnum) -> Option<Value> {
    Some(value.to_possible_value()?.get_name().into())
}

/// `package`.
pub async fn package(args: &PackageArgs) -> Result<u8, Failure> {
    if args.operation == PackageOperation::List && args.name.is_some() {
        return Err(Failure::new(USAGE, "package list takes no name; package search looks for one"));
    }
    let (action, time) = args.action();
    run(&args.common, action, time).await
}

/// `run`.
pub async fn any(args: &RunArgs) -> Result<u8, Failure> {
    let read;
    let text = if args.action == "-" {
        read = read_text(&PathBuf::from("-"))?;
        &read
    } else {
        &args.action
    };
    let action: Action = serde_json::from_str(text).map_err(|error| {
        Failure::new(USAGE, format!("an action is a JSON object such as {{\"action\":\"OsInfo\"}}: {error}"))
    })?;
    done(&args.common, action, args.common.timeout).await
}

/// An action with this much time, unless the user gave another.
pub async fn run(common: &Common, action: Action, time: Duration) -> Result<u8, Failure> {
    done(common, action, Some(common.timeout.unwrap_or(time))).await
}

async fn done(common: &Common, action: Action, limit: Option<Duration>) -> Result<u8, Failure> {
    let mut conversation = begin(common).await?;
    let asked = asked(&action);
    let name = action.action.clone();
    let response = conversation.ask(Command::safe(action, limit)?).await?;
    if common.json {
        answer::print_json(&conversation.name, &response)?;
        return Ok(answer::exit_code(&response));
    }
    answer::print_result(&name, &response)?;
    Ok(conclude(&response, &asked))
}

/// The action as it was asked for.
fn asked(action: &Action) -> Value {
    let mut asked = action.fields.clone();
    asked.insert("action".to_owned(), action.action.as_str().into());
    Value::Object(asked)
}
