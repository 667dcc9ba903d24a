//! Types that only hold legal values. Text from the host becomes one of these before anything else happens.

use std::fmt;

use serde::Deserialize;

/// Why a text is no legal value: half a sentence that names the rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

/// A name made of checked text.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
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
                $check(&text)?;
                Ok(Self(text))
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
    /// A service's name as its manager knows it, such as `nginx` or `getty@tty1.service`.
    ServiceName, service
}

name! {
    /// A package's name, such as `libstdc++6` or, of another architecture, `libc6:i386`. Whether there is one of that name is for the
    /// package manager to say.
    PackageName, package
}

name! {
    /// A user's login name.
    UserName, user
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

/// systemd's own bound for a unit's name (`UNIT_NAME_MAX`), and its characters less the backslash of escapes, which no manager but
/// systemd reads.
fn service(text: &str) -> Result<(), Invalid> {
    check("service's name", text, 255, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '@'))
}

/// What Debian policy 5.6.7, RPM, Arch and Alpine allow together, and `:` before an architecture. `+` may stand at the end of a name
/// (`g++`), `-` not: apt takes `name-` for an order to remove.
fn package(text: &str) -> Result<(), Invalid> {
    check("package's name", text, 200, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+' | ':'))?;
    if text.ends_with(['-', '.', ':']) {
        return Err(Invalid(format!("a package's name does not end with {:?}", &text[text.len() - 1..])));
    }
    Ok(())
}

/// As shadow's `useradd` allows them, with capitals and the dot, which directories bring.
fn user(text: &str) -> Result<(), Invalid> {
    check("user's name", text, 32, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// A first character that no program takes for an option, a path or a pattern, and only legal ones after it.
fn check(what: &str, text: &str, most: usize, legal: impl Fn(char) -> bool) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid(format!("a {what} is not empty")));
    }
    if text.len() > most {
        return Err(Invalid(format!("a {what} has at most {most} bytes, not {}", text.len())));
    }
    if let Some(wrong) = text.chars().find(|&c| !legal(c)) {
        return Err(Invalid(format!("a {what} has no {wrong:?}")));
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return Err(Invalid(format!("a {what} starts with a letter or a digit")));
    }
    Ok(())
}
