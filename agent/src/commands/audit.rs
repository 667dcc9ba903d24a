//! The audit: a line for every command when it is decided and one when it ended, each carrying the hash of the one before.
//!
//! The files are `audit/commands.NNNNNNNN.log` of the state directory. Lines are appended before the command starts. Where a file ends, a
//! thread brings it to the disk; waited for is the disk only when the agent stops. So a power loss may cost the last lines, right after
//! a file has ended those of two, and a crash of the agent none.

mod chain;
mod entry;
mod journal;
#[cfg(target_os = "linux")]
mod linux;
mod settings;
mod storage;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod verify;

use std::io;
use std::path::Path;

use infini_protocol::agent::{AgentEvent, EventSeverity};
use infini_protocol::{ErrorCode, Timestamp};
use serde_json::json;

use super::outcome::CommandError;
pub use chain::{Head, InvalidHead};
use entry::Body;
pub use entry::{Command, CommandKind, Decision, Ending};
use journal::{Bounds, Journal};
#[cfg(target_os = "linux")]
pub use linux::{Folder, files};
pub use settings::{AuditSettings, WhenFull, folder};
pub use storage::{Ends, Storage};

/// The host hears of the head with every tenth line.
const LINES_PER_HEAD: u64 = 10;

/// On a full disk each attempt is a few system calls for nothing: first after a second, then less and less often.
const FIRST_WAIT_MS: u64 = 1000;
const LONGEST_WAIT_MS: u64 = 30_000;

/// Writes the audit. Its calls write to the disk and may wait for it.
#[derive(Debug)]
pub struct Audit {
    files: Box<dyn Storage>,
    settings: AuditSettings,
    /// Absent until the folder could be read.
    journal: Option<Journal>,
    trouble: Option<Trouble>,
    /// The line of the last head that the host heard of.
    told: u64,
    /// Nothing is written any more.
    is_over: bool,
}

/// Why nothing can be written, and since when.
#[derive(Debug)]
struct Trouble {
    missing: u64,
    since: Timestamp,
    last_attempt: Timestamp,
    wait_ms: u64,
}

/// What the caller does after an entry.
#[derive(Debug, Default)]
#[must_use]
pub struct Recorded {
    /// To be sent to the host.
    pub event: Option<AgentEvent>,
    /// The command must not start, for this reason.
    pub refusal: Option<CommandError>,
}

impl Audit {
    /// Goes on with the audit in a folder. Where that cannot be done yet, the first entry says so.
    #[must_use]
    #[cfg(target_os = "linux")]
    pub fn open(path: &Path, settings: AuditSettings) -> Self {
        Self::with_storage(Box::new(Folder::new(path)), settings)
    }

    /// The same, with any storage.
    #[must_use]
    pub fn with_storage(files: Box<dyn Storage>, settings: AuditSettings) -> Self {
        let mut audit = Self { files, settings, journal: None, trouble: None, told: 0, is_over: false };
        // An error comes again with the first entry, which tells of it.
        audit.journal = Journal::resume(audit.files.as_mut()).ok();
        audit.told = audit.line();
        audit
    }

    /// Writes down a command and what was decided about it: before it starts.
    pub fn decided(&mut self, now: Timestamp, command: Command, decision: &Decision<'_>) -> Recorded {
        let event = self.record(now, &Body::decided(command, decision));
        let must_refuse = self.trouble.is_some() && self.settings.when_full == WhenFull::Stop;
        Recorded { event, refusal: must_refuse.then(refusal) }
    }

    /// Writes down that a command came again, as it was before: nothing runs for it, so nothing is refused.
    pub fn repeated(&mut self, now: Timestamp, command: Command, answered: bool) -> Recorded {
        Recorded { event: self.record(now, &Body::repeated(command, answered)), refusal: None }
    }

    /// Writes down how a command ended.
    pub fn ended(&mut self, now: Timestamp, id: &str, kind: CommandKind, ending: &Ending) -> Recorded {
        Recorded { event: self.record(now, &Body::ended(id, kind, ending)), refusal: None }
    }

    /// Other bounds count from the next entry on. A file that is over them is followed by a new one.
    pub fn reconfigure(&mut self, settings: AuditSettings) {
        self.settings = settings;
    }

    /// Writes nothing from now on, whatever becomes of the files, and gives the last head, for the host.
    pub fn stop_writing(&mut self) -> Option<AgentEvent> {
        self.is_over = true;
        self.trouble = None;
        let head = self.head().filter(|head| head.line > 0)?;
        let message = "the audit ends here, and its files are removed: this machine becomes a golden image";
        Some(head_event(EventSeverity::Warn, message.to_owned(), &head))
    }

    /// Nothing comes any more: gives the last head, for the host.
    pub fn stop(&mut self, now: Timestamp) -> Option<AgentEvent> {
        if self.is_over {
            return None;
        }
        if self.trouble.is_some() {
            let _ = self.recover(now);
        }
        let head = self.head().filter(|head| head.line > 0)?;
        Some(head_event(EventSeverity::Info, "the agent stops; the audit ends here".to_owned(), &head))
    }

    /// Brings all to the disk, which may take its time.
    pub fn sync(&mut self) {
        // Where nothing was ever written there is nothing to lose.
        let has_lines = !self.is_over && self.line() > 0;
        if has_lines && let Err(error) = self.files.sync() {
            tracing::warn!(%error, "the last lines of the audit may not survive a power loss");
        }
    }

    /// The last line; nothing before the folder could be read.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.journal.as_ref().map(|journal| journal.head.clone())
    }

    fn line(&self) -> u64 {
        self.journal.as_ref().map_or(0, |journal| journal.head.line)
    }

    fn record(&mut self, now: Timestamp, body: &Body) -> Option<AgentEvent> {
        if self.is_over {
            return None;
        }
        if self.trouble.as_ref().is_some_and(|trouble| !trouble.is_due(now)) {
            self.missed(now);
            return None;
        }
        let recovered = self.recover(now);
        match recovered.and_then(|missing| self.append(now, body).map(|()| missing)) {
            Ok(missing) => self.written(missing),
            Err(error) => self.failed(now, &error),
        }
    }

    /// Tells in the audit how many entries are missing, where some are, and how many that were.
    fn recover(&mut self, now: Timestamp) -> io::Result<u64> {
        let Some(&Trouble { missing, since, .. }) = self.trouble.as_ref() else { return Ok(0) };
        self.append(now, &Body::Missing { count: missing, since })?;
        self.trouble = None;
        Ok(missing)
    }

    fn append(&mut self, now: Timestamp, body: &Body) -> io::Result<()> {
        let journal = match &mut self.journal {
            Some(journal) => journal,
            none => none.insert(Journal::resume(self.files.as_mut())?),
        };
        let (file_bytes, files) = (self.settings.file_bytes as u64, self.settings.files as u64);
        journal.append(self.files.as_mut(), Bounds { file_bytes, files }, now, body)
    }

    fn written(&mut self, missing: u64) -> Option<AgentEvent> {
        let head = self.head()?;
        if missing == 0 && head.line / LINES_PER_HEAD <= self.told / LINES_PER_HEAD {
            return None;
        }
        self.told = head.line;
        if missing == 0 {
            return Some(head_event(EventSeverity::Info, format!("the audit has {} lines", head.line), &head));
        }
        tracing::info!(missing, "the audit is written again");
        let message = format!("the audit is written again; {missing} entries are missing in it");
        Some(head_event(EventSeverity::Warn, message, &head))
    }

    fn failed(&mut self, now: Timestamp, error: &io::Error) -> Option<AgentEvent> {
        let was_known = self.trouble.is_some();
        self.missed(now);
        if let Some(trouble) = &mut self.trouble {
            trouble.last_attempt = now;
            trouble.wait_ms = (trouble.wait_ms * 2).clamp(FIRST_WAIT_MS, LONGEST_WAIT_MS);
        }
        if was_known {
            tracing::debug!(%error, "the audit still cannot be written");
            return None;
        }
        let what_then = match self.settings.when_full {
            WhenFull::Continue => "commands go on and are counted",
            WhenFull::Stop => "commands are refused",
        };
        tracing::error!(%error, "the audit cannot be written, {what_then}; is the disk full?");
        let message = format!("the audit cannot be written ({error}); until it can, {what_then}");
        Some(event(EventSeverity::Error, message, json!({ "line": self.line() })))
    }

    fn missed(&mut self, now: Timestamp) {
        let new = Trouble { missing: 0, since: now, last_attempt: now, wait_ms: 0 };
        self.trouble.get_or_insert(new).missing += 1;
    }
}

impl Trouble {
    /// A clock that was set, either way, makes an attempt come early, never late.
    fn is_due(&self, now: Timestamp) -> bool {
        now.unix_ms().abs_diff(self.last_attempt.unix_ms()) >= self.wait_ms
    }
}

fn refusal() -> CommandError {
    let sentence = "the audit of this machine cannot be written and audit.when_full is \"stop\", so no command runs; \
                    make room on the disk of the state directory and send it again";
    CommandError::new(ErrorCode::ResourceLimit, sentence)
}

fn head_event(severity: EventSeverity, message: String, head: &Head) -> AgentEvent {
    event(severity, message, json!({ "line": head.line, "hash": head.hash }))
}

fn event(severity: EventSeverity, message: String, context: serde_json::Value) -> AgentEvent {
    AgentEvent { severity, source: "audit".to_owned(), message, execution_id: None, context: Some(context) }
}
