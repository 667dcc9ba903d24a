//! That this boot's pending scripts were handed over, for the processes of the agent that come after this one.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A small file with the id of the boot.
#[derive(Debug)]
pub struct ScriptsMark {
    path: PathBuf,
    boot_id: String,
    is_set: bool,
}

impl ScriptsMark {
    /// Reads the mark. One that cannot be read is not there: a host that is asked once more hands over what no id keeps from running.
    #[must_use]
    pub fn open(path: &Path, boot_id: &str) -> Self {
        let is_set = std::fs::read_to_string(path).is_ok_and(|marked| marked.trim_end() == boot_id);
        Self { path: path.to_owned(), boot_id: boot_id.to_owned(), is_set }
    }

    /// Whether it is there, of this boot.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        self.is_set
    }

    /// Sets it, where it is not set yet.
    pub fn set(&mut self) {
        if !std::mem::replace(&mut self.is_set, true)
            && let Err(error) = self.write()
        {
            let path = self.path.display();
            tracing::warn!(%path, %error, "after a restart the agent will ask for pending scripts once more");
        }
    }

    fn write(&self) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
        writeln!(file, "{}", self.boot_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_for_the_boot_that_it_was_set_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scripts");
        let mut mark = ScriptsMark::open(&path, "boot-1");
        assert!(!mark.is_set());
        mark.set();
        assert!(ScriptsMark::open(&path, "boot-1").is_set());
        assert!(!ScriptsMark::open(&path, "boot-10").is_set());
        assert!(!ScriptsMark::open(&path, "boot-").is_set());
        ScriptsMark::open(&path, "boot-2").set();
        assert!(ScriptsMark::open(&path, "boot-2").is_set() && !ScriptsMark::open(&path, "boot-1").is_set());
    }
}
