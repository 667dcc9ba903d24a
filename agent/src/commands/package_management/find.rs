//! Which package manager is here.

use std::path::{Path, PathBuf};

use infini_protocol::ErrorCode;

use super::apk::{self, Apk};
use super::apt::{self, Apt};
use super::dnf::{self, Dnf};
use super::manager::{PackageManager, is_installed};
use super::pacman::{self, Pacman};
use super::zypper::{self, Zypper};
use crate::collector::linux::Roots;
use crate::commands::outcome::CommandError;

/// The root of the machine's files.
#[must_use]
pub fn root(roots: &Roots) -> PathBuf {
    roots.etc.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}

/// The manager whose program is there, below a root. Other systems' tools can be installed beside the machine's own: dpkg comes with
/// apt on Debian, and there dnf or pacman are mere programs, so apt is looked for first; SUSE offers dnf beside zypper.
///
/// # Errors
/// `UNSUPPORTED_PLATFORM` where none is there.
pub fn manager(root: &Path) -> Result<Box<dyn PackageManager>, CommandError> {
    let managers: [(&str, Box<dyn PackageManager>); 5] = [
        (apt::PROGRAM, Box::new(Apt)),
        (zypper::PROGRAM, Box::new(Zypper)),
        (dnf::PROGRAM, Box::new(Dnf::at(root))),
        (pacman::PROGRAM, Box::new(Pacman)),
        (apk::PROGRAM, Box::new(Apk)),
    ];
    let found = managers.into_iter().find(|(program, _)| is_installed(root, program));
    found.map(|(_, manager)| manager).ok_or_else(|| {
        let sentence = "this machine has none of apt, zypper, dnf, pacman and apk, so its packages cannot be managed";
        CommandError::new(ErrorCode::UnsupportedPlatform, sentence)
    })
}
