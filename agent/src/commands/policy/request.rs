//! What the policy is asked: a command, and what the machine says of the things that it acts on.

use std::borrow::Cow;

use crate::commands::action::{Kind, Target};
use crate::commands::validation::{PackageName, Pid, ServiceName};

/// The name of raw commands in rules.
pub const RAW_COMMAND: &str = "UnsafeCommand";

/// The name of a host's scripts in rules.
pub const SCRIPT: &str = "Script";

/// As whom the agent runs commands where nobody says: as itself.
pub const AGENT_USER: &str = "root";

/// A command to be judged.
#[derive(Clone, Debug)]
pub enum Request<'a> {
    /// A safe action.
    Action {
        /// Its name.
        name: &'a str,
        /// What it does with these values.
        kind: Kind,
        /// What it acts on.
        subjects: &'a [Subject],
    },
    /// A raw command.
    Raw(RawCommand<'a>),
    /// A script, or an action that runs one.
    Script(RawScript<'a>),
}

/// A raw command as the host sent it.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawCommand<'a> {
    /// The line.
    pub line: &'a str,
    /// The shell that the host names.
    pub shell: Option<&'a str>,
    /// How it is to be run.
    pub setting: Setting<'a>,
}

/// A script as the host sent it.
#[derive(Clone, Copy, Debug)]
pub struct RawScript<'a> {
    /// Its name in rules: [`SCRIPT`], or that of the action that carries it.
    pub action: &'a str,
    /// The SHA-256 of its text; absent where the command only names the file that has it.
    pub sha256: Option<[u8; 32]>,
    /// The shell that would run it, the default where the host names none. Case does not count.
    pub shell: &'a str,
    /// How it is to be run. Values that a script asks for count as variables.
    pub setting: Setting<'a>,
}

/// Where, with what and as whom the host wants a raw command run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setting<'a> {
    /// The directory; absent: `/`.
    pub working_dir: Option<&'a str>,
    /// Whether the host sets variables.
    pub has_variables: bool,
    /// The user; absent: the agent's own.
    pub run_as: Option<&'a str>,
}

/// What a process is. Only while a handle of it is held does this stay true: the number may pass to another process, and the process to
/// another program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// The kernel's name for it, which it may have given itself.
    pub name: String,
    /// The file name of its program, where it can be read.
    pub program: Option<String>,
    /// It is the kernel's.
    pub is_kernel_thread: bool,
    /// It is the agent's.
    pub is_agent: bool,
    /// When it began, in the kernel's ticks since boot, where that can be read.
    pub started: Option<u64>,
}

/// Something that an action acts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A service.
    Service {
        /// The name that the host gave.
        name: ServiceName,
        /// What else the manager calls it: a ban on one name is a ban on all.
        also: Vec<String>,
    },
    /// Services that are only found while the action runs.
    AnyService,
    /// A package.
    Package(PackageName),
    /// Packages that are only found while the action runs.
    AnyPackage,
    /// A process.
    Process {
        /// Its number.
        pid: Pid,
        /// What it is; absent where that could not be found out.
        facts: Option<ProcessFacts>,
    },
    /// As whom a raw command or a script runs.
    User(String),
}

impl Subject {
    /// What an action names, with what `look_up` says of processes.
    pub fn from_target(target: Target, look_up: impl Fn(Pid) -> Option<ProcessFacts>) -> Self {
        match target {
            Target::Service(name) => Self::Service { name, also: Vec::new() },
            Target::AnyService => Self::AnyService,
            Target::Package(name) => Self::Package(name),
            Target::AnyPackage => Self::AnyPackage,
            Target::Process(pid) => Self::Process { pid, facts: look_up(pid) },
        }
    }

    /// The names by which a rule may allow it.
    pub(super) fn names_to_allow(&self) -> Vec<Cow<'_, str>> {
        match self {
            Self::Service { name, also } => {
                let names = std::iter::once(name.as_str()).chain(also.iter().map(String::as_str));
                names.flat_map(spellings).collect()
            }
            Self::Package(name) => vec![name.as_str().into()],
            Self::User(name) => vec![name.into()],
            Self::AnyService | Self::AnyPackage | Self::Process { .. } => Vec::new(),
        }
    }

    /// The names by which a rule may deny it: `libc6:i386` is denied by a rule for `libc6`, but not allowed by one.
    pub(super) fn names_to_deny(&self) -> Vec<Cow<'_, str>> {
        let mut names = self.names_to_allow();
        if let Self::Package(name) = self {
            names.extend(name.as_str().split_once(':').map(|(base, _)| Cow::Borrowed(base)));
        }
        names
    }
}

/// systemd takes `nginx` for `nginx.service`, so a rule for either is one for both.
fn spellings(name: &str) -> [Cow<'_, str>; 2] {
    match name.strip_suffix(".service") {
        Some(short) => [name.into(), short.into()],
        None => [name.into(), format!("{name}.service").into()],
    }
}

impl Request<'_> {
    /// What it does.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Action { kind, .. } => *kind,
            Self::Raw(_) | Self::Script(_) => Kind::Raw,
        }
    }

    /// Its name in rules.
    #[must_use]
    pub const fn action(&self) -> &str {
        match self {
            Self::Action { name, .. } => name,
            Self::Raw(_) => RAW_COMMAND,
            Self::Script(script) => script.action,
        }
    }

    /// What it acts on; of a raw command only the user is known.
    pub(super) fn subjects(&self) -> Cow<'_, [Subject]> {
        let user = |setting: &Setting<'_>| Subject::User(setting.run_as.unwrap_or(AGENT_USER).to_owned());
        match self {
            Self::Action { subjects, .. } => Cow::Borrowed(subjects),
            Self::Raw(command) => vec![user(&command.setting)].into(),
            Self::Script(script) => vec![user(&script.setting)].into(),
        }
    }
}
