//! `scripts`: the scripts that an agent asks for, and their ends.

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

/// How much later than the last script's time its end may come.
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

/// `scripts`: hands them over and waits for each one's end. The exit code is that of the first that failed.
pub async fn run(args: &ScriptsArgs) -> Result<u8, Failure> {
    let limit = args.common.timeout.unwrap_or(RAW_TIME);
    let open: Vec<Script> = args.files.iter().map(|file| args.script(file, limit)).collect::<Result<_, _>>()?;
    let conversation = begin(&args.common).await?;
    let patience = limit.saturating_mul(u32::try_from(open.len()).unwrap_or(u32::MAX)) + GRACE;
    let events = conversation.vm.events();
    let mut delivery = Delivery { conversation, events, open, cancelled: false };
    delivery.hand_over().await?;
    let deadline = Instant::now() + patience;
    let mut code = 0;
    while !delivery.open.is_empty() {
        let (name, completion) = delivery.next(deadline, patience).await?;
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

/// Scripts that were handed over and have not ended.
struct Delivery {
    conversation: Conversation,
    events: Events,
    open: Vec<Script>,
    cancelled: bool,
}

impl Delivery {
    /// Hands over what has not ended. An agent that has a script already knows its `execution_id` and leaves it at that.
    async fn hand_over(&self) -> Result<(), Failure> {
        let message = HostMessage::PendingScriptsResponse(PendingScriptsResponse { scripts: self.open.clone() });
        let sent = self.conversation.vm.send(message).await;
        sent.map_err(|error| explain(&error, self.open.first().map_or("", |script| &script.execution_id)))
    }

    /// The next end of a script of ours, with the script's name.
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
                    let Some(at) = self.open.iter().position(|it| it.execution_id == completion.execution_id) else {
                        continue;
                    };
                    let name = self.open.remove(at).script_name.unwrap_or_default();
                    return Ok((name, (*completion).clone()));
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

    /// The first Ctrl-C takes all back, the second leaves.
    async fn interrupted(&mut self) -> Result<(), Failure> {
        if std::mem::replace(&mut self.cancelled, true) {
            return Err(left_behind(self.open.first().map_or("", |script| &script.execution_id)));
        }
        for script in &self.open {
            take_back(&self.conversation.vm, &script.execution_id).await;
        }
        Ok(())
    }

    fn overdue(&self, patience: Duration) -> Failure {
        let names: Vec<String> = self
            .open
            .iter()
            .filter_map(|it| it.script_name.as_deref())
            .map(|name| sanitize(name).into_owned())
            .collect();
        let seconds = patience.as_secs();
        let names = names.join(", ");
        Failure::new(UNAVAILABLE, format!("no end within {seconds} s of: {names}; whether they ran is not known"))
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
