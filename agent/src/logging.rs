//! The agent's log: to the journal with fields where systemd reads our standard error, as plain lines elsewhere.

use std::fmt;

use tracing::Level;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

use crate::clock;

/// Changes what is logged while the agent runs.
#[derive(Clone, Debug)]
pub struct LogLevel(reload::Handle<LevelFilter, Registry>);

impl LogLevel {
    /// Logs what is at least that important from now on.
    pub fn set(&self, level: Level) {
        // It fails only where the log is gone, and then nobody listens.
        let _ = self.0.reload(LevelFilter::from_level(level));
    }
}

/// Starts the log. Only the first call of a process does anything.
#[must_use]
pub fn start(level: Level) -> LogLevel {
    let (filter, handle) = reload::Layer::new(LevelFilter::from_level(level));
    let layer: Box<dyn Layer<_> + Send + Sync> = match journal() {
        Some(journal) => Box::new(journal),
        None => {
            Box::new(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_timer(Wall))
        }
    };
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
    LogLevel(handle)
}

/// systemd says in JOURNAL_STREAM which stream leads to the journal, as `device:inode`; it counts only where that is still our
/// standard error (systemd.exec(5)).
fn journal() -> Option<tracing_journald::Layer> {
    let stream = std::env::var("JOURNAL_STREAM").ok()?;
    let stat = rustix::fs::fstat(rustix::stdio::stderr()).ok()?;
    if stream != format!("{}:{}", stat.st_dev, stat.st_ino) {
        return None;
    }
    let layer = tracing_journald::layer().ok()?;
    Some(layer.with_field_prefix(None).with_syslog_identifier("infiniservice".to_owned()))
}

struct Wall;

impl FormatTime for Wall {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", clock::now())
    }
}

/// What is logged from `DEBUG` up on this thread while `work` runs.
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "only tests call it")]
pub(crate) fn logged(work: impl FnOnce()) -> String {
    // Where one subscriber is alone, tracing asks the thread that reaches a line first whether it listens, and takes its no for all
    // threads. The other tests' threads do not listen.
    static ANOTHER: std::sync::LazyLock<tracing::Dispatch> =
        std::sync::LazyLock::new(|| tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default()));
    std::sync::LazyLock::force(&ANOTHER);
    let file = tempfile::NamedTempFile::new().unwrap();
    let writer = std::sync::Arc::new(file.reopen().unwrap());
    let subscriber =
        tracing_subscriber::fmt().with_max_level(Level::DEBUG).with_writer(writer).with_ansi(false).finish();
    tracing::subscriber::with_default(subscriber, work);
    std::fs::read_to_string(file.path()).unwrap()
}
