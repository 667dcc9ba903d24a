//! What was not believed, in a file of its own: a flood of such lines cannot push other evidence out of a log. How often a line is
//! written is for the caller, who has a clock.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use infini_protocol::Timestamp;
use serde_json::json;

/// At two lines a minute this lasts for days; then the file becomes the one older one that is kept.
const MAX_BYTES: u64 = 1 << 20;

/// The audit file, one JSON object a line. It is opened for each line: lines are rare, and somebody may have moved it away.
#[derive(Debug)]
pub struct AuditFile {
    path: PathBuf,
}

impl AuditFile {
    /// A file at that path; nothing is opened yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Writes one line: why a line was not believed, and how many more like it came since the line before this one.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&self, now: Timestamp, reason: &str, dropped: u64) -> io::Result<()> {
        let mut file = self.open()?;
        if file.metadata()?.len() >= MAX_BYTES {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
            file = self.open()?;
        }
        let line = json!({ "timestamp": now, "event": "not_believed", "reason": reason, "dropped": dropped });
        file.write_all(format!("{line}\n").as_bytes())
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn lines_are_private_and_the_file_stays_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.log");
        let audit = AuditFile::new(&path);
        audit.write(Timestamp::from_unix_ms(0), "first\nline", 7).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!((line["reason"].as_str(), line["dropped"].as_u64()), (Some("first\nline"), Some(7)), "{text}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        File::options().write(true).open(&path).unwrap().set_len(MAX_BYTES).unwrap();
        audit.write(Timestamp::from_unix_ms(1), "second", 0).unwrap();
        assert!(fs::metadata(&path).unwrap().len() < 200);
        assert_eq!(fs::metadata(folder.path().join("auth.log.1")).unwrap().len(), MAX_BYTES);
    }
}
