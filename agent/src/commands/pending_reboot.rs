//! Whether the machine must boot anew for its updates to count: a package's mark, or a kernel that is installed and does not run.
//! `OsInfo`, the health check `pending_reboot` and the actions on packages all ask here, so that they say the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::collector::linux::Roots;

/// The mark that packages of Debian and Ubuntu leave, and the list of those that left it.
const MARK: &str = "/run/reboot-required";
const MARKED_BY: &str = "/run/reboot-required.pkgs";

/// Where the modules of kernels are. On most systems both are one folder.
const MODULES: [&str; 2] = ["/usr/lib/modules", "/lib/modules"];

/// What a reboot would bring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PendingReboot {
    /// A package asks for it.
    pub is_asked_for: bool,
    /// Which packages, where that is known.
    pub packages: Vec<String>,
    /// The kernel that would run then.
    pub kernel: Option<String>,
}

impl PendingReboot {
    /// What waits on this machine.
    #[must_use]
    pub fn find(roots: &Roots) -> Self {
        let packages = fs::read_to_string(roots.file(MARKED_BY)).unwrap_or_default();
        Self {
            is_asked_for: is_asked_for(roots),
            packages: packages.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect(),
            kernel: waiting_kernel(roots),
        }
    }

    /// Whether anything waits.
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        self.is_asked_for || self.kernel.is_some()
    }
}

/// Whether a package asks for a reboot.
#[must_use]
pub fn is_asked_for(roots: &Roots) -> bool {
    roots.file(MARK).exists()
}

/// The newest installed kernel of the running one's kind (`cloud-amd64`, `lts`), where that is newer than the running one, or the
/// running one is not installed any more. Another kind may be installed beside and never be meant to run; a container, and a machine
/// whose kernel comes from outside, has none.
#[must_use]
pub fn waiting_kernel(roots: &Roots) -> Option<String> {
    let running = fs::read_to_string(roots.proc.join("sys/kernel/osrelease")).ok()?;
    let running = running.trim();
    let installed = installed_kernels(roots);
    let of_its_kind = installed.iter().filter(|name| flavour(name) == flavour(running));
    let newest = of_its_kind.max_by_key(|name| numbers(name))?;
    let waits = numbers(newest) > numbers(running) || !installed.contains(running);
    waits.then(|| newest.clone())
}

/// By their images in `/boot`, and by the modules of distributions whose images have no release in their names.
fn installed_kernels(roots: &Roots) -> BTreeSet<String> {
    let images = names(&roots.file("/boot")).filter_map(|name| Some(name.strip_prefix("vmlinuz-")?.to_owned()));
    let modules = MODULES.iter().flat_map(|folder| {
        let folder = roots.file(folder);
        names(&folder).filter(move |name| is_whole(&folder.join(name)))
    });
    images.filter(|name| is_release(name)).chain(modules).collect()
}

fn names(folder: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// What a removed kernel leaves behind has neither an image nor depmod's index.
fn is_whole(modules: &Path) -> bool {
    ["vmlinuz", "modules.dep"].iter().any(|file| modules.join(file).exists())
}

/// Arch calls its image `vmlinuz-linux`, Fedora has `vmlinuz-0-rescue-…`: names, not releases.
fn is_release(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_digit()) && name.contains('.') && !name.contains("rescue")
}

/// The parts that are words, without the digits after them: `cloud amd` of `6.1.0-28-cloud-amd64`, `fc x` of `6.5.6-300.fc39.x86_64`.
fn flavour(release: &str) -> Vec<&str> {
    let words = release.split(['-', '.']).filter(|part| part.starts_with(|c: char| c.is_ascii_alphabetic()));
    words.map(|word| word.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default()).collect()
}

fn numbers(release: &str) -> Vec<u64> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::test_machine::TestMachine;

    fn machine(running: &str, files: &[&str]) -> TestMachine {
        let machine = TestMachine::new(&[("/proc/sys/kernel/osrelease", running)]);
        files.iter().fold(machine, |machine, path| machine.file(path, ""))
    }

    #[test]
    fn a_kernel_of_the_same_kind_that_does_not_run_waits() {
        for (running, files, expected) in [
            (
                "6.1.0-9-amd64\n",
                vec!["/boot/vmlinuz-6.1.0-9-amd64", "/boot/vmlinuz-6.1.0-28-amd64"],
                Some("6.1.0-28-amd64"),
            ),
            ("6.1.0-28-amd64\n", vec!["/boot/vmlinuz-6.1.0-9-amd64", "/boot/vmlinuz-6.1.0-28-amd64"], None),
            ("6.1.0-9-cloud-amd64\n", vec!["/boot/vmlinuz-6.1.0-28-amd64"], None),
            (
                "6.5.6-300.fc39.x86_64\n",
                vec!["/usr/lib/modules/6.6.2-101.fc39.x86_64/vmlinuz", "/boot/vmlinuz-0-rescue-9.9f"],
                Some("6.6.2-101.fc39.x86_64"),
            ),
            ("6.6.1-arch1-1\n", vec!["/usr/lib/modules/6.6.8-1-lts/vmlinuz", "/boot/vmlinuz-linux"], None),
            ("6.6.1-arch1-1\n", vec!["/usr/lib/modules/6.6.3-arch1-1/vmlinuz"], Some("6.6.3-arch1-1")),
            ("6.6.1-arch1-1\n", vec!["/usr/lib/modules/6.7.3-arch1-1/left-over"], None),
            ("6.6.9-0-lts\n", vec!["/lib/modules/6.6.9-0-lts/modules.dep", "/boot/vmlinuz-lts"], None),
            ("6.6.9-0-lts\n", vec!["/lib/modules/6.6.10-0-lts/modules.dep"], Some("6.6.10-0-lts")),
            ("6.6.9-0-lts\n", vec!["/lib/modules/6.6.8-0-lts/modules.dep"], Some("6.6.8-0-lts")),
            ("6.6.9-0-lts\n", vec!["/lib/modules/6.8.1-0-virt/modules.dep"], None),
            ("6.6.9-0-lts\n", vec![], None),
            ("", vec!["/lib/modules/6.6.9-0-lts/modules.dep"], None),
        ] {
            let machine = machine(running, &files);
            let found = PendingReboot::find(&machine.context().roots);
            assert_eq!(found.kernel.as_deref(), expected, "{running} {files:?}");
            assert_eq!(found.is_pending(), expected.is_some(), "{running} {files:?}");
        }
    }

    #[test]
    fn a_package_asks_by_a_file() {
        let machine = machine("6.1.0-9-amd64\n", &["/run/reboot-required"]);
        let unnamed = PendingReboot { is_asked_for: true, ..PendingReboot::default() };
        assert_eq!(PendingReboot::find(&machine.context().roots), unnamed);
        let machine = machine.file("/run/reboot-required.pkgs", "dbus\n\nlibc6\n");
        let packages = ["dbus", "libc6"].map(str::to_owned).to_vec();
        assert_eq!(PendingReboot::find(&machine.context().roots), PendingReboot { packages, ..unnamed });
    }
}
