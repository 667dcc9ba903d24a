//! Names of users, from `passwd`.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use infini_protocol::Text;

use super::scan::{decimal, lines, text};

/// How many numbers without a name are remembered. A container host may run processes of any number.
const MAX_UNNAMED: usize = 1024;

/// Names by user id. Users of a directory service (LDAP, SSSD) are not in the file and are told by their number.
#[derive(Debug)]
pub struct Users {
    path: PathBuf,
    version: Option<Version>,
    names: HashMap<u32, Text>,
    unnamed: HashMap<u32, Text>,
}

/// What changes when the file does: tools replace it (inode), editors write it (time, size).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    inode: u64,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Users {
    /// Names from that `passwd`; nothing is read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), version: None, names: HashMap::new(), unnamed: HashMap::new() }
    }

    /// Reads the file again where it changed. Returns whether it did, so that names which others hold are asked for again.
    pub fn refresh(&mut self) -> bool {
        let version = fs::metadata(&self.path).ok().map(|file| Version {
            inode: file.ino(),
            size: file.size(),
            seconds: file.mtime(),
            nanoseconds: file.mtime_nsec(),
        });
        if version == self.version {
            return false;
        }
        self.version = version;
        self.names = fs::read(&self.path).map(|content| parse(&content)).unwrap_or_default();
        true
    }

    /// The user's name, or the number as text where no name is known.
    pub fn name(&mut self, uid: u32) -> Text {
        if let Some(name) = self.names.get(&uid).or_else(|| self.unnamed.get(&uid)) {
            return name.clone();
        }
        if self.unnamed.len() >= MAX_UNNAMED {
            self.unnamed.clear();
        }
        self.unnamed.entry(uid).or_insert_with(|| uid.to_string().into()).clone()
    }
}

fn parse(content: &[u8]) -> HashMap<u32, Text> {
    let mut names = HashMap::new();
    for line in lines(content) {
        let mut fields = line.split(|byte| *byte == b':');
        let Some(name) = fields.next().filter(|name| !name.is_empty()) else { continue };
        let Some(uid) = fields.nth(1).and_then(decimal).and_then(|uid| u32::try_from(uid).ok()) else { continue };
        // Two names may share a number; the first one is what the system says as well.
        names.entry(uid).or_insert_with(|| text(name));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("passwd");
        fs::write(
            &path,
            "root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/root:/bin/sh\n# no user\n:x:5:5::/:\nwww:x:33:33::/:\n",
        )
        .unwrap();
        let mut users = Users::new(&path);
        assert!(users.refresh());
        assert!(!users.refresh(), "an unchanged file was read again");
        assert_eq!([0, 5, 33, 1000].map(|uid| users.name(uid).to_string()), ["root", "5", "www", "1000"]);

        fs::write(&path, "root:x:0:0:root:/root:/bin/bash\nalice:x:1000:1000::/home/alice:/bin/bash\n").unwrap();
        assert!(users.refresh());
        assert_eq!([33, 1000].map(|uid| users.name(uid).to_string()), ["33", "alice"]);
    }

    #[test]
    fn without_a_file_numbers_serve() {
        let mut users = Users::new("/nonexistent/passwd");
        assert!(!users.refresh());
        assert_eq!(&*users.name(0), "0");
    }
}
