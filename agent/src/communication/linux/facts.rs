//! Ports, drivers and their holders, read from sysfs, `/dev` and `/proc`. Opens no device.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::communication::detect::{ConsoleDevice, DeviceRoots, Facts, PortFacts};
use crate::communication::error::Holder;

/// Where distributions and people put the QEMU guest agent and its unit.
const GUEST_AGENT_FILES: [&str; 8] = [
    "usr/sbin/qemu-ga",
    "usr/bin/qemu-ga",
    "usr/local/sbin/qemu-ga",
    "usr/local/bin/qemu-ga",
    "usr/libexec/qemu-ga",
    "etc/systemd/system/qemu-guest-agent.service",
    "usr/lib/systemd/system/qemu-guest-agent.service",
    "lib/systemd/system/qemu-guest-agent.service",
];

/// `VIRTIO_ID_CONSOLE` of the virtio specification, as sysfs prints it.
const CONSOLE_ID: &str = "0x0003";
const PCI_VENDOR: &str = "0x1af4";
/// The transitional and the modern console.
const PCI_CONSOLES: [&str; 2] = ["0x1003", "0x1043"];

/// What the machine has.
pub fn read_facts(roots: &DeviceRoots) -> Facts {
    Facts {
        driver_loaded: roots.sys.join("bus/virtio/drivers/virtio_console").is_dir(),
        consoles: consoles(&roots.sys),
        ports: ports(roots),
        guest_agent: installed_guest_agent(roots),
    }
}

/// What shows that the QEMU guest agent is installed.
pub fn installed_guest_agent(roots: &DeviceRoots) -> Option<PathBuf> {
    GUEST_AGENT_FILES.iter().map(|file| roots.root.join(file)).find(|file| file.exists())
}

/// Where the QEMU guest agent would appear.
pub fn guest_agent_folders(roots: &DeviceRoots) -> Vec<PathBuf> {
    let folders = GUEST_AGENT_FILES.iter().filter_map(|file| Some(roots.root.join(Path::new(file).parent()?)));
    let mut folders: Vec<_> = folders.collect();
    folders.dedup();
    folders
}

/// The names under which it would.
pub fn is_guest_agent_file(name: &OsStr) -> bool {
    GUEST_AGENT_FILES.iter().any(|file| Path::new(file).file_name() == Some(name))
}

/// The processes that have `device` open. Compares the links' text, which never touches the files that they name.
pub fn holders(roots: &DeviceRoots, device: &Path) -> Vec<Holder> {
    let device = fs::canonicalize(device).unwrap_or_else(|_| device.to_owned());
    let mut holders: Vec<_> = entries(&roots.proc)
        .into_iter()
        .filter_map(|process| process.file_name()?.to_str()?.parse().ok().map(|pid: u32| (pid, process)))
        .filter(|(_, process)| has_open(process, &device))
        .map(|(pid, process)| Holder { pid, name: attribute(&process.join("comm")).unwrap_or_default() })
        .collect();
    holders.sort_by_key(|holder| holder.pid);
    holders
}

fn has_open(process: &Path, device: &Path) -> bool {
    entries(&process.join("fd")).iter().any(|fd| fs::read_link(fd).is_ok_and(|target| target == device))
}

fn consoles(sys: &Path) -> Vec<ConsoleDevice> {
    let virtio = entries(&sys.join("bus/virtio/devices"));
    let on_virtio = virtio.into_iter().filter(|device| is(&device.join("device"), &[CONSOLE_ID]));
    // Once a driver has a PCI device, its console is on the virtio bus and was counted there.
    let pci = entries(&sys.join("bus/pci/devices"));
    let on_pci = pci.into_iter().filter(|device| {
        is(&device.join("vendor"), &[PCI_VENDOR])
            && is(&device.join("device"), &PCI_CONSOLES)
            && driver_of(device).is_none()
    });
    on_virtio
        .chain(on_pci)
        .map(|device| ConsoleDevice { device: text(device.file_name()), driver: driver_of(&device) })
        .collect()
}

fn is(file: &Path, wanted: &[&str]) -> bool {
    attribute(file).is_some_and(|value| wanted.contains(&value.as_str()))
}

fn driver_of(device: &Path) -> Option<String> {
    fs::read_link(device.join("driver")).ok().map(|driver| text(driver.file_name()))
}

/// Every port that sysfs knows, and every node in `/dev` besides.
fn ports(roots: &DeviceRoots) -> Vec<PortFacts> {
    let mut names: BTreeMap<(u32, u32), Option<String>> = BTreeMap::new();
    for entry in entries(&roots.dev) {
        names.extend(port_number(&text(entry.file_name())).map(|number| (number, None)));
    }
    for link in entries(&roots.dev.join("virtio-ports")) {
        let target = fs::read_link(&link).ok().and_then(|target| port_number(&text(target.file_name())));
        names.extend(target.map(|number| (number, Some(text(link.file_name())))));
    }
    for entry in entries(&roots.sys.join("class/virtio-ports")) {
        let Some(number) = port_number(&text(entry.file_name())) else { continue };
        let known = names.entry(number).or_default();
        *known = port_name(&entry).or_else(|| known.take());
    }
    let path = |(device, port)| roots.dev.join(format!("vport{device}p{port}"));
    names.into_iter().map(|(number, name)| port(roots, path(number), name)).collect()
}

/// One device by its path, its symbolic links followed.
pub fn inspect(roots: &DeviceRoots, path: &Path) -> PortFacts {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = sysfs_entry(roots, path).and_then(|entry| port_name(&entry));
    let holders = holders(roots, &real);
    PortFacts { path: path.to_owned(), holders, ..port(roots, real, name) }
}

/// Whether it is a virtio-serial port, named or not.
pub fn is_port(roots: &DeviceRoots, path: &Path) -> bool {
    sysfs_entry(roots, path).is_some()
}

/// What sysfs has of a device that is a virtio-serial port, its symbolic links followed where its own name is none.
fn sysfs_entry(roots: &DeviceRoots, path: &Path) -> Option<PathBuf> {
    let entry = |path: &Path| Some(roots.sys.join("class/virtio-ports").join(path.file_name()?));
    [Some(path.to_owned()), fs::canonicalize(path).ok()]
        .into_iter()
        .flatten()
        .filter_map(|path| entry(&path))
        .find(|entry| entry.exists())
}

fn port(roots: &DeviceRoots, path: PathBuf, name: Option<String>) -> PortFacts {
    let metadata = fs::metadata(&path).ok();
    PortFacts {
        exists: metadata.is_some(),
        mode: metadata.as_ref().map(|found| format!("{:04o}", found.mode() & 0o7777)),
        owner: metadata.as_ref().map(MetadataExt::uid),
        host_connected: host_connected(&roots.sys.join("kernel/debug/virtio-ports").join(text(path.file_name()))),
        holders: Vec::new(),
        path,
        name,
    }
}

/// The name that the hypervisor gave, which some kernels print as `(null)` where it gave none.
fn port_name(sysfs: &Path) -> Option<String> {
    attribute(&sysfs.join("name")).filter(|name| name != "(null)")
}

/// The driver's own view, one `key: value` a line.
fn host_connected(file: &Path) -> Option<bool> {
    let text = fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("host_connected:"))?;
    Some(value.trim() == "1")
}

/// The two numbers of `vport2p1`.
fn port_number(node: &str) -> Option<(u32, u32)> {
    let (device, port) = node.strip_prefix("vport")?.split_once('p')?;
    Some((device.parse().ok()?, port.parse().ok()?))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn attribute(file: &Path) -> Option<String> {
    let value = fs::read_to_string(file).ok()?.trim().to_owned();
    (!value.is_empty()).then_some(value)
}

fn text(name: Option<&OsStr>) -> String {
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
