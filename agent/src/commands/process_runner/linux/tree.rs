//! A program and all that it starts, from its start to the end of the last of them.

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};
use tokio::io::unix::AsyncFd;

use super::super::{Ending, Usage};
use super::group::Group;
use super::launch::{Descriptors, Prepared, Report, failure, start_in_group};
use super::supervised::Supervised;
use crate::descriptor;

/// How a program ended, and what it used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ended {
    pub(super) ending: Ending,
    pub(super) usage: Usage,
}

/// A program and its descendants, held together by one of two ways. Dropping it kills them.
#[derive(Debug)]
pub(super) enum Tree {
    /// By a control group.
    Group(Grouped),
    /// By a process of the agent's own above them.
    Supervised(Supervised),
}

impl Tree {
    /// Waits until the program itself has ended. Cancel safe, and to be asked once.
    ///
    /// # Errors
    /// Where it could not be started.
    pub(super) async fn ended(&mut self) -> io::Result<Ended> {
        match self {
            Self::Group(tree) => tree.ended().await,
            Self::Supervised(tree) => tree.ended().await,
        }
    }

    /// What it has used up to now.
    pub(super) fn usage(&self) -> Usage {
        match self {
            Self::Group(tree) => tree.group.usage(),
            Self::Supervised(_) => Usage::default(),
        }
    }

    /// Asks all of it to end.
    pub(super) fn terminate(&mut self) {
        match self {
            Self::Group(tree) => tree.group.terminate(),
            Self::Supervised(tree) => tree.terminate(),
        }
    }

    /// Kills all of it.
    pub(super) fn kill(&mut self) {
        match self {
            Self::Group(tree) => tree.group.kill(),
            Self::Supervised(tree) => tree.kill(),
        }
    }

    /// Waits until nothing of it is left. Cancel safe.
    pub(super) async fn gone(&mut self) {
        match self {
            Self::Group(tree) => tree.gone().await,
            Self::Supervised(tree) => tree.gone().await,
        }
    }
}

/// A program in a control group of its own.
#[derive(Debug)]
pub(super) struct Grouped {
    group: Group,
    process: AsyncFd<OwnedFd>,
    report: Report,
    /// Its status, which the kernel tells once.
    status: Option<Ending>,
}

impl Grouped {
    /// Starts a program in this group.
    pub(super) fn start(group: Group, prepared: &Prepared, descriptors: Descriptors<'_>) -> io::Result<Self> {
        let starting = start_in_group(prepared, descriptors, group.as_fd())?;
        let process = descriptor::readable(starting.process)?;
        Ok(Self { group, process, report: starting.report, status: None })
    }

    async fn ended(&mut self) -> io::Result<Ended> {
        let ending = self.wait().await?;
        if let Some(error) = self.report.read().as_deref().and_then(failure) {
            return Err(error);
        }
        let out_of_memory =
            ending == Ending::Signal(rustix::process::Signal::KILL.as_raw()) && self.group.ran_out_of_memory();
        let ending = if out_of_memory { Ending::OutOfMemory } else { ending };
        Ok(Ended { ending, usage: self.group.usage() })
    }

    async fn wait(&mut self) -> io::Result<Ending> {
        loop {
            if let Some(status) = self.status {
                return Ok(status);
            }
            let mut ready = self.process.readable().await?;
            let process = WaitId::PidFd(std::os::fd::AsFd::as_fd(&self.process));
            let status = waitid(process, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)?;
            self.status = status.map(|status| ending(&status));
            if self.status.is_none() {
                ready.clear_ready();
            }
        }
    }

    async fn gone(&mut self) {
        if let Err(error) = self.wait().await {
            tracing::warn!(%error, "a process cannot be waited for");
        }
        self.group.emptied().await;
    }
}

fn ending(status: &WaitIdStatus) -> Ending {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ending::Exit(code),
        (None, Some(signal)) => Ending::Signal(signal),
        (None, None) => Ending::Exit(-1),
    }
}
