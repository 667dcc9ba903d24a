//! The part of the tree of control groups that belongs to the agent.
//!
//! Only what systemd has delegated is touched: in another's group a root process could write too, and would break it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::group::Group;

/// The agent's own group below the delegated one, because a group with controllers for others may hold no process itself.
const OWN: &str = "agent";

/// What the name of a command's group starts with.
const COMMAND: &str = "cmd-";

/// What the limits need.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];

/// What a command may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupLimits {
    /// Memory, in bytes.
    pub(super) memory: u64,
    /// Processes and threads.
    pub(super) tasks: u32,
}

/// Why commands get no control groups.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoGroups {
    #[error("control groups of version 2 are not in use")]
    NotThere,
    #[error("{} is not delegated to the agent; the unit needs Delegate=yes", .0.display())]
    NotDelegated(PathBuf),
    #[error("the {0} controller is not delegated")]
    NoController(&'static str),
    #[error("no process can be started in a control group: {0}")]
    NoStart(#[source] io::Error),
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Makes a group for each command.
#[derive(Debug)]
pub(super) struct Groups {
    base: PathBuf,
    limits: Option<GroupLimits>,
    next: AtomicU64,
}

impl Groups {
    /// Takes over what systemd has delegated: moves this process into a group of its own, and lets the others have limits.
    ///
    /// # Errors
    /// Where nothing is delegated, or not what the limits need.
    pub(super) fn take_over(proc: &Path, limits: GroupLimits) -> Result<Self, NoGroups> {
        let base = delegated(&own_group(proc)?, is_delegated)?;
        let controllers = read(&base.join("cgroup.controllers"))?;
        let has = |name: &str| controllers.split_whitespace().any(|controller| controller == name);
        if let Some(missing) = CONTROLLERS.into_iter().find(|name| !has(name)) {
            return Err(NoGroups::NoController(missing));
        }
        enter(&base.join(OWN))?;
        CONTROLLERS.into_iter().try_for_each(|controller| enable(&base, controller))?;
        if let Err(error) = enable(&base, "cpu") {
            tracing::debug!(%error, "commands share the processor with the agent as any two processes do");
        }
        let groups = Self::in_folder(base, limits);
        groups.clear();
        Ok(groups)
    }

    /// Makes groups below this one, which holds no process and which nobody else uses. They are limited where it lets them be.
    pub(super) fn in_folder(base: PathBuf, limits: GroupLimits) -> Self {
        let enabled = fs::read_to_string(base.join("cgroup.subtree_control")).unwrap_or_default();
        let can_limit = CONTROLLERS.iter().all(|name| enabled.split_whitespace().any(|enabled| enabled == *name));
        Self { base, limits: can_limit.then_some(limits), next: AtomicU64::new(1) }
    }

    /// A group for the next command.
    ///
    /// # Errors
    /// Where it cannot be made. Needs a running Tokio runtime.
    pub(super) fn create(&self) -> io::Result<Group> {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            match Group::create(self.base.join(format!("{COMMAND}{number}")), self.limits) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => return other,
            }
        }
    }

    /// Ends what an agent before this one has left behind.
    fn clear(&self) {
        for entry in fs::read_dir(&self.base).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(COMMAND) {
                // Where it is not empty yet it stays; its name is not used again.
                let _ = fs::write(entry.path().join("cgroup.kill"), "1");
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

/// Where this process's group is in the file system.
fn own_group(proc: &Path) -> Result<PathBuf, NoGroups> {
    let mounts = read(&proc.join("self/mountinfo"))?;
    let groups = read(&proc.join("self/cgroup"))?;
    own_group_of(&mounts, &groups).ok_or(NoGroups::NotThere)
}

/// From proc_pid_mountinfo(5) and cgroups(7): the mount, and the path that this process has below the mount's root.
fn own_group_of(mounts: &str, groups: &str) -> Option<PathBuf> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        if after.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = before.split(' ').skip(3);
        let (root, mount) = (fields.next()?, fields.next()?);
        let below = Path::new(own).strip_prefix(root).ok()?;
        Some(Path::new(mount).join(below))
    })
}

/// The delegated group: this one, or the one above where systemd (`DelegateSubgroup=`) or an agent before this one in the same process
/// has already moved the process down.
fn delegated(own: &Path, is_delegated: impl Fn(&Path) -> bool) -> Result<PathBuf, NoGroups> {
    if is_delegated(own) {
        return Ok(own.to_owned());
    }
    match own.parent() {
        Some(above) if own.ends_with(OWN) && is_delegated(above) => Ok(above.to_owned()),
        _ => Err(NoGroups::NotDelegated(own.to_owned())),
    }
}

/// systemd marks what it delegates: since 236 in the attribute that root alone can see, since 251 in the other.
fn is_delegated(group: &Path) -> bool {
    ["trusted.delegate", "user.delegate"].iter().any(|name| {
        let mut value = [0_u8; 8];
        rustix::fs::getxattr(group, *name, &mut value).is_ok_and(|length| value[..length] == *b"1")
    })
}

fn enter(group: &Path) -> Result<(), NoGroups> {
    match fs::create_dir(group) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            return Err(NoGroups::Io { path: group.to_owned(), source });
        }
        _ => {}
    }
    write(&group.join("cgroup.procs"), "0")
}

fn enable(base: &Path, controller: &str) -> Result<(), NoGroups> {
    write(&base.join("cgroup.subtree_control"), &format!("+{controller}"))
}

fn read(path: &Path) -> Result<String, NoGroups> {
    fs::read_to_string(path).map_err(|source| NoGroups::Io { path: path.to_owned(), source })
}

fn write(path: &Path, text: &str) -> Result<(), NoGroups> {
    fs::write(path, text).map_err(|source| NoGroups::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str =
        "22 1 0:20 / /proc rw - proc proc rw\n29 22 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n";

    #[test]
    fn a_process_finds_its_group() {
        let own = own_group_of(UNIFIED, "0::/system.slice/infiniservice.service\n");
        assert_eq!(own, Some("/sys/fs/cgroup/system.slice/infiniservice.service".into()));
        let old = "30 29 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        assert_eq!(own_group_of(old, "4:memory:/x\n0::/x\n"), None);
        let container = "29 22 0:26 /lxc/a /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(own_group_of(container, "0::/lxc/a/b\n"), Some("/sys/fs/cgroup/b".into()));
        assert_eq!(own_group_of(container, "0::/lxc/other\n"), None);
    }

    #[test]
    fn only_what_is_delegated_is_taken() {
        let unit = Path::new("/g/infiniservice.service");
        let marked = |group: &Path| group == unit;
        assert_eq!(delegated(unit, marked).unwrap(), unit);
        assert_eq!(delegated(&unit.join("agent"), marked).unwrap(), unit);
        for other in ["/g/infiniservice.service/other", "/g", "/"] {
            let error = delegated(Path::new(other), marked).unwrap_err().to_string();
            assert!(error.contains("Delegate=yes"), "{error}");
        }
    }

    #[test]
    fn a_test_is_no_service_and_gets_none() {
        let result = Groups::take_over(Path::new("/proc"), GroupLimits { memory: 1 << 30, tasks: 512 });
        assert!(matches!(result, Err(NoGroups::NotThere | NoGroups::NotDelegated(_))), "{result:?}");
    }
}
