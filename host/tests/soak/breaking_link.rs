//! What stands between host and agent in place of QEMU, and breaks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::agent::Agent;
use crate::random::Random;

/// A connection carries a number of bytes whose binary logarithm is in here, then it breaks: some in the middle of the first line, and
/// some late enough for the longest answer.
const CARRIED: std::ops::Range<u64> = 8..21;

pub struct BreakingLink {
    socket: PathBuf,
    breaks: Arc<AtomicUsize>,
    is_breaking: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl BreakingLink {
    /// A link to this agent, sound at first.
    pub fn to(agent: &Agent, random: Random) -> Self {
        let socket = agent.dir().join("host.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let breaks = Arc::<AtomicUsize>::default();
        let (is_breaking, breaking) = watch::channel(false);
        let task = tokio::spawn(serve(listener, agent.socket(), breaking, Arc::clone(&breaks), random));
        Self { socket, breaks, is_breaking, task }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Breaks the connection that is there, and those after it.
    pub fn begin_to_break(&self) {
        self.is_breaking.send_replace(true);
    }

    /// Breaks the connection that is there for a last time, and says how often that happened.
    pub fn stop_breaking(&self) -> usize {
        self.is_breaking.send_replace(false);
        self.breaks.load(Ordering::Relaxed)
    }
}

impl Drop for BreakingLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    listener: UnixListener,
    agent: PathBuf,
    mut breaking: watch::Receiver<bool>,
    breaks: Arc<AtomicUsize>,
    mut random: Random,
) {
    loop {
        let (mut host, _) = listener.accept().await.unwrap();
        // An agent that has just been started may not listen yet; the host comes back.
        let Ok(mut guest) = UnixStream::connect(&agent).await else { continue };
        let rest = AtomicU64::new(if *breaking.borrow_and_update() { carried(&mut random) } else { u64::MAX });
        let (from_host, to_host) = host.split();
        let (from_guest, to_guest) = guest.split();
        tokio::select! {
            () = carry(from_host, to_guest, &rest) => {}
            () = carry(from_guest, to_host, &rest) => {}
            _ = breaking.changed() => {}
        }
        breaks.fetch_add(1, Ordering::Relaxed);
    }
}

fn carried(random: &mut Random) -> u64 {
    let least = 1 << (CARRIED.start + random.below(CARRIED.end - CARRIED.start));
    least + random.below(least)
}

/// Carries bytes one way until no more may be carried either way, or an end leaves.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, rest: &AtomicU64) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let carried = rest.load(Ordering::Relaxed).min(read as u64);
        if to.write_all(&buffer[..carried as usize]).await.is_err() {
            return;
        }
        if rest.fetch_sub(carried.min(rest.load(Ordering::Relaxed)), Ordering::Relaxed) <= carried {
            return;
        }
    }
}
