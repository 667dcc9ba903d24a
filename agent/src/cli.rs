//! The command line: what the user typed, and which of the agent's modes that means.

mod modes;
pub(crate) use modes::borrow_policy;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::commands::process_runner;

/// All went well.
pub const EXIT_OK: u8 = 0;
/// The agent ended by a failure, or `--diagnose` found something that keeps it from working.
pub const EXIT_FAILURE: u8 = 1;
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
                  2 wrong command line; 78 wrong configuration.\n\
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
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Runs the agent as its command line says: everything but the process's entry point.
///
/// The secret is taken out of the environment first, so this comes before any thread is started.
#[must_use]
pub fn main_from(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some(code) = process_runner::supervise(&arguments) {
        return code.into();
    }
    let arguments = match Arguments::try_parse_from(arguments) {
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
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn modes_exclude_each_other_and_json_belongs_to_diagnose() {
        for line in [&["--once", "--diagnose"][..], &["--json"], &["--print-config", "--check-config"]] {
            let line = std::iter::once("infiniservice").chain(line.iter().copied());
            assert!(Arguments::try_parse_from(line.clone()).is_err(), "{:?} was taken", line.collect::<Vec<_>>());
        }
    }
}
