//! File systems that are read-only and should not be.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use serde_json::json;

use super::Why;
use crate::collector::linux::{MountState, Roots, states, types_on_devices};
use crate::commands::health::{Finding, Status};

/// What fstab(5) wants of each mount point: whether it is to be read-only.
type Wanted = HashMap<PathBuf, bool>;

pub fn check(roots: &Roots) -> Result<Finding, Why> {
    let read = |path: PathBuf| fs::read(&path).map_err(|error| format!("{}: {error}", path.display()));
    let filesystems = read(roots.proc.join("filesystems"))?;
    let types = types_on_devices(&filesystems);
    let mounts = states(&read(roots.proc.join("self/mountinfo"))?, |name| types.contains(&name));
    let wanted = wanted(&fs::read_to_string(roots.etc.join("fstab")).unwrap_or_default());
    let found: Vec<(&MountState, Status)> = mounts
        .iter()
        .map(|mount| (mount, judge(mount, wanted.get(&mount.mount_point).copied())))
        .filter(|(_, status)| *status != Status::Healthy)
        .collect();
    let Some(worst) = found.iter().map(|(_, status)| *status).max() else {
        return Ok(Finding::new(Status::Healthy, "every file system that should be is writable"));
    };
    let names: Vec<String> = found.iter().map(|(mount, _)| mount.mount_point.display().to_string()).collect();
    let message = format!("read-only: {}; the kernel's log says whether the disk fails", names.join(", "));
    Ok(Finding::new(worst, message).with(json!({ "mount_points": names })))
}

/// The kernel remounts a whole file system (errors=remount-ro); an administrator's read-only bind mount leaves the rest of it writable.
/// Without a word in fstab it may be meant so, as in systems whose image is never written.
fn judge(mount: &MountState, wants_read_only: Option<bool>) -> Status {
    match (mount.filesystem_is_read_only, mount.mount_is_read_only, wants_read_only) {
        (_, _, Some(true)) | (false, false, _) | (false, true, None) => Status::Healthy,
        (true, _, Some(false)) => Status::Critical,
        (true, _, None) | (false, true, Some(false)) => Status::Warning,
    }
}

fn wanted(fstab: &str) -> Wanted {
    let line = |line: &str| {
        let mut fields = line.split_whitespace().filter(|_| !line.trim_start().starts_with('#'));
        let (_, mount_point, _) = (fields.next()?, fields.next()?, fields.next()?);
        let is_read_only = fields.next().unwrap_or_default().split(',').any(|option| option == "ro");
        // fstab(5) writes blanks as octal.
        Some((PathBuf::from(mount_point.replace("\\040", " ")), is_read_only))
    };
    fstab.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::test_machine::TestMachine;

    fn status(mount: &str, fstab: &str) -> (Status, String) {
        let machine = TestMachine::healthy(&[("/proc/self/mountinfo", mount), ("/etc/fstab", fstab)]);
        let finding = check(&machine.context().roots).unwrap();
        (finding.status, finding.message)
    }

    #[test]
    fn what_fstab_wants_decides() {
        let remounted = "1 0 8:1 / /data\\040a ro,relatime - ext4 /dev/sda1 ro,errors=remount-ro\n";
        let bound = "1 0 8:1 / /data\\040a ro,relatime - ext4 /dev/sda1 rw\n";
        let image = "1 0 7:1 / /snap/x ro - squashfs /dev/loop1 ro\n";
        let (rw, ro) = ("/dev/sda1 /data\\040a ext4 defaults 0 2\n", "/dev/sda1 /data\\040a ext4 defaults,ro 0 2\n");
        for (mount, fstab, expected) in [
            (remounted, rw, Status::Critical),
            (remounted, ro, Status::Healthy),
            (remounted, "# /dev/sda1 /data\\040a ext4 ro\n", Status::Warning),
            (bound, "", Status::Healthy),
            (bound, rw, Status::Warning),
            (image, "", Status::Healthy),
        ] {
            let (status, message) = status(mount, fstab);
            assert_eq!(status, expected, "{mount} {fstab}: {message}");
        }
    }
}
