use super::{Invalid, word};

/// systemd's own bound for a unit's name (`UNIT_NAME_MAX`), which counts the suffix.
const MOST: usize = 255 - SUFFIX.len();

const SUFFIX: &str = ".service";

/// The suffixes of systemd's units (systemd.unit(5)). Some targets among them reboot the machine. `.service` itself is here for a name
/// that has it twice.
const UNITS: [&str; 12] = [
    ".automount",
    ".device",
    ".mount",
    ".path",
    ".scope",
    ".service",
    ".slice",
    ".snapshot",
    ".socket",
    ".swap",
    ".target",
    ".timer",
];

/// The name without its suffix. systemd.unit(5) allows letters, digits, `:-_.\` and an `@` before the instance; the backslash only
/// where systemd-escape(1) puts it, as in `systemd-cryptsetup@luks\x2d1`.
pub(super) fn check(text: &str) -> Result<&str, Invalid> {
    let name = text.strip_suffix(SUFFIX).unwrap_or(text);
    word("service's name", name, MOST, |c| {
        c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '@' | '\\')
    })?;
    if !name.split('\\').skip(1).all(is_escape) {
        return Err(Invalid(r"a backslash in a service's name begins an escape such as \x2d".to_owned()));
    }
    if let Some(suffix) = UNITS.iter().find(|suffix| name.ends_with(*suffix)) {
        return Err(Invalid(format!("a service's name does not end with {suffix}: only services can be controlled")));
    }
    Ok(name)
}

/// Whether this, after a backslash, begins with the code of a character.
fn is_escape(text: &str) -> bool {
    let code = text.strip_prefix('x').and_then(|rest| rest.get(..2));
    code.is_some_and(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
