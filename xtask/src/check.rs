//! `cargo xtask check`: formatting, scripts, dependencies, lints, tests and documentation, one after another.
//!
//! A failure does not end the run: who changes something wants to know all of it at once. A tool that is missing is a failure too, with
//! the line that installs it; a check that skips itself is one that nobody notices is gone.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, ValueEnum};

/// What `cargo xtask check` can be told.
#[derive(Args)]
pub struct Options {
    /// Leave a check out; may be given several times.
    #[arg(long, value_enum, value_name = "CHECK")]
    skip: Vec<Check>,
}

/// The checks, in the order in which they run: the quick answers first.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Check {
    /// Formatting, by rustfmt.
    Fmt,
    /// Every shell script of the project, by shellcheck.
    Scripts,
    /// Licences, bans and sources of the dependencies, by cargo-deny.
    Deny,
    /// Lints, by clippy; a warning fails.
    Clippy,
    /// All tests that need no virtual machine.
    Test,
    /// The documentation; a warning fails.
    Doc,
}

/// How a check is run.
struct Plan {
    program: &'static str,
    arguments: Vec<OsString>,
    environment: &'static [(&'static str, &'static str)],
    /// With these the program does nothing and succeeds, where it is installed.
    probe: &'static [&'static str],
    /// Installs the program where it is not.
    install: &'static str,
}

enum Outcome {
    Passed,
    Failed,
    /// The tool is missing; the line that installs it.
    Missing(&'static str),
}

/// Runs the checks that are not left out. The exit code says whether all passed; an error, that one could not be run at all.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<ExitCode> {
    let mut results = Vec::new();
    for check in Check::value_variants().iter().copied().filter(|check| !options.skip.contains(check)) {
        let plan = check.plan(root)?;
        println!("\n== {check}: {plan}");
        let started = Instant::now();
        let outcome = plan.run(root)?;
        results.push((check, outcome, started.elapsed()));
    }
    Ok(summarize(&results))
}

/// The closing lines, and the exit code that goes with them.
fn summarize(results: &[(Check, Outcome, Duration)]) -> ExitCode {
    println!();
    for (check, outcome, took) in results {
        println!("{check:<8} {outcome} ({:.1} s)", took.as_secs_f64());
    }
    let failed = results.iter().filter(|(_, outcome, _)| !matches!(outcome, Outcome::Passed)).count();
    println!("{} of {} checks passed", results.len() - failed, results.len());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Check {
    fn plan(self, root: &Path) -> anyhow::Result<Plan> {
        let plan = match self {
            Self::Fmt => Plan::cargo("fmt --all --check", &["fmt", "--version"], "rustup component add rustfmt"),
            Self::Scripts => Plan {
                program: "shellcheck",
                arguments: shell_scripts(root)?.into_iter().map(PathBuf::into_os_string).collect(),
                environment: &[],
                probe: &["--version"],
                install: "apt-get install shellcheck",
            },
            Self::Deny => Plan::cargo(
                "deny check --hide-inclusion-graph licenses bans sources",
                &["deny", "--version"],
                "cargo install --locked cargo-deny",
            ),
            Self::Clippy => Plan::cargo(
                "clippy --workspace --all-targets -- -D warnings",
                &["clippy", "--version"],
                "rustup component add clippy",
            ),
            Self::Test => Plan::cargo("test --workspace", &["--version"], "install Rust"),
            Self::Doc => Plan {
                environment: &[("RUSTDOCFLAGS", "-D warnings")],
                ..Plan::cargo("doc --workspace --no-deps", &["--version"], "install Rust")
            },
        };
        Ok(plan)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

impl Plan {
    /// A cargo command, its words separated by blanks.
    fn cargo(words: &str, probe: &'static [&'static str], install: &'static str) -> Self {
        let arguments = words.split(' ').map(OsString::from).collect();
        Self { program: "cargo", arguments, environment: &[], probe, install }
    }

    fn run(&self, root: &Path) -> anyhow::Result<Outcome> {
        if !self.is_installed() {
            return Ok(Outcome::Missing(self.install));
        }
        let status = Command::new(self.program)
            .args(&self.arguments)
            .envs(self.environment.iter().copied())
            .current_dir(root)
            .status()
            .with_context(|| format!("cannot run {}", self.program))?;
        Ok(if status.success() { Outcome::Passed } else { Outcome::Failed })
    }

    fn is_installed(&self) -> bool {
        let probe = Command::new(self.program).args(self.probe).stdout(Stdio::null()).stderr(Stdio::null()).status();
        probe.is_ok_and(|status| status.success())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.environment {
            write!(f, "{name}='{value}' ")?;
        }
        f.write_str(self.program)?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {}", argument.display()))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed => f.write_str("FAILED"),
            Self::Missing(install) => write!(f, "MISSING, install it: {install}"),
        }
    }
}

/// The project's shell scripts, told by their first line, with paths relative to `root`.
fn shell_scripts(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut scripts = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().with_context(|| format!("cannot list {}", folder.display()))? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() && !matches!(entry.file_name().to_str(), Some(".git" | ".cache" | "target")) {
                folders.push(entry.path());
            } else if kind.is_file() && is_shell_script(&entry.path())? {
                scripts.push(entry.path().strip_prefix(root)?.to_owned());
            }
        }
    }
    scripts.sort();
    Ok(scripts)
}

fn is_shell_script(path: &Path) -> anyhow::Result<bool> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut first_line = Vec::new();
    BufReader::new(file.take(64)).read_until(b'\n', &mut first_line)?;
    let first_line = String::from_utf8_lossy(&first_line);
    Ok(matches!(first_line.trim_end(), "#!/bin/sh" | "#!/bin/bash" | "#!/usr/bin/env bash"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(program: &'static str) -> Plan {
        Plan { program, arguments: Vec::new(), environment: &[], probe: &[], install: "install it so" }
    }

    #[test]
    fn a_missing_tool_is_a_failure_with_the_line_that_installs_it() {
        let outcome = plan("no-such-tool-anywhere").run(Path::new("/")).unwrap();
        assert_eq!(outcome.to_string(), "MISSING, install it: install it so");
        assert_eq!(summarize(&[(Check::Fmt, outcome, Duration::ZERO)]), ExitCode::FAILURE);
    }

    #[test]
    fn one_failure_among_others_fails_the_run() {
        let passed = |check| (check, Outcome::Passed, Duration::ZERO);
        assert_eq!(summarize(&[passed(Check::Fmt), passed(Check::Doc)]), ExitCode::SUCCESS);
        let failed = (Check::Test, Outcome::Failed, Duration::ZERO);
        assert_eq!(summarize(&[passed(Check::Fmt), failed, passed(Check::Doc)]), ExitCode::FAILURE);
    }

    #[test]
    fn scripts_are_found_by_their_first_line_and_not_in_build_output() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("target")).unwrap();
        std::fs::create_dir_all(root.path().join(".ci")).unwrap();
        let files = [
            (".ci/run", "#!/usr/bin/env bash\n"),
            ("a.sh", "#!/bin/sh"),
            ("b.sh", "text"),
            ("target/c", "#!/bin/sh\n"),
        ];
        for (name, content) in files {
            std::fs::write(root.path().join(name), content).unwrap();
        }
        assert_eq!(shell_scripts(root.path()).unwrap(), [PathBuf::from(".ci/run"), PathBuf::from("a.sh")]);
    }
}
