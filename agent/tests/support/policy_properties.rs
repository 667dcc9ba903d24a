//! What holds for any bytes on their way from the envelope to the decision whether they run: the executor's own, which is asked as the
//! agent asks it and never told to start anything, and the policy's, which `policy explain` shows. The fuzz target runs this with inputs
//! that grow by coverage, the corpus test with those that were kept.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use infini_protocol::ErrorCode;
use infini_protocol::agent::AgentBody;
use infini_protocol::envelope::{Key, seal};
use infini_protocol::host::{HostMessage, UnsafeCommand};
use infiniservice::auth::replay::NonceJournal;
use infiniservice::auth::{Authenticator, Moment, Trust, Verdict};
use infiniservice::collector::linux::Roots;
use infiniservice::commands::action::{Context, Kind, Origin, Target};
use infiniservice::commands::audit::{Audit, AuditSettings};
use infiniservice::commands::executor::{Answer, Command, CommandExecutor, CommandLimits, Work};
use infiniservice::commands::ids::{Ids, digest};
use infiniservice::commands::policy::explain::{Explained, decide};
use infiniservice::commands::policy::table::describe;
use infiniservice::commands::policy::{Asking, Judge, Permissions, Policy, ProcessFacts, words};
use infiniservice::commands::process_runner::{Program, ProgramRunner, RunningProgram};
use infiniservice::commands::stop::Stop;
use infiniservice::commands::validation::{Pid, ServiceName};
use infiniservice::commands::{intake, service_control, spec};
use infiniservice::communication::Receipt;
use infiniservice::config::Config;

const NOW: u64 = 1_767_225_600_000;

/// Sections, from the narrowest to the widest.
const EMPTY: &str = "[permissions]\n";
const INSTALLED: &str =
    "[permissions]\nreads = \"all\"\nchanges = [\"ServiceControl\", \"Package*\"]\nraw = \"none\"\n";
const RULES: &str = r#"
[permissions]
reads = "all"
changes = "all"
raw = "rules"
[[permissions.deny]]
service = "dbus*"
[[permissions.deny]]
package = "linux-image-*"
[[permissions.raw_rule]]
program = "/bin/systemctl"
arguments = ["status", "[a-z@.-]+"]
[[permissions.raw_rule]]
program = "/bin/echo"
arguments = [".*"]
run_as = ["nobody"]
working_dir = ["/srv"]
[[permissions.script_rule]]
sha256 = ["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]
shell = "sh"
"#;
const EVERYTHING: &str = "[permissions]\nreads = \"all\"\nchanges = \"all\"\nraw = \"all\"\n";
const BANNED: &str =
    "[permissions]\nreads = \"all\"\nchanges = \"all\"\nraw = \"all\"\n[[permissions.deny]]\naction = \"*\"\n";

/// Signs the bytes, has them believed, and holds what every policy says about them against what it must say; then takes them as a raw
/// line.
pub fn decided(input: &[u8]) {
    raw_line(&String::from_utf8_lossy(input));
    let key = Key::new("0123456789abcdef").unwrap();
    let mut gate = Authenticator::new(Trust::Secret(key.clone()), NonceJournal::in_memory());
    let moment = Moment { now_ms: NOW, boot_ms: NOW - 1000 };
    assert!(!matches!(gate.judge(input, moment), Verdict::Accepted { .. }), "believed without a signature");

    let line = seal(&key, NOW, "n-1", &String::from_utf8_lossy(input)).unwrap();
    let Verdict::Accepted { payload } = gate.judge(line.as_bytes(), moment) else { panic!("not believed: {line}") };
    assert_eq!(gate.judge(line.as_bytes(), moment), Verdict::Replayed);
    if let Ok(message) = HostMessage::parse(payload.as_bytes()) {
        every_policy(&message);
    }
}

fn every_policy(message: &HostMessage) {
    static SECTIONS: LazyLock<[Permissions; 5]> = LazyLock::new(|| {
        [EMPTY, INSTALLED, RULES, EVERYTHING, BANNED].map(|text| Permissions::from_toml(text).unwrap())
    });
    let [empty, installed, rules, everything, banned] = &*SECTIONS;
    let kind = kind(message);
    // There are no processes here, so what a process is cannot be found out.
    let ask = |asking, section: Option<&Permissions>| {
        let policy = Policy::new(asking, section.cloned());
        let explained = decide(&policy, message, Path::new("/nowhere"));
        executed_as_explained(&policy, message, explained.as_deref().ok());
        let decisions = explained.unwrap_or_default();
        for one in &decisions {
            let rule = one.decision.as_ref().map_or_else(|denial| &denial.rule, |permit| &permit.rule);
            assert!(!rule.is_empty() && !one.to_string().trim_end().contains('\0'), "{one}");
        }
        decisions
    };
    for section in [None, Some(empty), Some(installed), Some(rules), Some(everything), Some(banned)] {
        none(&ask(Asking::Nobody, section));
        if kind != Some(Kind::Read) {
            none(&ask(Asking::Anybody, section));
        }
    }
    none(&ask(Asking::Holder, Some(empty)));
    none(&ask(Asking::Holder, Some(banned)));
    if kind != Some(Kind::Read) {
        none(&ask(Asking::Holder, None));
    }
    if kind == Some(Kind::Raw) {
        none(&ask(Asking::Holder, Some(installed)));
    }
    under_rules(message, &ask(Asking::Holder, Some(rules)));
    protected(message, &ask(Asking::Holder, Some(everything)));
}

/// What the executor does about a message's commands, with nothing known and nothing under way, is what the policy says of them, unless it
/// refuses them for what they are.
fn executed_as_explained(policy: &Policy, message: &HostMessage, explained: Option<&[Explained]>) {
    let received = tokio::time::Instant::now();
    let take = |work| executor(policy).take(Command { payload: digest(b"payload"), work }, received);
    let answers: Vec<Option<Answer>> = match message {
        HostMessage::SafeCommand(command) => vec![take(Work::Safe(command.clone()))],
        HostMessage::UnsafeCommand(command) => vec![take(Work::Raw(command.clone()))],
        HostMessage::PendingScriptsResponse(answer) => {
            let one = |script: &_| executor(policy).take_scripts(vec![Clone::clone(script)], received).pop();
            answer.scripts.iter().map(one).collect()
        }
        _ => return,
    };
    let Some(explained) = explained else {
        assert!(answers.iter().all(Option::is_some), "what the policy cannot be asked about would run: {message:?}");
        return;
    };
    assert_eq!(answers.len(), explained.len());
    for (answer, one) in answers.iter().zip(explained) {
        match answer {
            None => assert!(one.decision.is_ok(), "it would run: {one}"),
            Some(Answer { body: AgentBody::Response(response), .. }) => {
                let is_denied = response.error_code == Some(ErrorCode::PermissionDenied);
                assert!(one.decision.is_err() || !is_denied, "the executor denies it: {one}");
            }
            // A script's answer says in words alone why it did not run.
            Some(_) => {}
        }
    }
    if let HostMessage::SafeCommand(command) = message
        && answers[0].is_none()
    {
        still_judged(policy, &command.command_type.action);
    }
}

/// What an action that runs finds only then is held against the same policy.
fn still_judged(policy: &Policy, action: &str) {
    let spec = spec(action).expect("nobody runs what has no name");
    let judge = Judge::new(&Arc::new(policy.clone()), spec.name, Vec::new());
    let agent = ServiceName::try_from("infiniservice".to_owned()).unwrap();
    let facts = |pid: i32, is_agent| {
        let facts = ProcessFacts { name: "x".to_owned(), is_agent, ..ProcessFacts::default() };
        judge.process(Pid::try_from(i64::from(pid)).unwrap(), facts)
    };
    // A policy without a section permits reads alone, and those find nothing to change.
    assert!(judge.service(&agent).is_err(), "{action} may find the agent's own service");
    assert!(facts(1, false).is_err() && facts(7, true).is_err(), "{action} may find a protected process");
}

/// The agent's own executor, which takes commands and is never told to start one.
fn executor(policy: &Policy) -> CommandExecutor {
    static NOBODY: LazyLock<Context> = LazyLock::new(|| {
        let folder = Path::new("/nowhere");
        let roots = Roots { proc: folder.into(), sys: folder.into(), etc: folder.into() };
        Context {
            origin: Arc::new(Origin::nobody()),
            stop: Stop::never(),
            receipt: Receipt::default(),
            programs: Arc::new(NoPrograms),
            packages: Arc::default(),
            roots: Arc::new(roots),
            collector: Arc::new(|| panic!("something is measured")),
            services: service_control::find(folder),
            judge: Judge::default(),
            intake: intake::channel().0,
            own: Arc::default(),
        }
    });
    // No folder can be made there, and commands run without an audit then.
    let audit = Audit::open(Path::new("/proc/no audit"), AuditSettings::default());
    let limits = CommandLimits::of(&Config::default());
    CommandExecutor::new(limits, policy.clone(), Ids::in_memory(), audit, NOBODY.clone())
}

struct NoPrograms;

impl ProgramRunner for NoPrograms {
    fn run(&self, program: Program, _: Stop) -> RunningProgram {
        panic!("a program is started: {program:?}")
    }
}

fn none(decisions: &[Explained]) {
    for one in decisions {
        assert!(one.decision.is_err(), "{one}");
    }
}

/// What a message is at most; nothing where it is no command that the policy is asked about.
fn kind(message: &HostMessage) -> Option<Kind> {
    match message {
        HostMessage::SafeCommand(command) => describe(command).ok().map(|(kind, _)| kind),
        HostMessage::UnsafeCommand(_) | HostMessage::PendingScriptsResponse(_) => Some(Kind::Raw),
        _ => None,
    }
}

/// A raw command only runs as a program of a rule, and nothing that a rule bans runs.
fn under_rules(message: &HostMessage, decisions: &[Explained]) {
    match message {
        HostMessage::UnsafeCommand(command) => decisions.iter().for_each(|one| raw_under_rules(command, one)),
        HostMessage::SafeCommand(command) => {
            let (kind, targets) = describe(command).unwrap_or((Kind::Raw, Vec::new()));
            let banned = targets.iter().any(|target| match target {
                Target::Service(name) => name.as_str().starts_with("dbus"),
                Target::Package(name) => name.as_str().starts_with("linux-image-"),
                Target::AnyService | Target::AnyPackage => true,
                Target::Process(_) => kind == Kind::Change,
            });
            if banned {
                none(decisions);
            }
        }
        _ => {}
    }
}

fn raw_under_rules(command: &UnsafeCommand, one: &Explained) {
    let Ok(permit) = &one.decision else { return };
    let direct = permit.direct.as_ref().expect("no line reaches a shell under rules");
    assert!(command.shell.is_none() && command.env_vars.as_ref().is_none_or(|set| set.is_empty()), "{one}");
    let words = words::split(&command.raw_command).unwrap();
    assert_eq!((direct.program.as_str(), &direct.arguments[..]), (words[0].as_str(), &words[1..]));
    match direct.program.as_str() {
        "/bin/systemctl" => {
            assert!(words.len() == 3 && words[1] == "status", "{words:?}");
            assert!(words[2].bytes().all(|byte| b"abcdefghijklmnopqrstuvwxyz@.-".contains(&byte)), "{words:?}");
            assert!(command.run_as.is_none() && command.working_dir.is_none(), "{command:?}");
        }
        "/bin/echo" => {
            let setting = (command.run_as.as_deref(), command.working_dir.as_deref());
            assert_eq!((words.len(), setting), (2, (Some("nobody"), Some("/srv"))));
        }
        other => panic!("no rule is about {other:?}"),
    }
}

/// Where everything is allowed, the agent's service and the first process still are not.
fn protected(message: &HostMessage, decisions: &[Explained]) {
    let HostMessage::SafeCommand(command) = message else { return };
    let Ok((Kind::Change, targets)) = describe(command) else { return };
    let is_protected = targets.iter().any(|target| match target {
        Target::Service(name) => matches!(name.as_str(), "infiniservice" | "infiniservice.service"),
        Target::Package(name) => command.command_type.action == "PackageRemove" && name.as_str() == "infiniservice",
        Target::Process(_) => true,
        Target::AnyService | Target::AnyPackage => false,
    });
    if is_protected {
        none(decisions);
    }
}

/// Words that are quoted again are the same words.
fn raw_line(line: &str) {
    let Ok(words) = words::split(line) else { return };
    assert!(!words.is_empty());
    let quoted: Vec<_> = words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
    let line = quoted.join(" ");
    // Quotes make a line longer, and there is an end to that.
    if line.len() <= 8192 {
        assert_eq!(words::split(&line).unwrap(), words);
    }
}
