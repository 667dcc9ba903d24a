//! What Linux says of a process.

use std::fs;
use std::path::Path;

use super::request::ProcessFacts;
use crate::commands::process_control;
use crate::commands::validation::Pid;

/// The agent's program, and so the kernel's name for its processes, those that watch over commands included.
const AGENT_PROGRAM: &str = "infiniservice";

/// What the process is; absent where there is none of that number, or its `stat` cannot be read.
#[must_use]
pub fn process_facts(proc: &Path, pid: Pid) -> Option<ProcessFacts> {
    let known = process_control::facts(proc, pid).ok().flatten()?;
    let program = program(&proc.join(pid.get().to_string()).join("exe"));
    let is_own = u32::try_from(pid.get()).is_ok_and(|pid| pid == std::process::id());
    Some(ProcessFacts {
        is_agent: is_own || known.name == AGENT_PROGRAM || program.as_deref() == Some(AGENT_PROGRAM),
        is_kernel_thread: known.is_kernel_thread,
        started: known.started,
        name: known.name,
        program,
    })
}

/// The file name of the program that a link of `/proc` points to. The kernel adds a word to it where the file was replaced since.
fn program(link: &Path) -> Option<String> {
    let target = fs::read_link(link).ok()?;
    let name = target.file_name()?.to_string_lossy().into_owned();
    Some(name.strip_suffix(" (deleted)").map_or(name.clone(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_program_too() {
        let folder = tempfile::tempdir().unwrap();
        let facts = |pid: i64, stat: &str, exe: Option<&str>| {
            let process = folder.path().join(pid.to_string());
            fs::create_dir(&process).unwrap();
            fs::write(process.join("stat"), stat).unwrap();
            if let Some(exe) = exe {
                std::os::unix::fs::symlink(exe, process.join("exe")).unwrap();
            }
            process_facts(folder.path(), Pid::try_from(pid).unwrap()).unwrap()
        };
        let rest = "S 1 7 7 0 -1 4194560 1 2";
        let journal =
            facts(70, &format!("70 (systemd-journal) {rest}"), Some("/usr/lib/systemd/systemd-journald (deleted)"));
        assert_eq!(journal.program.as_deref(), Some("systemd-journald"), "{journal:?}");
        assert!(!journal.is_agent && !journal.is_kernel_thread, "{journal:?}");

        let disguised = facts(71, &format!("71 (sh) {rest}"), Some("/usr/bin/infiniservice"));
        assert!(disguised.is_agent, "{disguised:?}");
        let unreadable = facts(72, &format!("72 (infiniservice) {rest}"), None);
        assert!(unreadable.is_agent && unreadable.program.is_none(), "{unreadable:?}");
        let kernel = facts(2, "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0", None);
        assert!(kernel.is_kernel_thread, "{kernel:?}");
        assert_eq!(process_facts(folder.path(), Pid::try_from(3).unwrap()), None);
    }
}
