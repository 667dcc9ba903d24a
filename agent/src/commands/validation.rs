//! Types that only hold legal values. Text from the host becomes one of these before anything else happens.
//!
//! A legal name need not be the name of anything: whether there is such a package, service or mount point is for its manager's own
//! list to say, and what acts on one asks there first.

mod identity;
mod package;
mod service;
#[cfg(test)]
pub(crate) mod tests;
mod text;

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a text is no legal value: half a sentence that names the rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

/// A name made of checked text.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;

            fn try_from(text: String) -> Result<Self, Invalid> {
                let kept = $check(&text)?;
                Ok(Self(kept.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A service's name as its manager knows it, such as `nginx` or `getty@tty1`. A `.service` at its end is left out, so that one
    /// service has one name in every rule.
    ServiceName, service::check
}

name! {
    /// A package's name, such as `libstdc++6` or, of another architecture, `libc6:i386`. Whether there is one of that name is for the
    /// package manager to say.
    PackageName, package::check
}

name! {
    /// A user's login name, such as `ada`; of a directory's user also `ada@example.org` or `EXAMPLE\ada`.
    UserName, identity::user
}

name! {
    /// Who joins a domain: an account of its directory, such as `ada` or `ada@EXAMPLE.ORG`. What Kerberos and Samba would read more out of
    /// (`EXAMPLE\ada`, `ada/admin`, `ada%password`) is none.
    PrincipalName, identity::principal
}

name! {
    /// A domain's name, such as `ad.example.org`.
    DomainName, identity::domain
}

name! {
    /// The name of a computer's account in a domain.
    ComputerName, identity::computer
}

name! {
    /// Where in a directory an account stands, such as `OU=Servers,DC=example,DC=org`.
    OrganizationalUnit, identity::unit
}

name! {
    /// Where a file system is mounted: an absolute path without detours, and without the slash that may end it. Whether one is mounted there is for the kernel to say.
    MountPoint, text::mount_point
}

name! {
    /// Where a file or a folder is: an absolute path without detours.
    FilePath, text::path
}

name! {
    /// An environment variable's name.
    EnvironmentName, text::environment
}

/// A process's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "i64")]
pub struct Pid(i32);

impl Pid {
    /// The number, above zero.
    #[must_use]
    pub const fn get(self) -> i32 {
        self.0
    }
}

impl TryFrom<i64> for Pid {
    type Error = Invalid;

    fn try_from(number: i64) -> Result<Self, Invalid> {
        match i32::try_from(number) {
            Ok(pid) if pid > 0 => Ok(Self(pid)),
            _ => Err(Invalid(format!("{number} is no process id"))),
        }
    }
}

/// How many entries of a list are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "i64")]
pub struct ListLimit(usize);

impl ListLimit {
    /// No list of the protocol is longer.
    pub const MOST: usize = 1000;

    /// The number: 1 to [`Self::MOST`].
    #[must_use]
    pub const fn get(self) -> usize {
        self.0
    }
}

impl TryFrom<i64> for ListLimit {
    type Error = Invalid;

    /// Who asks for more than there can be gets what there can be.
    fn try_from(number: i64) -> Result<Self, Invalid> {
        match usize::try_from(number) {
            Ok(limit) if limit > 0 => Ok(Self(limit.min(Self::MOST))),
            _ => Err(Invalid(format!("a limit is at least 1, not {number}"))),
        }
    }
}

/// Neither empty nor too long, and only legal characters.
fn characters(what: &str, text: &str, most: usize, legal: impl Fn(char) -> bool) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid(format!("a {what} is not empty")));
    }
    if text.len() > most {
        return Err(Invalid(format!("a {what} has at most {most} bytes, not {}", text.len())));
    }
    if let Some(wrong) = text.chars().find(|&c| !legal(c)) {
        return Err(Invalid(format!("a {what} has no {wrong:?}")));
    }
    Ok(())
}

/// The same, and a first character that no program takes for an option, a path or a pattern.
fn word(what: &str, text: &str, most: usize, legal: impl Fn(char) -> bool) -> Result<(), Invalid> {
    characters(what, text, most, legal)?;
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return Err(Invalid(format!("a {what} starts with a letter or a digit")));
    }
    Ok(())
}
