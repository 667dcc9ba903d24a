use std::path::{Path, PathBuf};

/// Where the kernel's and the system's files are. Tests put recorded trees here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys`.
    pub sys: PathBuf,
    /// `/etc`: os-release, hostname, passwd.
    pub etc: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into(), etc: "/etc".into() }
    }
}

impl Roots {
    /// Where a file of the machine is that lies outside of the three: below the folder that `/etc` is in.
    #[must_use]
    pub fn file(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let absolute = absolute.as_ref();
        let root = self.etc.parent().unwrap_or(Path::new("/"));
        root.join(absolute.strip_prefix("/").unwrap_or(absolute))
    }
}
