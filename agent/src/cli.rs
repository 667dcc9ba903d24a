//! The command line: what the user typed, and which of the agent's modes that means.

mod explain;
mod modes;
mod verify;
pub(crate) use modes::borrow_policy;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::commands::audit::Head;
use crate::commands::{package_management, process_runner};

/// All went well.
pub const EXIT_OK: u8 = 0;
/// The agent ended by a failure, or `--diagnose` found something that keeps it from working.
pub const EXIT_FAILURE: u8 = 1;
/// `policy explain`: the policy denies the command.
pub const EXIT_DENIED: u8 = 1;
/// `audit verify`: the audit is not as the agent wrote it.
pub const EXIT_FAULTS: u8 = 1;
/// `audit verify`: the audit could not be read (EX_IOERR of sysexits.h).
pub const EXIT_UNREADABLE: u8 = 74;
/// The command line makes no sense.
pub const EXIT_USAGE: u8 = 2;
/// The configuration cannot be used (EX_CONFIG of sysexits.h).
pub const EXIT_CONFIG: u8 = 78;

/// Guest agent: measures this virtual machine and answers its hypervisor over a virtio-serial port.
#[derive(Debug, Default, Parser)]
#[command(
    name = "infiniservice",
    version,
    after_help = "Exit codes: 0 all went well; 1 the agent failed, or --diagnose found what keeps it from working; \
                  or policy explain found the command denied, or audit verify found faults; 2 wrong command line; \
                  74 audit verify could not read the audit; 78 wrong configuration.\n\
                  Signals: SIGTERM and SIGINT stop the agent, SIGHUP reads the configuration again."
)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag that a user types")]
pub struct Arguments {
    /// Log in detail.
    #[arg(long)]
    pub debug: bool,
    /// Explain what the agent looks for, what it finds, what is wrong and what to do; then exit.
    #[arg(long, group = "mode")]
    pub diagnose: bool,
    /// Take one sample, print it as a line of JSON and exit; no port is opened.
    #[arg(long, group = "mode")]
    pub once: bool,
    /// Check the configuration and exit.
    #[arg(long, group = "mode")]
    pub check_config: bool,
    /// Print every setting, its value and where it came from; then exit.
    #[arg(long, group = "mode")]
    pub print_config: bool,
    /// With --diagnose: print JSON.
    #[arg(long, requires = "diagnose")]
    pub json: bool,
    /// The port: a device's path, unix:PATH, unix-listen:PATH or vsock:CID:PORT.
    #[arg(long, value_name = "PORT")]
    pub device: Option<String>,
    /// The configuration file [default: /etc/infiniservice/config.toml where it exists].
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// What else the program can do than to be the agent.
    #[command(subcommand)]
    pub task: Option<Task>,
}

/// What else the program can do than to be the agent.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Look into what the host may have done here.
    Policy {
        /// What about it.
        #[command(subcommand)]
        question: Question,
    },
    /// Look into what the host had done here.
    Audit {
        /// What about it.
        #[command(subcommand)]
        question: AuditQuestion,
    },
}

/// Questions about the policy.
#[derive(Debug, Subcommand)]
pub enum Question {
    /// Say whether a command may run, and which rule of the configuration decides it.
    ///
    /// Exit codes: 0 allowed; 1 denied; 2 the text is no command; 78 wrong configuration.
    Explain {
        /// A message of the host without its envelope, {"type":"SafeCommand",...}, or only {"action":...} or {"raw_command":...}.
        command: String,
    },
}

/// Questions about the audit.
#[derive(Debug, Subcommand)]
pub enum AuditQuestion {
    /// Find what was changed in the audit and what is missing from what is kept of it. The agent may run meanwhile.
    ///
    /// Exit codes: 0 sound; 1 not as the agent wrote it; 2 wrong command line; 74 the audit could not be read; 78 wrong configuration.
    Verify {
        /// The last line that the host heard of (agent_event, source "audit"): its number and hash. Shows a cut end and an audit that was
        /// written anew, too.
        #[arg(long, value_name = "N:HASH")]
        head: Option<Head>,
        /// Where the audit is [default: the folder "audit" in state_dir].
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

impl Arguments {
    /// A task is done instead of what the flags ask for, so both together are a mistake.
    fn parse_all(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let parsed = Self::try_parse_from(arguments)?;
        let is_mode = parsed.diagnose || parsed.once || parsed.check_config || parsed.print_config;
        match &parsed.task {
            Some(_) if is_mode => {
                let sentence =
                    "a subcommand cannot be combined with --diagnose, --once, --check-config or --print-config";
                Err(Self::command().error(ErrorKind::ArgumentConflict, sentence))
            }
            _ => Ok(parsed),
        }
    }
}

/// Does what a running agent has started its own program once more for: to be above a command's processes, or to keep a change of
/// packages. Nothing where the arguments are not an agent's. Every program that runs [`main_from`] has to ask this first.
#[must_use]
pub fn helper_from(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let code = process_runner::supervise(&arguments).or_else(|| package_management::keep(&arguments))?;
    Some(code.into())
}

/// Runs the agent as its command line says: everything but the process's entry point.
///
/// The secret is taken out of the environment first, so this comes before any thread is started.
#[must_use]
pub fn main_from(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some(code) = helper_from(arguments.iter().cloned()) {
        return code;
    }
    let arguments = match Arguments::parse_all(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { EXIT_USAGE } else { EXIT_OK };
            let _ = error.print();
            return code.into();
        }
    };
    modes::run(&arguments).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_configuration_may_stand_on_either_side_of_the_subcommand() {
        for line in [&["--config", "c", "policy", "explain", "{}"][..], &["policy", "explain", "--config", "c", "{}"]] {
            let words = std::iter::once("infiniservice").chain(line.iter().copied()).map(OsString::from);
            let parsed = Arguments::parse_all(words).unwrap();
            assert_eq!(parsed.config, Some("c".into()), "{line:?}");
            assert!(matches!(&parsed.task, Some(Task::Policy { question: Question::Explain { .. } })), "{line:?}");
        }
    }

    #[test]
    fn a_head_is_a_number_and_a_hash() {
        let hash = "ab".repeat(32);
        let parse = |head: &str| {
            let words = ["infiniservice", "audit", "verify", "--json", "--head", head];
            Arguments::parse_all(words.map(OsString::from))
        };
        let parsed = parse(&format!("7:{hash}")).unwrap();
        let Some(Task::Audit { question: AuditQuestion::Verify { head, dir: None, json: true } }) = parsed.task else {
            panic!("{parsed:?}")
        };
        assert_eq!(head, Some(Head { line: 7, hash: hash.clone() }));
        for wrong in ["7", &hash, &format!("0:{hash}"), &format!("7:{}", &hash[1..]), &format!("-7:{hash}")] {
            assert!(parse(wrong).is_err(), "{wrong} was taken");
        }
    }

    #[test]
    fn modes_exclude_each_other_and_json_belongs_to_diagnose() {
        for line in [
            &["--once", "--diagnose"][..],
            &["--json"],
            &["--print-config", "--check-config"],
            &["--once", "policy", "explain", "{}"],
            &["policy"],
            &["--diagnose", "audit", "verify"],
            &["audit"],
        ] {
            let line = std::iter::once("infiniservice").chain(line.iter().copied());
            let line = line.map(OsString::from);
            assert!(Arguments::parse_all(line.clone()).is_err(), "{:?} was taken", line.collect::<Vec<_>>());
        }
    }
}
