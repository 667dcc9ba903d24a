use super::{Invalid, characters};

/// `PATH_MAX` less the NUL.
const LONGEST_PATH: usize = 4095;

const LONGEST_VARIABLE: usize = 255;

pub(super) fn mount_point(text: &str) -> Result<&str, Invalid> {
    let path = text.strip_suffix('/').filter(|path| !path.is_empty() && !path.ends_with('/')).unwrap_or(text);
    absolute("mount point", path)
}

pub(super) fn path(text: &str) -> Result<&str, Invalid> {
    absolute("path", text)
}

/// Paths may hold any text that people can read. What they cannot see, or what turns the reading direction, would make a log or a
/// terminal show another path than the one that is meant.
fn absolute<'t>(what: &str, text: &'t str) -> Result<&'t str, Invalid> {
    characters(what, text, LONGEST_PATH, |c| !c.is_control() && !is_invisible(c))?;
    let Some(path) = text.strip_prefix('/') else {
        return Err(Invalid(format!("a {what} starts with '/'")));
    };
    if !path.is_empty() && path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Invalid(format!("a {what} has no empty part, no '.' and no '..'")));
    }
    Ok(text)
}

/// Unicode's separators of lines, marks of direction, joiners and other characters without a shape (general category Cf, those of
/// them that are in use).
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// POSIX.1-2017, section 3.235.
pub(super) fn environment(text: &str) -> Result<&str, Invalid> {
    let what = "variable's name";
    characters(what, text, LONGEST_VARIABLE, |c| c.is_ascii_alphanumeric() || c == '_')?;
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Invalid(format!("a {what} starts with a letter or '_'")));
    }
    Ok(text)
}
