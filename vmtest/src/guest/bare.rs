//! The least that answering on a port costs: a program that reads a line, does what it says and writes what came of it. It checks
//! nothing, bounds nothing and cleans nothing up.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// The port's name.
pub const PORT_NAME: &str = "org.infinibay.vmtest.bare";

/// What it can be told, a line each. Every answer is a line with the number of bytes that follow it, and those.
pub const PING: &str = "ping";
/// To run a program, whose path and arguments follow with blanks between them, and to answer with its output.
pub const RUN: &str = "run ";

/// Answers until it is killed.
pub fn run() -> anyhow::Result<()> {
    let mut port = super::open_port(PORT_NAME)?;
    super::say("ready")?;
    let mut reader = BufReader::new(port.try_clone()?);
    let mut line = String::new();
    loop {
        line.clear();
        // A port without a host reads as its end: the check is over.
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let output = answer(line.trim_end())?;
        port.write_all(format!("{}\n", output.len()).as_bytes())?;
        port.write_all(&output)?;
    }
}

fn answer(line: &str) -> anyhow::Result<Vec<u8>> {
    if line == PING {
        return Ok(Vec::new());
    }
    let mut words = line.strip_prefix(RUN).context("an unknown request")?.split(' ');
    let program = words.next().unwrap_or_default();
    // The library starts it by posix_spawn, which copies no memory.
    let output = Command::new(program).args(words).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("{program} ended with {}", output.status);
    }
    Ok(output.stdout)
}
