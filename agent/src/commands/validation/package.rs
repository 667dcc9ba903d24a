use super::{Invalid, word};

/// Longer than any package that exists, and short enough for every manager.
const MOST: usize = 200;

/// What dpkg calls architectures (`dpkg-architecture -L`, the ones of Linux that Debian or Ubuntu are built for). Behind a `:` nothing else
/// is legal: there apk has `cmd:` and `so:`, and zypper `pattern:` and `patch:`, which would stand for other packages.
const ARCHITECTURES: [&str; 21] = [
    "alpha", "amd64", "arm64", "armel", "armhf", "hppa", "i386", "ia64", "loong64", "m68k", "mips64el", "mipsel",
    "powerpc", "ppc64", "ppc64el", "riscv64", "s390x", "sh4", "sparc64", "x32", "amd64v3",
];

/// What Debian policy 5.6.1, RPM, Arch and Alpine allow together, and with it the names of snaps and flatpaks. `+` may stand at the end
/// of a name (`g++`), `-` not: apt takes `name-` for an order to remove. Arch would allow `@`, which apk takes for a repository.
pub(super) fn check(text: &str) -> Result<&str, Invalid> {
    word("package's name", text, MOST, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+' | ':'))?;
    let name = match text.split_once(':') {
        Some((name, architecture)) if ARCHITECTURES.contains(&architecture) => name,
        Some((_, other)) => return Err(Invalid(format!("{other:?} is no architecture of a package"))),
        None => text,
    };
    if name.ends_with(['-', '.']) {
        return Err(Invalid(format!("a package's name does not end with {:?}", &name[name.len() - 1..])));
    }
    Ok(text)
}
