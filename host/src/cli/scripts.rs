//! `scripts`: the scripts that an agent asks for, and their ends.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use infini_protocol::agent::ScriptCompletion;
use infini_protocol::host::{HostMessage, PendingScriptsResponse, Script, Timeout};
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};

use super::answer;
use super::conversation::{Conversation, explain, left_behind, read_text, take_back};
use super::failure::{CANCELLED, Failure, SOFTWARE, UNAVAILABLE};
use super::order::{Common, begin};
use super::raw::{RAW_TIME, SHELLS};
use crate::link::random_name;
use crate::sanitize::sanitize;
use crate::vm::{Events, RequestError, VmEvent, VmState};

/// How much later than a script's time its end may come.
const GRACE: Duration = Duration::from_secs(5);

/// What shells say of a program that may not be run; the agent says it of a script that the guest does not permit.
const NOT_PERMITTED: i32 = 126;

#[derive(Debug, Args)]
pub struct ScriptsArgs {
    #[command(flatten)]
    common: Common,
    /// The scripts, in the order in which they run; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Run them as this user of the guest
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The guest's shell that reads them [default: sh, on Windows powershell]
    #[arg(long, value_name = "SHELL", value_parser = SHELLS)]
    shell: Option<String>,
}

/// A script's end as one line for programs.
#[derive(Serialize)]
struct Line<'a> {
    script: &'a str,
    #[serde(flatten)]
    completion: &'a ScriptCompletion,
}

/// `scripts`: hands each over when the one before has ended, for its time counts from then. The exit code is that of the first that failed.
pub async fn run(args: &ScriptsArgs) -> Result<u8, Failure> {
    let limit = args.common.timeout.unwrap_or(RAW_TIME);
    let open: VecDeque<Script> = args.files.iter().map(|file| args.script(file, limit)).collect::<Result<_, _>>()?;
    let conversation = begin(&args.common).await?;
    let patience = limit + GRACE;
    let events = conversation.vm.events();
    let mut delivery = Delivery { conversation, events, open, cancelled: false };
    let mut code = 0;
    while !delivery.open.is_empty() {
        delivery.hand_over().await?;
        let (name, completion) = delivery.next(Instant::now() + patience, patience).await?;
        show(&delivery.conversation.name, &name, &completion, args.common.json)?;
        if code == 0 {
            code = if delivery.cancelled { CANCELLED } else { answer::program(completion.exit_code, 0) };
        }
    }
    Ok(code)
}

impl ScriptsArgs {
    fn script(&self, file: &PathBuf, limit: Duration) -> Result<Script, Failure> {
        let script_content = read_text(file)?;
        let name = file.file_name().map_or_else(|| "-".to_owned(), |name| name.to_string_lossy().into_owned());
        Ok(Script {
            execution_id: random_name().map_err(RequestError::from)?,
            script_id: Some(name.clone()),
            script_name: Some(name),
            script_content,
            shell: self.shell.clone(),
            execution_type: Some("ON_DEMAND".to_owned()),
            input_values: Some(serde_json::json!({})),
            timeout_seconds: Some(Timeout::from_secs(limit.as_secs())),
            run_as: self.user.clone(),
        })
    }
}

/// Scripts that have not ended; the first one is handed over.
struct Delivery {
    conversation: Conversation,
    events: Events,
    open: VecDeque<Script>,
    cancelled: bool,
}

impl Delivery {
    /// Hands over the one whose turn it is. An agent that has it already knows its `execution_id` and leaves it at that.
    async fn hand_over(&self) -> Result<(), Failure> {
        let Some(script) = self.open.front() else { return Ok(()) };
        let message = HostMessage::PendingScriptsResponse(PendingScriptsResponse { scripts: vec![script.clone()] });
        let sent = self.conversation.vm.send(message).await;
        sent.map_err(|error| explain(&error, &script.execution_id))
    }

    /// The end of the script whose turn it is, with its name.
    async fn next(&mut self, deadline: Instant, patience: Duration) -> Result<(String, ScriptCompletion), Failure> {
        loop {
            let event = tokio::select! {
                event = self.events.recv() => event,
                () = self.conversation.signals.any() => {
                    self.interrupted().await?;
                    continue;
                }
                () = sleep_until(deadline) => return Err(self.overdue(patience)),
            };
            match event {
                Ok(VmEvent::ScriptEnded(completion)) => {
                    let ended = self.open.pop_front_if(|script| script.execution_id == completion.execution_id);
                    let Some(script) = ended else { continue };
                    return Ok((script.script_name.unwrap_or_default(), (*completion).clone()));
                }
                // The agent is new, or the connection is.
                Ok(VmEvent::ScriptsWanted | VmEvent::State(VmState::Ready)) => self.hand_over().await.unwrap_or(()),
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => {
                    writeln!(io::stderr(), "infinihost: the guest says so much that a script's end may be lost").ok();
                }
                Err(RecvError::Closed) => return Err(Failure::new(SOFTWARE, "the connection's task ended")),
            }
        }
    }

    /// The first Ctrl-C takes the script back and hands over no other, the second leaves.
    async fn interrupted(&mut self) -> Result<(), Failure> {
        self.open.truncate(1);
        let id = self.open.front().map_or("", |script| &script.execution_id);
        if std::mem::replace(&mut self.cancelled, true) {
            return Err(left_behind(id));
        }
        take_back(&self.conversation.vm, id).await;
        Ok(())
    }

    fn overdue(&self, patience: Duration) -> Failure {
        let name = self.open.front().and_then(|script| script.script_name.as_deref()).unwrap_or_default();
        let (name, seconds) = (sanitize(name), patience.as_secs());
        Failure::new(UNAVAILABLE, format!("no end within {seconds} s of: {name}; whether it ran is not known"))
    }
}

fn show(vm: &str, name: &str, completion: &ScriptCompletion, json: bool) -> Result<(), Failure> {
    if json {
        return answer::print_json(vm, &Line { script: name, completion });
    }
    answer::print_streams(&completion.stdout, &completion.stderr)?;
    let name = sanitize(name);
    let note = match completion.exit_code {
        0 => format!("{name}: done"),
        NOT_PERMITTED => format!(
            "{name}: exit code 126; where the guest does not permit scripts: its [permissions] need raw = \"all\", or the script's \
             SHA-256 in a rule (infiniservice policy explain tells which rule decides)"
        ),
        code => format!("{name}: exit code {code}"),
    };
    writeln!(io::stderr(), "infinihost: {note}").ok();
    Ok(())
}
