//! Which file systems are really mounted: `/proc/self/mountinfo`.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use infini_protocol::Text;

use super::scan::{fields, lines, text};

/// File systems that need no block device and still hold data. All others of that kind (tmpfs, overlay, cgroup, autofs, nsfs, ...) are the
/// kernel's own or views of what is mounted elsewhere. Asking autofs would even mount something.
const WITHOUT_DEVICE: [&str; 21] = [
    "9p", "afs", "beegfs", "btrfs", "ceph", "cifs", "coda", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "orangefs",
    "prl_fs", "smb3", "smbfs", "ubifs", "vboxsf", "virtiofs", "vmhgfs", "zfs",
];

/// Those of them that ask another machine, which may be away.
const REMOTE: [&str; 13] =
    ["9p", "afs", "beegfs", "ceph", "cifs", "coda", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "orangefs", "smb3"];

/// Images that are written once and then are always full: snaps, live systems, CDs.
const IMAGES: [&str; 6] = ["squashfs", "erofs", "iso9660", "cramfs", "romfs", "udf"];

/// FUSE programs that show what is stored elsewhere, or nothing that is stored.
const FUSE_VIEWS: [&str; 9] = [
    "fuse.lxcfs",
    "fuse.portal",
    "fuse.gvfsd-fuse",
    "fuse.snapfuse",
    "fuse.squashfuse",
    "fuse.squashfuse_ll",
    "fuse.fuse-overlayfs",
    "fuse.archivemount",
    "fuse.vmware-vmblock",
];

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Its type.
    pub filesystem: Text,
    /// What is mounted: a device, `server:/export`.
    pub source: Text,
    /// Whether asking it may take as long as another machine likes.
    pub is_remote: bool,
}

/// A line of mountinfo, in the words of proc(5).
struct Line<'t> {
    id: u64,
    parent: u64,
    device: &'t [u8],
    root: &'t [u8],
    mount_point: PathBuf,
    options: &'t [u8],
    filesystem: &'t str,
    source: &'t [u8],
    super_options: &'t [u8],
}

/// A mounted file system and whether it can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountState {
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Its type.
    pub filesystem: String,
    /// This mount is read-only; another one of the same file system need not be.
    pub mount_is_read_only: bool,
    /// The file system itself is, as after an error of its device.
    pub filesystem_is_read_only: bool,
}

/// Every mount of a file system that holds data and can be reached.
pub fn states(mountinfo: &[u8], on_device: impl Fn(&str) -> bool) -> Vec<MountState> {
    let all: Vec<Line<'_>> = lines(mountinfo).filter_map(parse).collect();
    let mut tree = Tree::new(&all);
    let told = all.iter().filter(|line| holds_data(line.filesystem, &on_device) && tree.is_reachable(line));
    told.map(Line::state).collect()
}

/// Every mount point, whatever is mounted there.
pub fn mount_points(mountinfo: &[u8]) -> Vec<PathBuf> {
    lines(mountinfo).filter_map(parse).map(|line| line.mount_point).collect()
}

/// Every mount point with the type of what is mounted there; of several mounts at one place the last one counts.
pub fn mount_types(mountinfo: &[u8]) -> Vec<(PathBuf, String)> {
    let mut types: Vec<(PathBuf, String)> = Vec::new();
    for line in lines(mountinfo).filter_map(parse) {
        types.retain(|(mount_point, _)| *mount_point != line.mount_point);
        types.push((line.mount_point, line.filesystem.to_owned()));
    }
    types
}

/// The file systems that hold data and can be reached, each once however often it is mounted; local ones first, each kind in the order in
/// which the kernel lists them. `on_device` are the types of [`types_on_devices`].
pub fn select(mountinfo: &[u8], on_device: impl Fn(&str) -> bool) -> Vec<Mount> {
    let all: Vec<Line<'_>> = lines(mountinfo).filter_map(parse).collect();
    let mut tree = Tree::new(&all);
    let mut chosen: Vec<&Line<'_>> = Vec::new();
    for line in all.iter().filter(|line| holds_data(line.filesystem, &on_device)) {
        if !tree.is_reachable(line) {
            continue;
        }
        match chosen.iter_mut().find(|other| other.device == line.device) {
            Some(other) if precedence(line) < precedence(other) => *other = line,
            Some(_) => {}
            None => chosen.push(line),
        }
    }
    let mut mounts: Vec<Mount> = chosen.into_iter().map(Line::mount).collect();
    mounts.sort_by_key(|mount| mount.is_remote);
    mounts
}

/// The types that live on block devices: those that `/proc/filesystems` lists and does not mark as `nodev`. Types that only the kernel itself
/// mounts, such as nsfs, are not listed at all.
pub fn types_on_devices(filesystems: &[u8]) -> Vec<&str> {
    lines(filesystems).filter_map(|line| std::str::from_utf8(line.strip_prefix(b"\t")?).ok()).collect()
}

/// Of several mounts of one file system (bind mounts, subvolumes) the root directory goes first, then one that shows the whole file
/// system, then the shortest path.
fn precedence(line: &Line<'_>) -> (bool, bool, usize) {
    (line.mount_point != Path::new("/"), line.root != b"/", line.mount_point.as_os_str().len())
}

fn holds_data(filesystem: &str, on_device: impl Fn(&str) -> bool) -> bool {
    if filesystem.starts_with("fuse.") {
        return !FUSE_VIEWS.contains(&filesystem);
    }
    WITHOUT_DEVICE.contains(&filesystem) || on_device(filesystem) && !IMAGES.contains(&filesystem)
}

/// How mounts lie upon each other. A container host has thousands, so each is looked at once.
struct Tree<'a> {
    by_id: HashMap<u64, &'a Line<'a>>,
    /// The mount points of the mounts whose parent has the id.
    children: HashMap<u64, HashSet<&'a Path>>,
    /// Whether something is mounted over a directory above the mount, or above one that it lies in.
    bypassed: HashMap<u64, bool>,
}

impl<'a> Tree<'a> {
    fn new(all: &'a [Line<'a>]) -> Self {
        let mut children: HashMap<u64, HashSet<&Path>> = HashMap::new();
        for line in all {
            children.entry(line.parent).or_default().insert(&line.mount_point);
        }
        let by_id = all.iter().map(|line| (line.id, line)).collect();
        Self { by_id, children, bypassed: HashMap::new() }
    }

    /// Whether the mount point leads to this mount and not to one that was mounted over it or over a directory above it.
    fn is_reachable(&mut self, line: &'a Line<'a>) -> bool {
        let is_covered = self.has_child(line.id, &line.mount_point);
        !is_covered && !self.is_bypassed(line)
    }

    fn has_child(&self, parent: u64, mount_point: &Path) -> bool {
        self.children.get(&parent).is_some_and(|points| points.contains(mount_point))
    }

    /// Climbs from a mount to those that it lies in, as far as nothing is known of them yet.
    fn is_bypassed(&mut self, line: &'a Line<'a>) -> bool {
        let mut climbed = Vec::new();
        let mut next = Some(line);
        let mut is_bypassed = false;
        while let Some(line) = next {
            if let Some(known) = self.bypassed.get(&line.id) {
                is_bypassed = *known;
                break;
            }
            // For now: a list that is not as it should be may lead in a circle.
            self.bypassed.insert(line.id, false);
            climbed.push(line.id);
            if line.mount_point.ancestors().skip(1).any(|above| self.has_child(line.parent, above)) {
                is_bypassed = true;
                break;
            }
            next = self.by_id.get(&line.parent).copied();
        }
        for id in climbed {
            self.bypassed.insert(id, is_bypassed);
        }
        is_bypassed
    }
}

/// `36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw`, with any number of fields before the dash.
fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut fields = fields(line);
    let (id, parent) = (fields.decimal()?, fields.decimal()?);
    let (device, root) = (fields.next()?, fields.next()?);
    let mount_point = PathBuf::from(OsString::from_vec(unescape(fields.next()?)));
    let options = fields.next()?;
    fields.find(|field| *field == b"-")?;
    let filesystem = std::str::from_utf8(fields.next()?).ok()?;
    let source = fields.next().unwrap_or_default();
    let super_options = fields.next().unwrap_or_default();
    Some(Line { id, parent, device, root, mount_point, options, filesystem, source, super_options })
}

impl Line<'_> {
    fn state(&self) -> MountState {
        let has_ro = |options: &[u8]| options.split(|byte| *byte == b',').any(|option| option == b"ro");
        MountState {
            mount_point: self.mount_point.clone(),
            filesystem: self.filesystem.to_owned(),
            mount_is_read_only: has_ro(self.options),
            filesystem_is_read_only: has_ro(self.super_options),
        }
    }

    fn mount(&self) -> Mount {
        Mount {
            mount_point: self.mount_point.clone(),
            filesystem: self.filesystem.into(),
            source: text(&unescape(self.source)),
            is_remote: REMOTE.contains(&self.filesystem) || self.filesystem.starts_with("fuse."),
        }
    }
}

/// The kernel writes blanks, line ends, backslashes and hashes of a path as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match octal(rest) {
            Some(byte) => (byte, &rest[4..]),
            None => (*first, after),
        };
        plain.push(byte);
        rest = after;
    }
    plain
}

fn octal(escape: &[u8]) -> Option<u8> {
    let [b'\\', digits @ ..] = escape.get(..4)? else { return None };
    let value = digits.iter().try_fold(0_u32, |value, digit| Some(value * 8 + char::from(*digit).to_digit(8)?))?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount_points(mountinfo: &str) -> Vec<String> {
        let on_device =
            types_on_devices(b"nodev\tsysfs\nnodev\ttmpfs\nnodev\toverlay\nnodev\tnfs4\n\text4\n\txfs\n\tsquashfs\n");
        let mounts = select(mountinfo.as_bytes(), |name| on_device.contains(&name));
        mounts.iter().map(|mount| mount.mount_point.display().to_string()).collect()
    }

    #[test]
    fn a_file_system_is_listed_once() {
        let mountinfo = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
            2 1 8:2 /srv /b rw - xfs /dev/sda2 rw\n\
            3 1 8:2 / /data/long rw - xfs /dev/sda2 rw\n\
            4 1 8:1 /usr /u rw - ext4 /dev/sda1 rw\n\
            5 1 0:40 /@home /home rw - btrfs /dev/sdb rw\n\
            6 1 0:40 /@snap /.snapshots rw - btrfs /dev/sdb rw\n";
        assert_eq!(mount_points(mountinfo), ["/", "/data/long", "/home"]);
    }

    #[test]
    fn what_was_mounted_over_cannot_be_reached() {
        let mountinfo = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
            2 1 8:2 / /mnt rw - ext4 /dev/sda2 rw\n\
            3 1 8:3 / /srv/a/b rw - ext4 /dev/sda3 rw\n\
            4 3 8:4 / /srv/a/b/c rw - ext4 /dev/sda4 rw\n\
            5 2 0:9 / /mnt rw - tmpfs tmpfs rw\n\
            6 1 0:10 / /srv/a rw - tmpfs tmpfs rw\n\
            7 6 8:5 / /srv/a/b rw - ext4 /dev/sda5 rw\n";
        assert_eq!(mount_points(mountinfo), ["/", "/srv/a/b"]);
    }

    /// A container host: what took the square of the mounts for each of them would not end here.
    #[test]
    fn twenty_thousand_mounts_are_no_trouble() {
        let mut mountinfo = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n".to_owned();
        for id in 2..20_000 {
            // A chain of mounts in each other, and one of them is covered.
            let parent = if id % 2 == 0 { 1 } else { id - 2 };
            mountinfo.push_str(&format!("{id} {parent} 8:2 / /var/lib/pods/{id}/volume rw - ext4 /dev/sda2 rw\n"));
        }
        mountinfo.push_str("30000 1 0:9 / /var/lib/pods/2 rw - tmpfs tmpfs rw\n");
        assert_eq!(mount_points(&mountinfo), ["/", "/var/lib/pods/3/volume"]);
    }

    #[test]
    fn views_and_images_hold_no_data_of_their_own() {
        let mountinfo = "1 0 0:30 / / rw - overlay overlay rw\n\
            2 1 0:5 / /sys rw - sysfs sysfs rw\n\
            3 1 7:1 / /snap/core/1 ro - squashfs /dev/loop1 ro\n\
            4 1 0:50 / /run/user/1000/doc rw - fuse.portal portal rw\n\
            5 1 0:51 / /net rw shared:3 master:1 - nfs4 server:/export rw\n\
            6 1 0:52 / /remote rw - fuse.sshfs me@there: rw\n\
            7 1 8:1 / /disk rw - xfs /dev/sda1 rw\n\
            8 1 0:4 net:[4026532000] /run/netns/one rw - nsfs nsfs rw\n";
        assert_eq!(mount_points(mountinfo), ["/disk", "/net", "/remote"]);
    }

    #[test]
    fn escapes_become_the_bytes_they_stand_for() {
        assert_eq!(unescape(br"/mnt/my\040disk\134x\011"), b"/mnt/my disk\\x\t");
        assert_eq!(unescape(br"/a\04"), br"/a\04");
        assert_eq!(unescape(br"/a\999\777"), br"/a\999\777");
    }

    #[test]
    fn lines_of_another_shape_are_skipped() {
        assert_eq!(mount_points("nonsense\n\n1 0 8:1 / / rw ext4 /dev/sda1\n"), [""; 0]);
        let in_a_circle = "1 2 8:1 / /a rw - ext4 a rw\n2 1 8:2 / /b rw - ext4 b rw\n";
        assert_eq!(mount_points(in_a_circle), ["/a", "/b"]);
    }
}
