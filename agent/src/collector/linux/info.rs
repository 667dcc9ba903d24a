//! What hardly ever changes: os-release, kernel, host name, boot time.

use std::fs;
use std::path::{Path, PathBuf};

use infini_protocol::metrics::MachineInfo;
use infini_protocol::{Text, Timestamp};

use super::roots::Roots;
use super::scan::{decimal, lines};
use crate::collector::CollectFailure;

/// Reads names and versions. A part that is missing is absent; the kernel's own names are never missing.
///
/// # Errors
/// Where the kernel's version cannot be read, because then `/proc` is not there.
pub fn read(roots: &Roots) -> Result<MachineInfo, CollectFailure> {
    let release = OsRelease::read(roots);
    Ok(MachineInfo {
        name: release.value("NAME"),
        os_version: release.version(),
        kernel_version: Some(kernel_name(&roots.proc.join("sys/kernel/osrelease"))?),
        hostname: Some(kernel_name(&roots.proc.join("sys/kernel/hostname"))?),
        arch: Some(std::env::consts::ARCH.into()),
        boot_time: fs::read(roots.proc.join("stat")).ok().and_then(|stat| boot_time(&stat)),
    })
}

/// The distribution's own words about itself: os-release(5).
#[derive(Debug, Default)]
pub struct OsRelease(String);

impl OsRelease {
    /// Reads the file, the administrator's before the vendor's; one that is not there has no values.
    #[must_use]
    pub fn read(roots: &Roots) -> Self {
        let places: [PathBuf; 2] = [roots.etc.join("os-release"), roots.etc.join("../usr/lib/os-release")];
        Self(places.iter().find_map(|place| fs::read_to_string(place).ok()).unwrap_or_default())
    }

    /// The last value of a key, as a shell would assign it; `None` where it is missing or empty.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<Text> {
        let assigned = |line: &'_ str| Some(unquote(line.trim().strip_prefix(key)?.strip_prefix('=')?));
        self.0.lines().rev().find_map(assigned).filter(|value| !value.is_empty()).map(Text::from)
    }

    /// The version; rolling distributions have none, only builds.
    #[must_use]
    pub fn version(&self) -> Option<Text> {
        self.value("VERSION_ID").or_else(|| self.value("BUILD_ID"))
    }
}

fn kernel_name(path: &Path) -> Result<Text, CollectFailure> {
    let text = fs::read_to_string(path).map_err(|error| CollectFailure::io(path, error))?;
    Ok(text.trim().into())
}

fn boot_time(stat: &[u8]) -> Option<Timestamp> {
    let seconds = lines(stat).find_map(|line| decimal(line.strip_prefix(b"btime ")?))?;
    Some(Timestamp::from_unix_ms(seconds.checked_mul(1000)?))
}

/// The value without its quotes. Inside of double quotes, and without any, a backslash takes the next character's meaning away.
fn unquote(value: &str) -> String {
    let inside = |quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    if let Some(literal) = inside('\'') {
        return literal.to_owned();
    }
    let mut characters = inside('"').unwrap_or(value).chars();
    let mut plain = String::with_capacity(value.len());
    while let Some(character) = characters.next() {
        plain.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lose_their_quotes() {
        let text =
            "# comment\nPRETTY_NAME=\"Not this\"\nNAME=\"Tom\\\"s \\$OS\"\nVERSION_ID=12\nID='de bian'\nBUILD_ID=\n";
        let release = OsRelease(text.to_owned());
        let value = |key| release.value(key);
        assert_eq!(value("NAME").as_deref(), Some("Tom\"s $OS"));
        assert_eq!(value("VERSION_ID").as_deref(), Some("12"));
        assert_eq!(value("ID").as_deref(), Some("de bian"));
        assert_eq!(value("BUILD_ID"), None);
        assert_eq!(value("VERSION"), None);
    }

    #[test]
    fn the_last_assignment_counts_as_in_a_shell() {
        assert_eq!(OsRelease("NAME=a\nNAME=b\n".to_owned()).value("NAME").as_deref(), Some("b"));
    }

    #[test]
    fn boot_time_comes_from_stat() {
        let time = boot_time(b"cpu  1 2\nctxt 5\nbtime 1700000000\nprocesses 7\n").unwrap();
        assert_eq!(time.to_string(), "2023-11-14T22:13:20.000Z");
        assert_eq!(boot_time(b"cpu  1 2\n"), None);
    }
}
