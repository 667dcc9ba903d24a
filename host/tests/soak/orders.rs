//! What the agent is told to do, and what must come of it.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use infini_protocol::ErrorCode;
use infini_protocol::agent::{Response, ScriptCompletion};
use infini_protocol::host::{Action, HostMessage, PendingScriptsResponse, Script, Timeout, UnsafeCommand};
use infinihost::vm::{Command, RequestError, Vm, VmEvent, VmState};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use crate::random::Random;

/// What a command may take that does not have to be stopped: far more than it needs.
const AMPLE: Duration = Duration::from_secs(60);

/// What a command gets that has to be stopped. Its effect comes at its beginning, also where the machine is busy.
const SHORT: Duration = Duration::from_secs(3);

/// More than an agent keeps of answers that were sent.
const MUCH_OUTPUT: usize = 400_000;

/// How many of a thousand are of which kind; the rest only append their id.
const KINDS: [(&str, u64); 7] = [
    ("OsInfo", 200),
    ("ProcessList", 50),
    ("fails", 100),
    ("leaves processes", 50),
    ("much output", 10),
    ("never ends", 4),
    ("script", 100),
];

pub struct Order {
    pub id: String,
    pub kind: &'static str,
    task: Task,
}

enum Task {
    Command(Command),
    Script(Script),
}

/// How one was answered.
pub struct Answered {
    /// How often the caller had to ask.
    pub sendings: usize,
    /// The agent knows that it ran, and its answer is not kept.
    pub was_interrupted: bool,
}

/// The id of the command before all others.
pub const FIRST: &str = "first";

impl Order {
    /// One that only appends its id.
    pub fn first(effects: &Path) -> Self {
        Self::new(FIRST.to_owned(), "appends", effects)
    }

    /// So many, in an order that the seed repeats. What has an effect appends its id to the file.
    pub fn mixed(count: usize, effects: &Path, random: &mut Random) -> VecDeque<Self> {
        (0..count).map(|number| Self::new(format!("order-{number}"), kind(random.below(1000)), effects)).collect()
    }

    fn new(id: String, kind: &'static str, effects: &Path) -> Self {
        let append = format!("echo {id} >>{}", effects.display());
        let raw = |rest: &str, limit| Task::Command(raw(format!("{append}; {rest}"), limit).with_id(&id));
        let task = match kind {
            "OsInfo" => Task::Command(read(kind, json!({})).with_id(&id)),
            "ProcessList" => Task::Command(read(kind, json!({ "limit": 20 })).with_id(&id)),
            "fails" => raw("exit 3", AMPLE),
            "leaves processes" => raw("setsid sleep 98765 & sleep 98765 &", AMPLE),
            "much output" => raw(&format!("head -c {MUCH_OUTPUT} /dev/zero | tr '\\0' x"), AMPLE),
            "never ends" => raw("setsid sleep 98765 & sleep 98765", SHORT),
            "script" => Task::Script(script(&id, format!("{append}\nexit 4\n"))),
            _ => raw("true", AMPLE),
        };
        Self { id, kind, task }
    }

    /// Whether it appends its id.
    pub fn has_effect(&self) -> bool {
        !matches!(self.kind, "OsInfo" | "ProcessList")
    }

    /// Has it done, again under the same id until it is answered, and looks at the answer.
    pub async fn carry_out(&self, vm: &Vm) -> Answered {
        let mut sendings = 0;
        loop {
            vm.wait_for(|status| status.state != VmState::Absent).await.unwrap();
            sendings += 1;
            let answered = match &self.task {
                Task::Command(command) => vm.run(command.clone()).await.map(|response| self.judge(&response)),
                Task::Script(script) => has_ended(vm, script).await.map(|completion| self.judge_script(&completion)),
            };
            match answered {
                Ok(was_interrupted) => return Answered { sendings, was_interrupted },
                Err(RequestError::Send(_) | RequestError::NoAnswer(_)) => {}
                Err(error) => panic!("{}, {}: {error}", self.id, self.kind),
            }
        }
    }

    fn judge(&self, response: &Response) -> bool {
        assert_eq!(response.id, self.id);
        if response.error_code == Some(ErrorCode::Interrupted) {
            return true;
        }
        let is_right = match self.kind {
            "fails" => response.exit_code == 3,
            "much output" => response.success && response.stdout.len() == MUCH_OUTPUT,
            "never ends" => response.error_code == Some(ErrorCode::CommandTimeout) && response.timed_out,
            "OsInfo" | "ProcessList" => response.success && response.data.is_some(),
            _ => response.success && response.exit_code == 0,
        };
        assert!(is_right, "{}: {response:?}", self.kind);
        false
    }

    fn judge_script(&self, completion: &ScriptCompletion) -> bool {
        let was_interrupted = completion.stderr.contains("was taken in this boot already");
        assert!(was_interrupted || completion.exit_code == 4, "{completion:?}");
        was_interrupted
    }
}

fn kind(mut choice: u64) -> &'static str {
    for (kind, share) in KINDS {
        if choice < share {
            return kind;
        }
        choice -= share;
    }
    "appends"
}

fn read(action: &str, fields: serde_json::Value) -> Command {
    let fields = fields.as_object().cloned().unwrap_or_default();
    Command::safe(Action { action: action.to_owned(), fields }, Some(AMPLE)).unwrap()
}

fn raw(line: String, limit: Duration) -> Command {
    let command = UnsafeCommand {
        id: String::new(),
        raw_command: line,
        shell: None,
        timeout: None,
        working_dir: None,
        env_vars: None,
        run_as: None,
    };
    Command::raw(command, Some(limit)).unwrap()
}

fn script(id: &str, script_content: String) -> Script {
    Script {
        execution_id: id.to_owned(),
        script_id: None,
        script_name: None,
        script_content,
        shell: None,
        execution_type: None,
        input_values: None,
        timeout_seconds: Some(Timeout::from_secs(AMPLE.as_secs())),
        run_as: None,
    }
}

/// Hands a script over, once more in each connection, until its end is told.
async fn has_ended(vm: &Vm, script: &Script) -> Result<ScriptCompletion, RequestError> {
    let mut events = vm.events();
    let hand_over = || {
        let scripts = vec![script.clone()];
        vm.send(HostMessage::PendingScriptsResponse(PendingScriptsResponse { scripts }))
    };
    hand_over().await?;
    loop {
        match events.recv().await {
            Ok(VmEvent::ScriptEnded(completion)) if completion.execution_id == script.execution_id => {
                return Ok((*completion).clone());
            }
            Ok(VmEvent::State(VmState::Ready)) | Err(RecvError::Lagged(_)) => hand_over().await?,
            Ok(_) => {}
            Err(RecvError::Closed) => return Err(RequestError::Closed),
        }
    }
}
