//! The guest's end of the control channel: shell lines in, how they ended out. Lines run side by side.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Command;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use crate::control::wire::{Outcome, PORT_NAME, Reply, Request};

/// Serves until the machine stops.
pub fn run() -> anyhow::Result<()> {
    let port = super::open_port(PORT_NAME)?;
    let (replies, outgoing) = mpsc::channel();
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
    replies.send(Reply::Hello { boot_id })?;
    let writer = port.try_clone()?;
    thread::spawn(move || write_replies(writer, &outgoing));
    read_requests(port, &replies)
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
