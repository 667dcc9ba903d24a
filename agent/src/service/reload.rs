//! Reading the configuration again, without waiting for the file system that it is on.
//!
//! A file server that is away holds whoever reads from it for as long as it likes, and nothing can end that. So a plain thread reads, which
//! nobody joins, and there is never more than one of them.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::sleep_until;
use crate::auth::Trust;
use crate::commands::golden_image::OwnFiles;
use crate::config::Loaded;

/// How long reading may take before it is said that it hangs. It takes less than a millisecond.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Reads the configuration again: the new one and what the agent believes under it, or one sentence why the old one stays.
pub type Reload = Arc<dyn Fn() -> Result<Reloaded, String> + Send + Sync>;

/// What a reload changes in a running agent.
#[derive(Debug)]
pub struct Reloaded {
    /// The new configuration.
    pub loaded: Loaded,
    /// Whom the agent believes now.
    pub trust: Trust,
    /// Where it keeps what is its own.
    pub own: OwnFiles,
}

/// What became of a reload.
#[derive(Debug)]
pub(super) enum Progress {
    /// It was read, or cannot be used.
    Read(Result<Box<Reloaded>, String>),
    /// It hangs. What it gives once it comes back is the new configuration nevertheless.
    Hangs,
}

/// Reads the configuration when it is asked to.
pub(super) struct Reloader {
    reload: Reload,
    results: UnboundedReceiver<Result<Reloaded, String>>,
    sender: UnboundedSender<Result<Reloaded, String>>,
    reading: Option<Reading>,
}

/// A reading that is under way.
struct Reading {
    /// When it is said that it hangs; `None` once it was.
    hangs_at: Option<Instant>,
    /// Somebody asked since it began, and may have changed the files behind its back.
    again: bool,
}

impl Reloader {
    pub(super) fn new(reload: Reload) -> Self {
        let (sender, results) = unbounded_channel();
        Self { reload, results, sender, reading: None }
    }

    /// Has the configuration read. While a reading is under way, another one follows it, however often this is called.
    pub(super) fn request(&mut self) {
        match &mut self.reading {
            Some(reading) => {
                reading.again = true;
                reading.hangs_at.get_or_insert_with(Instant::now);
            }
            None => self.begin(),
        }
    }

    /// What comes of it. Cancel safe; pending while nothing is read.
    pub(super) async fn next(&mut self) -> Progress {
        let hangs_at = self.reading.as_ref().and_then(|reading| reading.hangs_at);
        tokio::select! {
            biased;
            // The sender is kept here too, so the channel never ends.
            Some(result) = self.results.recv() => self.take(result),
            () = sleep_until(hangs_at.map(Instant::into_std)) => {
                self.reading.iter_mut().for_each(|reading| reading.hangs_at = None);
                Progress::Hangs
            }
        }
    }

    fn take(&mut self, result: Result<Reloaded, String>) -> Progress {
        if self.reading.take().is_some_and(|reading| reading.again) {
            self.begin();
        }
        Progress::Read(result.map(Box::new))
    }

    fn begin(&mut self) {
        let (reload, sender) = (Arc::clone(&self.reload), self.sender.clone());
        // Nobody listens any more once the agent ends.
        let read = move || drop(sender.send(reload()));
        if let Err(error) = thread::Builder::new().name("reload".to_owned()).spawn(read) {
            drop(self.sender.send(Err(format!("no thread to read it with could be started: {error}"))));
        }
        self.reading = Some(Reading { hangs_at: Some(Instant::now() + PATIENCE), again: false });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::sync::{Mutex, PoisonError};

    use super::*;

    /// A file system that answers one reading for each message; the answers say which of them it was.
    fn slow() -> (Reloader, Sender<()>) {
        let (release, gate) = channel();
        let gate = Mutex::new((gate, 0));
        let reload = move || {
            let mut gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
            gate.0.recv().unwrap();
            gate.1 += 1;
            Err(gate.1.to_string())
        };
        (Reloader::new(Arc::new(reload)), release)
    }

    async fn read(reloader: &mut Reloader) -> String {
        match reloader.next().await {
            Progress::Read(Err(which)) => which,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_that_hangs_is_told_of_once_and_still_counts_when_it_comes() {
        let (mut reloader, release) = slow();
        let start = Instant::now();
        reloader.request();
        assert!(matches!(reloader.next().await, Progress::Hangs));
        assert_eq!(start.elapsed(), PATIENCE);
        release.send(()).unwrap();
        assert_eq!(read(&mut reloader).await, "1");
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_while_it_hangs_hears_so_at_once() {
        let (mut reloader, release) = slow();
        reloader.request();
        reloader.next().await;
        let start = Instant::now();
        reloader.request();
        assert!(matches!(reloader.next().await, Progress::Hangs));
        assert_eq!(start.elapsed(), Duration::ZERO);
        release.send(()).unwrap();
        assert_eq!(read(&mut reloader).await, "1");
    }

    #[tokio::test]
    async fn what_was_asked_for_meanwhile_is_read_once() {
        let (mut reloader, release) = slow();
        (0..5).for_each(|_| reloader.request());
        (0..2).for_each(|_| release.send(()).unwrap());
        assert_eq!((read(&mut reloader).await, read(&mut reloader).await), ("1".to_owned(), "2".to_owned()));
        assert!(reloader.reading.is_none(), "a third reading is under way");
    }
}
