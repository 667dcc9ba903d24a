//! What was not believed, in a file of its own: a flood of such lines cannot push other evidence out of a log. How often a line is
//! written is for the caller, who has a clock.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use infini_protocol::Timestamp;
use serde_json::json;

/// At two lines a minute this lasts for days; then the file becomes the one older one that is kept.
const MAX_BYTES: u64 = 1 << 20;

/// The file's name in the state directory, and that of the older one.
pub const FILES: [&str; 2] = ["auth.log", "auth.log.1"];

/// The audit file, one JSON object a line. It is opened for each line: lines are rare, and somebody may have moved it away.
#[derive(Debug)]
pub struct AuditFile {
    /// Absent where nothing is to be written any more.
    path: Option<PathBuf>,
}

impl AuditFile {
    /// A file at that path; nothing is opened yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()) }
    }

    /// Writes nothing from now on.
    pub fn stop_writing(&mut self) {
        self.path = None;
    }

    /// Writes one line: why a line was not believed, and how many more like it came since the line before this one.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&self, now: Timestamp, reason: &str, dropped: u64) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let mut file = open(path)?;
        if file.metadata()?.len() >= MAX_BYTES {
            fs::rename(path, path.with_extension("log.1"))?;
            file = open(path)?;
        }
        let line = json!({ "timestamp": now, "event": "not_believed", "reason": reason, "dropped": dropped });
        file.write_all(format!("{line}\n").as_bytes())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn lines_are_private_and_the_file_stays_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.log");
        let mut audit = AuditFile::new(&path);
        audit.write(Timestamp::from_unix_ms(0), "first\nline", 7).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!((line["reason"].as_str(), line["dropped"].as_u64()), (Some("first\nline"), Some(7)), "{text}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        File::options().write(true).open(&path).unwrap().set_len(MAX_BYTES).unwrap();
        audit.write(Timestamp::from_unix_ms(1), "second", 0).unwrap();
        assert!(fs::metadata(&path).unwrap().len() < 200);
        assert_eq!(fs::metadata(folder.path().join("auth.log.1")).unwrap().len(), MAX_BYTES);

        audit.stop_writing();
        fs::remove_file(&path).unwrap();
        audit.write(Timestamp::from_unix_ms(2), "third", 0).unwrap();
        assert!(!path.exists(), "it was made again");
    }
}
