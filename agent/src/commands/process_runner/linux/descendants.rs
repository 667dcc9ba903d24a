//! Who descends from a process.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal};

use super::signals::signal_if;

/// A process as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descendant {
    pub(super) pid: Pid,
    parent: i32,
    /// In ticks since boot: who has the number later began later.
    started: u64,
}

impl Descendant {
    fn read(proc: &Path, pid: Pid) -> Option<Self> {
        Self::parse(pid, &fs::read(proc.join(pid.to_string()).join("stat")).ok()?)
    }

    /// From proc_pid_stat(5): fields 4 and 22. The second, the name, may hold anything, so they are counted from the last bracket on.
    fn parse(pid: Pid, stat: &[u8]) -> Option<Self> {
        let bracket = stat.iter().rposition(|&byte| byte == b')')?;
        let rest = std::str::from_utf8(&stat[bracket + 1..]).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        Some(Self { pid, parent, started: fields.nth(17)?.parse().ok()? })
    }

    /// Signals it, and nobody else who has its number by now.
    pub(super) fn signal(&self, proc: &Path, signal: Signal) {
        let is_same = || Self::read(proc, self.pid).is_some_and(|now| now.started == self.started);
        signal_if(self.pid, signal, is_same);
    }
}

/// All processes that are below this one now. Read from every process's own file: that of the children alone is not in every kernel.
pub(super) fn descendants(proc: &Path, ancestor: Pid) -> Vec<Descendant> {
    let mut children: BTreeMap<i32, Vec<Descendant>> = BTreeMap::new();
    for entry in fs::read_dir(proc).into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| Pid::from_raw(name.parse().ok()?)) else { continue };
        // It may have ended meanwhile.
        if let Some(found) = Descendant::read(proc, pid) {
            children.entry(found.parent).or_default().push(found);
        }
    }
    let mut found = children.remove(&ancestor.as_raw_nonzero().get()).unwrap_or_default();
    let mut next = 0;
    while let Some(process) = found.get(next) {
        found.extend(children.remove(&process.pid.as_raw_nonzero().get()).unwrap_or_default());
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proc(processes: &[(i32, i32, &str)]) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        for &(pid, parent, name) in processes {
            let folder = proc.path().join(pid.to_string());
            fs::create_dir(&folder).unwrap();
            let stat = format!("{pid} ({name}) S {parent} 1 1 0 -1 0 1 2 0 0 4 1 0 0 20 0 1 0 987 8192 3\n");
            fs::write(folder.join("stat"), stat).unwrap();
        }
        proc
    }

    #[test]
    fn the_whole_tree_is_found_whatever_the_names() {
        let proc = proc(&[(1, 0, "init"), (5, 1, "a) S 1 ("), (6, 5, "b"), (9, 6, "c"), (7, 1, "d"), (8, 5, "e")]);
        fs::create_dir(proc.path().join("12")).unwrap();
        let found = descendants(proc.path(), Pid::from_raw(5).unwrap());
        let mut pids: Vec<i32> = found.iter().map(|process| process.pid.as_raw_nonzero().get()).collect();
        pids.sort_unstable();
        assert_eq!(pids, [6, 8, 9], "{found:?}");
        assert!(found.iter().all(|process| process.started == 987), "{found:?}");
    }

    #[test]
    fn who_has_a_descendants_number_later_is_left_alone() {
        for (later, expected) in [(987, 15), (988, 9)] {
            let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
            let pid = i32::try_from(child.id()).unwrap();
            let proc = proc(&[(pid, 5, "sleep")]);
            let found = descendants(proc.path(), Pid::from_raw(5).unwrap());
            let file = proc.path().join(pid.to_string()).join("stat");
            let stat = fs::read_to_string(&file).unwrap().replace("987", &later.to_string());
            fs::write(&file, stat).unwrap();
            found[0].signal(proc.path(), Signal::TERM);
            child.kill().unwrap();
            let ended = std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap());
            assert_eq!(ended, Some(expected), "{later}: {found:?}");
        }
    }
}
