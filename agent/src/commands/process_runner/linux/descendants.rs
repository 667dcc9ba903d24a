//! Who descends from a process.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rustix::process::Pid;

/// All processes that are below this one now. Read from every process's own file: that of the children alone is not in every kernel.
pub(super) fn descendants(proc: &Path, ancestor: Pid) -> Vec<Pid> {
    let mut children: BTreeMap<i32, Vec<Pid>> = BTreeMap::new();
    for entry in fs::read_dir(proc).into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| Pid::from_raw(name.parse().ok()?)) else { continue };
        // It may have ended meanwhile.
        let Ok(stat) = fs::read(entry.path().join("stat")) else { continue };
        if let Some(parent) = parent(&stat) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = children.remove(&ancestor.as_raw_nonzero().get()).unwrap_or_default();
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children.remove(&pid.as_raw_nonzero().get()).unwrap_or_default());
        next += 1;
    }
    found
}

/// The fourth field of proc_pid_stat(5). The second, the name, may hold anything, so it is counted from the last bracket on.
fn parent(stat: &[u8]) -> Option<i32> {
    let bracket = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(&stat[bracket + 1..]).ok()?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_tree_is_found_whatever_the_names() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, parent, name) in
            [(1, 0, "init"), (5, 1, "a) S 1 ("), (6, 5, "b"), (9, 6, "c"), (7, 1, "d"), (8, 5, "e")]
        {
            let folder = proc.path().join(pid.to_string());
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("stat"), format!("{pid} ({name}) S {parent} 0 0\n")).unwrap();
        }
        fs::create_dir(proc.path().join("12")).unwrap();
        let mut found: Vec<i32> = descendants(proc.path(), Pid::from_raw(5).unwrap())
            .into_iter()
            .map(|pid| pid.as_raw_nonzero().get())
            .collect();
        found.sort_unstable();
        assert_eq!(found, [6, 8, 9]);
    }
}
