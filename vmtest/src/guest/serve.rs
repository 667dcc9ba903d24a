//! The guest's end of the control channel: shell lines in, how they ended out. Lines run side by side.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

use crate::control::wire::{Outcome, PORT_NAME, Reply, Request};

/// Serves until the machine stops.
pub fn run() -> anyhow::Result<()> {
    let path = wait_for_port()?;
    let port = OpenOptions::new().read(true).write(true).open(&path).with_context(|| format!("{}", path.display()))?;
    let (replies, outgoing) = mpsc::channel();
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
    replies.send(Reply::Hello { boot_id })?;
    let writer = port.try_clone()?;
    thread::spawn(move || write_replies(writer, &outgoing));
    read_requests(port, &replies)
}

/// The port appears with its driver; udev names it a moment later. The kernel has no event that a plain program could await here,
/// so this looks again, for a minute at most.
fn wait_for_port() -> anyhow::Result<PathBuf> {
    let path = Path::new("/dev/virtio-ports").join(PORT_NAME);
    for _ in 0..600 {
        if path.exists() {
            return Ok(path);
        }
        thread::sleep(Duration::from_millis(100));
    }
    anyhow::bail!("{} did not appear within a minute", path.display())
}

fn read_requests(port: File, replies: &Sender<Reply>) -> anyhow::Result<()> {
    let mut reader = BufReader::new(port);
    let mut line = String::new();
    loop {
        // A port without a host reads as its end, at once and every time.
        if reader.read_line(&mut line)? == 0 {
            thread::sleep(Duration::from_millis(100));
            continue;
        }
        if !line.ends_with('\n') {
            continue;
        }
        if let Ok(request) = serde_json::from_str::<Request>(&line) {
            let replies = replies.clone();
            thread::spawn(move || replies.send(Reply::Done { id: request.id, outcome: run_line(&request) }));
        }
        line.clear();
    }
}

fn run_line(request: &Request) -> Outcome {
    let output = Command::new("timeout")
        .args(["--kill-after=1", &request.timeout_seconds.to_string(), "sh", "-c", &request.line])
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/vmtest")
        .output();
    match output {
        Ok(output) => Outcome {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        },
        Err(error) => Outcome { code: None, stdout: String::new(), stderr: error.to_string() },
    }
}

fn write_replies(mut port: File, outgoing: &Receiver<Reply>) {
    for reply in outgoing {
        let Ok(mut line) = serde_json::to_vec(&reply) else { continue };
        line.push(b'\n');
        if port.write_all(&line).is_err() {
            return;
        }
    }
}
