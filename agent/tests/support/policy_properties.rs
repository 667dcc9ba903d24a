//! What holds for any bytes on their way from the envelope to the policy's decision. The fuzz target runs this with inputs that grow by
//! coverage, the corpus test with those that were kept.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::path::Path;
use std::sync::LazyLock;

use infini_protocol::envelope::{Key, seal};
use infini_protocol::host::{HostMessage, UnsafeCommand};
use infiniservice::auth::replay::NonceJournal;
use infiniservice::auth::{Authenticator, Moment, Trust, Verdict};
use infiniservice::commands::action::{Kind, Target};
use infiniservice::commands::policy::explain::{Explained, decide};
use infiniservice::commands::policy::table::describe;
use infiniservice::commands::policy::{Asking, Permissions, Policy, words};

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
        let decisions = decide(&policy, message, Path::new("/nowhere")).unwrap_or_default();
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
