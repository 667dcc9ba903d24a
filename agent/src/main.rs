//! The agent's entry point.

use std::process::ExitCode;

fn main() -> ExitCode {
    infiniservice::cli::main_from(std::env::args_os())
}
