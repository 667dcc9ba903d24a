//! What is on the disk of a change in a unit: the order, from the agent to the keeper and to the agents after it, and the result, from the
//! keeper to whichever agent is there.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::clock::since_boot;
use crate::commands::action::Origin;
use crate::commands::package_management::task::Task;
use crate::commands::process_runner::Finished;

const ORDER: &str = "order.json";
const RESULT: &str = "result.json";

/// A change that runs in a unit. Times are milliseconds since the boot, suspension included: what two processes of one boot agree on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Record {
    /// Of the boot in which it runs.
    pub boot_id: String,
    /// The unit in which it runs.
    pub unit: String,
    /// The command that asked for it.
    pub origin: Origin,
    /// When the command came.
    pub received_ms: u64,
    /// When the command must have its answer.
    pub deadline_ms: u64,
    /// The command has its answer; only the end of the unit is waited for.
    pub is_answered: bool,
    /// What is to change, and what was there before.
    pub task: Task,
}

/// The folder with both. There is one change at a time, so there is one folder.
#[derive(Clone, Debug)]
pub struct Records(PathBuf);

impl Records {
    /// The records in that folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Writes an order down; the result of the one before goes.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn begin(&self, record: &Record) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        remove(&self.0.join(RESULT))?;
        self.write(ORDER, record)
    }

    /// Writes the order of a change that runs already once more.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn update(&self, record: &Record) -> io::Result<()> {
        self.write(ORDER, record)
    }

    /// The order, where there is one.
    ///
    /// # Errors
    /// Where it cannot be read, or makes no sense.
    pub fn order(&self) -> io::Result<Option<Record>> {
        self.read(ORDER)
    }

    /// The result, where there is one.
    ///
    /// # Errors
    /// Where it cannot be read, or makes no sense.
    pub fn result(&self) -> io::Result<Option<Finished>> {
        self.read(RESULT)
    }

    /// Writes what became of it.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn end(&self, finished: &Finished) -> io::Result<()> {
        self.write(RESULT, finished)
    }

    /// Whether there is an order.
    pub fn has_order(&self) -> bool {
        self.0.join(ORDER).exists()
    }

    /// Takes both away, the order first: a result alone means nothing.
    ///
    /// # Errors
    /// Where they cannot be removed.
    pub fn clear(&self) -> io::Result<()> {
        remove(&self.0.join(ORDER))?;
        remove(&self.0.join(RESULT))
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match fs::read(self.0.join(name)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whole or not at all: the other side may read at any time.
    fn write(&self, name: &str, content: &impl Serialize) -> io::Result<()> {
        let partial = self.0.join(format!("{name}.partial"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(&serde_json::to_vec(content)?)?;
        fs::rename(partial, self.0.join(name))
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A moment as milliseconds since the boot.
pub fn to_boot_ms(moment: Instant) -> u64 {
    let (now, up) = (Instant::now(), since_boot());
    let moment = match moment.checked_duration_since(now) {
        Some(ahead) => up.saturating_add(ahead),
        None => up.saturating_sub(now.duration_since(moment)),
    };
    u64::try_from(moment.as_millis()).unwrap_or(u64::MAX)
}

/// The moment of so many milliseconds since the boot.
pub fn from_boot_ms(milliseconds: u64) -> Instant {
    let (now, up, moment) = (Instant::now(), since_boot(), Duration::from_millis(milliseconds));
    match moment.checked_sub(up) {
        Some(ahead) => now + ahead,
        // Instants reach back to the boot, but for what the machine has slept.
        None => now.checked_sub(up.saturating_sub(moment)).unwrap_or(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_way_through_a_file() {
        for (sign, seconds) in [(1, 0), (1, 3), (-1, 3)] {
            let (now, distance) = (Instant::now(), Duration::from_secs(seconds));
            let moment = if sign > 0 { now + distance } else { now.checked_sub(distance).unwrap() };
            let back = from_boot_ms(to_boot_ms(moment));
            let error = back.max(moment) - back.min(moment);
            assert!(error < Duration::from_millis(50), "{sign} * {seconds} s: {error:?} apart");
        }
    }

    #[test]
    fn what_is_not_there_is_no_error_and_what_is_broken_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(folder.path().join("change"));
        assert!(records.order().unwrap().is_none() && records.result().unwrap().is_none() && !records.has_order());
        records.clear().unwrap();
        fs::create_dir(records.folder()).unwrap();
        fs::write(records.folder().join(ORDER), "{").unwrap();
        assert!(records.order().is_err() && records.has_order());
        records.clear().unwrap();
        assert!(!records.has_order());
    }
}
