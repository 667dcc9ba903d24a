//! A program's standard input, output and error, as the agent holds them.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::ioctl_fionread;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::unix::pipe;
use zeroize::Zeroizing;

use super::super::output::HeadTail;
use super::super::{Captured, Stdin};

/// How much is read at once: half of what a pipe holds, from a buffer that is there only while it is read into.
const READ_BYTES: usize = 32 << 10;

/// The agent's ends.
#[derive(Debug)]
pub(super) struct Streams {
    stdin: Option<Feed>,
    stdout: Output,
    stderr: Output,
}

/// The program's ends.
#[derive(Debug)]
pub(super) struct ProgramEnds([OwnedFd; 3]);

impl ProgramEnds {
    /// Standard input, output and error.
    pub(super) fn as_fds(&self) -> [BorrowedFd<'_>; 3] {
        self.0.each_ref().map(AsFd::as_fd)
    }

    /// The same, for another process.
    pub(super) fn into_fds(self) -> [OwnedFd; 3] {
        self.0
    }
}

impl Streams {
    /// Makes what a program is started with. Needs a running Tokio runtime.
    pub(super) fn open(stdin: Stdin) -> io::Result<(Self, ProgramEnds)> {
        let (stdin, program_stdin) = match stdin {
            Stdin::Null => (None, rustix::fs::open(c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?),
            Stdin::Bytes(bytes) => {
                let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
                let pipe = pipe::Sender::from_owned_fd(ours)?;
                (Some(Feed { pipe, bytes: Zeroizing::new(bytes), sent: 0 }), theirs)
            }
        };
        let (stdout, program_stdout) = Output::open()?;
        let (stderr, program_stderr) = Output::open()?;
        Ok((Self { stdin, stdout, stderr }, ProgramEnds([program_stdin, program_stdout, program_stderr])))
    }

    /// Waits for `work`, and meanwhile feeds the program and takes in what it prints.
    pub(super) async fn alongside<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            result = work => result,
            never = self.flow() => match never {},
        }
    }

    async fn flow(&mut self) -> Infallible {
        let Self { stdin, stdout, stderr } = self;
        tokio::join!(feed(stdin), stdout.fill(), stderr.fill());
        pending().await
    }

    /// What the program has printed up to now: what is still in the pipes, no more, so that a descendant which prints for ever holds
    /// nothing up. What comes after this is read and thrown away.
    pub(super) fn finish(&mut self) -> [Captured; 2] {
        [self.stdout.finish(), self.stderr.finish()]
    }
}

/// What a program is still to read. It may be a password, so it is overwritten when it is no longer needed.
struct Feed {
    pipe: pipe::Sender,
    bytes: Zeroizing<Vec<u8>>,
    sent: usize,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Feed({} of {} bytes)", self.sent, self.bytes.len())
    }
}

/// Cancel safe. A program that does not want to read all of it is no failure.
async fn feed(stdin: &mut Option<Feed>) {
    while let Some(feed) = stdin {
        let rest = &feed.bytes[feed.sent..];
        if rest.is_empty() || feed.pipe.writable().await.is_err() {
            *stdin = None;
            return;
        }
        match feed.pipe.try_write(rest) {
            Ok(sent) => feed.sent += sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => *stdin = None,
        }
    }
}

/// One stream that the program writes.
#[derive(Debug)]
struct Output {
    /// Until it ends.
    pipe: Option<pipe::Receiver>,
    /// Until it is handed out.
    kept: Option<HeadTail>,
}

impl Output {
    fn open() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        let pipe = pipe::Receiver::from_owned_fd(ours)?;
        Ok((Self { pipe: Some(pipe), kept: Some(HeadTail::default()) }, theirs))
    }

    /// Takes in until the stream ends. Cancel safe.
    async fn fill(&mut self) {
        while let Some(pipe) = &self.pipe {
            match pipe.readable().await {
                Ok(()) => drop(self.take_in(READ_BYTES)),
                Err(_) => self.pipe = None,
            }
        }
    }

    /// Takes in what is there, at most as many bytes. Gives how many there were, and nothing where there is no more to come now.
    fn take_in(&mut self, most: usize) -> Option<usize> {
        let mut buffer = [0; READ_BYTES];
        match self.pipe.as_ref()?.try_read(&mut buffer[..most.min(READ_BYTES)]) {
            Ok(0) => self.pipe = None,
            Ok(count) => {
                if let Some(kept) = &mut self.kept {
                    kept.push(&buffer[..count]);
                }
                return Some(count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.pipe = None,
        }
        None
    }

    fn finish(&mut self) -> Captured {
        let mut waiting = self.pipe.as_ref().map_or(0, |pipe| ioctl_fionread(pipe).unwrap_or(0));
        while waiting > 0 {
            let Some(count) = self.take_in(usize::try_from(waiting).unwrap_or(READ_BYTES)) else { break };
            waiting = waiting.saturating_sub(count as u64);
        }
        self.kept.take().map(HeadTail::finish).unwrap_or_default()
    }
}
