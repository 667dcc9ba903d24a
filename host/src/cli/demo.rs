use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use infini_protocol::envelope::Key;
use rustix::fs::{FlockOperation, Mode, OFlags};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::{sleep, timeout};

use super::failure::{Failure, SOFTWARE};
use super::watch::Signals;
use super::{AGENT_COMMAND, Patience, Show, watch};
use crate::link::random_name;
use crate::sanitize::sanitize;
use crate::vm::Endpoint;

/// What the agent calls this machine in the demo.
const NAME: &str = "demo";

/// How long the agent may take to make its socket.
const START: Duration = Duration::from_secs(10);

/// How long it may take to stop after SIGTERM before it is killed.
const STOP: Duration = Duration::from_secs(1);

/// How much of the agent's last words is kept.
const LAST_WORDS: usize = 4 << 10;

/// Starts an agent as a process of its own, shows what it measures, and ends it.
pub async fn run(show: &Show) -> Result<(), Failure> {
    let directory = PrivateDirectory::new()?;
    let socket = directory.path.join("agent.sock");
    let secret = random_name()
        .and_then(|half| Ok(half + &random_name()?))
        .map_err(|error| Failure::new(SOFTWARE, error.to_string()))?;
    let key = Key::new(&secret).map_err(|error| Failure::new(SOFTWARE, error.to_string()))?;
    let mut child = spawn(&socket, &directory.path, &secret)?;
    let mut stderr = child.stderr.take();
    let endpoint = Endpoint::new(&socket).with_key(key).with_vm_id(NAME).refreshed_every(show.interval);
    let mut signals = Signals::new()?;
    let shown = async {
        timeout(START, socket_made(&socket))
            .await
            .map_err(|_| Failure::new(SOFTWARE, "the demo's agent made no socket within 10 s"))?;
        let patience = Patience::of(&endpoint);
        watch::run(NAME, endpoint, patience, show).await
    };
    let ended = tokio::select! {
        ended = shown => Ok(ended),
        () = signals.any() => Ok(Ok(())),
        died = last_words(&mut child, &mut stderr) => Err(died),
    };
    match ended {
        Ok(ended) => {
            stop(&mut child).await;
            ended
        }
        Err((status, words)) => Err(died(status, &words)),
    }
}

fn spawn(socket: &Path, directory: &Path, secret: &str) -> io::Result<Child> {
    let mut device = OsString::from("unix-listen:");
    device.push(socket);
    // An agent that is installed on this machine shares neither configuration nor state with the demo's.
    let config = directory.join("config.toml");
    std::fs::write(&config, "")?;
    let foreign = ["INFINISERVICE_", "INFINIBAY_", "NOTIFY_SOCKET", "WATCHDOG_", "JOURNAL_STREAM"];
    let environment = std::env::vars_os()
        .filter(|(name, _)| !foreign.iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes())));
    Command::new(std::env::current_exe()?)
        .env_clear()
        .arg(AGENT_COMMAND)
        .arg(std::process::id().to_string())
        .arg("--config")
        .arg(config)
        .arg("--device")
        .arg(device)
        .envs(environment)
        .env("INFINISERVICE_SHARED_SECRET", secret)
        .env("INFINIBAY_VM_ID", NAME)
        .env("STATE_DIRECTORY", directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // Ctrl-C reaches the whole foreground group; ending the agent is this process's affair.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Called first in the agent's process: the kernel ends it together with the demo, so that no orphan survives even a SIGKILL.
pub fn end_with(parent: u32) -> io::Result<()> {
    use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // A parent that died before the line above sends nothing any more.
    if getppid().map(Pid::as_raw_pid) == i32::try_from(parent).ok() {
        return Ok(());
    }
    Err(io::Error::other("the demo that started this agent is gone"))
}

/// Waits for the agent's socket by looking: it takes milliseconds, once.
async fn socket_made(socket: &Path) {
    while !std::fs::metadata(socket).is_ok_and(|metadata| metadata.file_type().is_socket()) {
        sleep(Duration::from_millis(10)).await;
    }
}

/// Reads what the agent logs, keeps the end of it, and gives it when the agent died.
async fn last_words(child: &mut Child, stderr: &mut Option<ChildStderr>) -> (io::Result<ExitStatus>, Vec<u8>) {
    let mut words = Vec::new();
    let mut chunk = [0; 1024];
    if let Some(stderr) = stderr {
        while let Ok(count @ 1..) = stderr.read(&mut chunk).await {
            words.extend_from_slice(&chunk[..count]);
            words.drain(..words.len().saturating_sub(LAST_WORDS));
        }
    }
    (child.wait().await, words)
}

fn died(status: io::Result<ExitStatus>, words: &[u8]) -> Failure {
    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
    let words = String::from_utf8_lossy(words);
    let lines: Vec<String> = words.lines().map(|line| format!("  {}", sanitize(line))).collect();
    let tail = lines[lines.len().saturating_sub(8)..].join("\n");
    let said = if tail.is_empty() { "It said nothing.".to_owned() } else { format!("Its last words:\n{tail}") };
    Failure::new(SOFTWARE, format!("the demo's agent died ({status}). {said}"))
}

async fn stop(child: &mut Child) {
    if let Some(pid) = child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?)) {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
    }
    if timeout(STOP, child.wait()).await.is_err() {
        child.kill().await.ok();
    }
}

/// The directories of demos are called this, and then 32 hexadecimal digits.
const DIRECTORY_PREFIX: &str = "infinihost-";

/// A directory without its lock that is younger than this may belong to a demo that is just about to take it.
const NEW: Duration = Duration::from_secs(60);

/// A directory that only this user can enter; gone when dropped, or by the next demo where this one was killed.
struct PrivateDirectory {
    path: PathBuf,
    /// Held for as long as the demo lives, whatever ends it.
    _lock: OwnedFd,
}

impl PrivateDirectory {
    fn new() -> Result<Self, Failure> {
        let parent = std::env::temp_dir();
        remove_abandoned(&parent);
        let name = random_name().map_err(|error| Failure::new(SOFTWARE, error.to_string()))?;
        let path = parent.join(format!("{DIRECTORY_PREFIX}{name}"));
        // Creating fails where the name exists, a symbolic link included.
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        let lock = lock(&path)?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // Left behind at worst: a small directory in the temporary one, for the next demo to remove.
        std::fs::remove_dir_all(&self.path).ok();
    }
}

/// Locks a directory that is no symbolic link.
fn lock(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive)?;
    Ok(directory)
}

/// Removes the directories of demos of this user that were killed. What cannot be removed does no harm.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix(DIRECTORY_PREFIX)).unwrap_or_default();
        if digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) && is_old(&entry.path()) {
            // Held until it is gone.
            if let Ok(_lock) = lock(&entry.path()) {
                std::fs::remove_dir_all(entry.path()).ok();
            }
        }
    }
}

/// Whether it is a directory of this user alone, and not a new one.
fn is_old(path: &Path) -> bool {
    let Ok(found) = std::fs::symlink_metadata(path) else { return false };
    let is_ours = found.is_dir() && found.uid() == rustix::process::getuid().as_raw() && found.mode() & 0o77 == 0;
    is_ours && found.modified().is_ok_and(|time| time.elapsed().is_ok_and(|age| age > NEW))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::SystemTime;

    use super::*;

    fn directory(parent: &Path, digit: char, mode: u32, is_old: bool) -> PathBuf {
        let path = parent.join(format!("{DIRECTORY_PREFIX}{}", digit.to_string().repeat(32)));
        fs::DirBuilder::new().mode(mode).create(&path).unwrap();
        fs::write(path.join("agent.sock"), "").unwrap();
        let age = if is_old { NEW * 2 } else { Duration::ZERO };
        File::open(&path).unwrap().set_modified(SystemTime::now() - age).unwrap();
        path
    }

    #[test]
    fn what_killed_demos_left_is_removed_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let abandoned = directory(parent.path(), 'a', 0o700, true);
        let new = directory(parent.path(), 'b', 0o700, false);
        let open_to_others = directory(parent.path(), 'c', 0o755, true);
        let in_use = directory(parent.path(), 'd', 0o700, true);
        let _lock = lock(&in_use).unwrap();
        let other = parent.path().join("infinihost-notes");
        fs::create_dir(&other).unwrap();
        let link = parent.path().join(format!("{DIRECTORY_PREFIX}{}", "e".repeat(32)));
        std::os::unix::fs::symlink(&other, &link).unwrap();

        remove_abandoned(parent.path());
        assert!(!abandoned.exists());
        for kept in [new, open_to_others, in_use, other, link] {
            assert!(kept.exists(), "{} is gone", kept.display());
        }
    }
}
