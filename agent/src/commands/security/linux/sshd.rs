//! sshd_config(5), as far as it holds for everybody: of each keyword the first value counts, and what stands below a `Match` is for some
//! only.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::Ssh;
use crate::collector::linux::Roots;

/// The administrator's file, and the vendor's where there is none (SUSE).
const FILES: [&str; 2] = ["/etc/ssh/sshd_config", "/usr/etc/ssh/sshd_config"];

/// sshd's own bound for includes in includes.
const DEEPEST: usize = 16;

/// The values that were found.
#[derive(Default)]
struct Found {
    password: Option<String>,
    root: Option<String>,
}

/// What the server's configuration says, with sshd's defaults for what it leaves out.
pub fn read(roots: &Roots) -> Ssh {
    let Some(text) = FILES.iter().find_map(|path| fs::read_to_string(roots.file(path)).ok()) else {
        return Ssh::default();
    };
    let mut found = Found::default();
    found.take(roots, &text, 0);
    let root = found.root.unwrap_or_else(|| "prohibit-password".to_owned());
    Ssh {
        password_authentication: Some(found.password.is_none_or(|word| word == "yes")),
        // The older name of the same.
        root_login: Some(if root == "without-password" { "prohibit-password".to_owned() } else { root }),
    }
}

impl Found {
    fn take(&mut self, roots: &Roots, text: &str, depth: usize) {
        for (keyword, value) in text.lines().filter_map(assignment) {
            match &*keyword {
                // It holds to the end of the file it stands in.
                "match" => return,
                "include" if depth < DEEPEST => {
                    for path in value.split_whitespace().flat_map(|pattern| expand(roots, pattern)) {
                        self.take(roots, &fs::read_to_string(path).unwrap_or_default(), depth + 1);
                    }
                }
                "passwordauthentication" => keep_first(&mut self.password, value),
                "permitrootlogin" => keep_first(&mut self.root, value),
                _ => {}
            }
        }
    }
}

fn keep_first(kept: &mut Option<String>, value: &str) {
    kept.get_or_insert_with(|| value.split_whitespace().next().unwrap_or_default().to_ascii_lowercase());
}

/// `Keyword value`, `Keyword=value`, `keyword "value"`.
fn assignment(line: &str) -> Option<(String, &str)> {
    let line = line.split('#').next()?.trim();
    let (keyword, value) = line.split_once(|c: char| c.is_whitespace() || c == '=')?;
    let value = value.trim_start_matches(|c: char| c.is_whitespace() || c == '=').trim().trim_matches('"');
    Some((keyword.to_ascii_lowercase(), value))
}

/// The files of a pattern in their order; a relative one is below `/etc/ssh`. Stars are known in the file's name only, which is where
/// distributions have them.
fn expand(roots: &Roots, pattern: &str) -> Vec<PathBuf> {
    let pattern = Path::new("/etc/ssh").join(pattern);
    let name = pattern.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some((head, tail)) = name.split_once('*') else { return vec![roots.file(&pattern)] };
    let folder = roots.file(pattern.parent().unwrap_or(Path::new("/")));
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.len() >= head.len() + tail.len()
            && name.starts_with(head)
            && name.ends_with(tail)
            && !name.starts_with('.')
    });
    files.sort_unstable();
    files
}
