//! The real agent as a process of its own: the program that `SOAK_AGENT` names, else the one of `infinihost demo`.
#![allow(dead_code, reason = "the benchmark uses only a part")]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use infini_protocol::envelope::Key;
use infinihost::vm::Vm;
use tempfile::TempDir;
use tokio::process::{Child, Command};

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// So many samples that the agent has been through all that it does at a tick.
const SAMPLES: u64 = 4;

/// A bound for what takes a few ticks.
const SOON: Duration = Duration::from_secs(60);

/// A released agent, whose memory is worth judging.
pub fn is_judged() -> bool {
    std::env::var_os("SOAK_AGENT").is_some() || !cfg!(debug_assertions)
}

fn program() -> Command {
    if let Some(agent) = std::env::var_os("SOAK_AGENT") {
        return Command::new(agent);
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_infinihost"));
    command.arg("__agent").arg(std::process::id().to_string());
    command
}

pub fn key() -> Key {
    Key::new(SECRET).unwrap()
}

pub struct Agent {
    dir: TempDir,
    child: Child,
}

impl Agent {
    /// Starts it with these lines in its configuration.
    pub fn start(configuration: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.toml");
        let state = dir.path().join("state");
        std::fs::create_dir(&state).unwrap();
        std::fs::write(&config, format!("vm_id = \"vm-test\"\n{configuration}")).unwrap();
        let child = program()
            .env_clear()
            .env("INFINISERVICE_SHARED_SECRET", SECRET)
            .env("STATE_DIRECTORY", &state)
            // As in its unit.
            .env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0")
            .arg("--config")
            .arg(config)
            .arg("--device")
            .arg(format!("unix-listen:{}", dir.path().join("agent.sock").display()))
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { dir, child }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    /// Its folder in `/proc`.
    pub fn proc(&self) -> PathBuf {
        format!("/proc/{}", self.child.id().expect("the agent runs")).into()
    }

    /// Waits until it has done what a host that comes gives it to do, and has been through some ticks.
    pub async fn settle(&self, vm: &Vm) {
        let seen = vm.status().counters.samples;
        let samples = vm.wait_for(|status| status.counters.samples >= seen + SAMPLES);
        tokio::time::timeout(SOON, samples).await.expect("the agent sends no samples").unwrap();
    }
}
