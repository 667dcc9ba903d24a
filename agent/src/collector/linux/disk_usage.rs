//! How full file systems are: mountinfo and statvfs.

use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use infini_protocol::metrics::{CollectError, DiskUsage};
use infini_protocol::{ErrorCode, Finite, Percent};

use super::file::KeptFile;
use super::mounts::{Mount, select, types_on_devices};
use super::probe::{Outstanding, Probe, ProbeFailure, Prober, Space};
use super::roots::Roots;
use super::scan::text;
use crate::collector::{CollectFailure, List, ListLimits};

/// How long a file system may take to answer. A local one takes microseconds, a healthy server milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reads how full file systems are.
pub struct DiskUsageReader {
    mountinfo: KeptFile,
    filesystems: KeptFile,
    prober: Prober,
}

impl DiskUsageReader {
    pub fn new(roots: &Roots, probe: Probe, outstanding: Outstanding) -> Self {
        Self {
            mountinfo: KeptFile::new(roots.proc.join("self/mountinfo")),
            filesystems: KeptFile::new(roots.proc.join("filesystems")),
            prober: Prober::new(probe, PATIENCE, outstanding),
        }
    }

    /// The file systems that hold data, each once. One that does not answer is an error beside the others.
    ///
    /// # Errors
    /// Where the list of mounts cannot be read.
    pub fn read(&mut self, buffer: &mut Vec<u8>) -> Result<List<DiskUsage>, CollectFailure> {
        // Modules add types, so this is as changeable as the mounts.
        let filesystems = self.filesystems.read(buffer);
        let filesystems = filesystems.map_err(|error| CollectFailure::io(self.filesystems.path(), error))?;
        let on_device: Vec<String> = types_on_devices(filesystems).into_iter().map(str::to_owned).collect();
        let mountinfo = self.mountinfo.read(buffer);
        let mountinfo = mountinfo.map_err(|error| CollectFailure::io(self.mountinfo.path(), error))?;
        let mut mounts = select(mountinfo, |filesystem| on_device.iter().any(|name| name == filesystem));
        let total = mounts.len();
        mounts.truncate(ListLimits::MOST);

        let answers = self.prober.ask_all(mounts.iter().map(|mount| mount.mount_point.as_path()));
        let mut list = List { entries: Vec::with_capacity(mounts.len()), total, errors: Vec::new() };
        for (mount, answer) in mounts.iter().zip(answers) {
            match answer {
                Ok(space) if space.total > 0 => list.entries.push(usage(mount, space)),
                // A file system without size says nothing about space.
                Ok(_) => list.total -= 1,
                Err(failure) => {
                    list.total -= 1;
                    list.errors.extend(error(mount, &failure));
                }
            }
        }
        Ok(list)
    }
}

fn usage(mount: &Mount, space: Space) -> DiskUsage {
    DiskUsage {
        mount_point: text(mount.mount_point.as_os_str().as_bytes()),
        total_gb: Finite::gib(space.total),
        used_gb: Finite::gib(space.total.saturating_sub(space.free)),
        available_gb: Finite::gib(space.available),
        filesystem: mount.filesystem.clone(),
        device: Some(mount.source.clone()).filter(|source| !source.is_empty() && **source != *"none"),
        inodes_used_percent: Percent::of(space.inodes.saturating_sub(space.inodes_free), space.inodes),
    }
}

fn error(mount: &Mount, failure: &ProbeFailure) -> Option<CollectError> {
    let (error_code, message) = match failure {
        ProbeFailure::Hangs(time) => {
            let message = format!("{} has not answered for {:.1} s", mount.source, time.as_secs_f64());
            (ErrorCode::CommandTimeout, message)
        }
        ProbeFailure::Refused(error) => match error.kind() {
            // It was unmounted in between.
            ErrorKind::NotFound => return None,
            // A user's FUSE mount is closed even to root; that is how it is meant.
            ErrorKind::PermissionDenied if mount.filesystem.starts_with("fuse.") => return None,
            ErrorKind::PermissionDenied => (ErrorCode::PermissionDenied, error.to_string()),
            _ => (ErrorCode::CommandFailed, error.to_string()),
        },
    };
    let component = format!("disk.usage:{}", mount.mount_point.display());
    Some(CollectError { component: component.into(), error_code, message })
}
