//! The agent as a process of its own, and a host that speaks to it over a Unix socket.

#![allow(dead_code, reason = "each test file uses its own part")]

pub mod link;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use infini_protocol::agent::{AgentBody, AgentMessage};
use infini_protocol::envelope::{Key, seal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, WatchFlags};
use serde_json::{Value, json};

/// Long enough for a loaded machine; a test that gets what it waits for never waits that long.
const PATIENCE: Duration = Duration::from_secs(20);

/// The secret that both sides have.
pub const SECRET: &str = "canary-5f0c2e6a41d94b7d";

/// A folder with the agent's configuration, state and socket.
pub struct Guest {
    folder: tempfile::TempDir,
    listener: UnixListener,
}

/// A running agent.
pub struct Agent {
    pub child: Child,
    pub log: PathBuf,
}

/// The host's end of the link.
pub struct Host {
    lines: BufReader<UnixStream>,
    nonces: AtomicU64,
}

impl Guest {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("vm.sock")).unwrap();
        let guest = Self { folder, listener };
        guest.configure("");
        guest
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the configuration file: the test's own lines after those that keep the agent inside the folder.
    pub fn configure(&self, more: &str) {
        let text = format!(
            "vm_id = \"vm-test\"\nstate_dir = {:?}\nsecret_file = {:?}\n{more}",
            self.folder.path(),
            self.path("secret"),
        );
        std::fs::write(self.path("config.toml"), text).unwrap();
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
        command.env_clear().stdin(Stdio::null()).arg("--config").arg(self.path("config.toml"));
        command
    }

    /// Starts the agent with the secret in its environment.
    pub fn start(&self) -> Agent {
        let mut command = self.command();
        command.env("INFINISERVICE_SHARED_SECRET", SECRET);
        self.start_as(command)
    }

    pub fn start_as(&self, command: Command) -> Agent {
        self.start_on(&format!("unix:{}", self.path("vm.sock").display()), command)
    }

    /// Starts the agent so that hosts connect to it.
    pub fn start_listening(&self, command: Command) -> Agent {
        self.start_on(&format!("unix-listen:{}", self.path("listen.sock").display()), command)
    }

    fn start_on(&self, device: &str, mut command: Command) -> Agent {
        let log = self.path("log");
        let file = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        command.arg("--device").arg(device).stderr(file);
        Agent { child: command.spawn().unwrap(), log }
    }

    /// Connects to an agent that listens, as soon as it does.
    pub fn connect(&self) -> Host {
        let end = Instant::now() + PATIENCE;
        loop {
            match UnixStream::connect(self.path("listen.sock")) {
                Ok(stream) => return Host::new(stream),
                Err(error) => assert!(Instant::now() < end, "the agent does not listen: {error}"),
            }
            std::thread::yield_now();
        }
    }

    /// Waits for the agent to connect.
    pub fn accept(&self) -> Host {
        let patience = Timespec::try_from(PATIENCE).unwrap();
        let came = poll(&mut [PollFd::new(&self.listener, PollFlags::IN)], Some(&patience)).unwrap();
        assert_eq!(came, 1, "the agent does not connect");
        let (stream, _) = self.listener.accept().unwrap();
        Host::new(stream)
    }
}

impl Host {
    fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { lines: BufReader::new(stream), nonces: AtomicU64::new(0) }
    }

    pub fn next_line(&mut self) -> String {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).expect("the agent says nothing");
        assert!(read > 0, "the agent closed the link");
        line
    }

    pub fn next(&mut self) -> AgentMessage {
        let line = self.next_line();
        AgentMessage::parse(line.trim_end().as_bytes()).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Skips messages until one is what is waited for.
    pub fn wait_for<T>(&mut self, mut wanted: impl FnMut(AgentBody) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.next().body) {
                return found;
            }
        }
    }

    pub fn sign(&self, payload: &Value) -> String {
        let n = self.nonces.fetch_add(1, Ordering::Relaxed);
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let ts = u64::try_from(since.as_millis()).unwrap();
        let nonce = format!("{}.{n}", since.as_nanos());
        seal(&Key::new(SECRET).unwrap(), ts, &nonce, &payload.to_string()).unwrap()
    }

    pub fn send_line(&mut self, line: &str) {
        self.lines.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub fn send(&mut self, payload: &Value) {
        let line = self.sign(payload);
        self.send_line(&line);
    }

    /// Says that nothing more comes, and reads on.
    pub fn end_requests(&self) {
        self.lines.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Proves that the agent has worked through everything that was sent before.
    pub fn round_trip(&mut self) {
        self.send(&json!({"type": "keep_alive_request", "sequence_number": 99}));
        self.wait_for(|body| matches!(body, AgentBody::KeepAlive(_)).then_some(()));
    }
}

/// Something that happens to a file or in a folder, to be waited for.
pub struct Watch(OwnedFd);

impl Watch {
    pub fn new(path: &Path, what: WatchFlags) -> Self {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&watch, path, what).unwrap();
        Self(watch)
    }

    pub fn wait(&self) {
        let patience = Timespec::try_from(PATIENCE).unwrap();
        let ready = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&patience)).unwrap();
        assert_eq!(ready, 1, "nothing happens");
        rustix::io::read(&self.0, &mut [0_u8; 4096]).unwrap();
    }
}

/// Waits until files in a folder are what is waited for.
pub fn wait_in(folder: &Path, mut is_so: impl FnMut() -> bool) {
    let watch = Watch::new(folder, WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::MODIFY);
    while !is_so() {
        watch.wait();
    }
}

impl Agent {
    /// Waits until the log says so.
    pub fn wait_for_log(&self, text: &str) {
        wait_in(self.log.parent().unwrap(), || self.log().contains(text));
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success(), "cannot send SIG{name}");
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every file below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
