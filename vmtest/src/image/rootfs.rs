//! The root file system and the initramfs that finds it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use super::{Kernel, mirror, sh};
use crate::tools;

/// The Debian release in the guest. The test's own binary runs there too, so it must not be older than the host's.
pub const SUITE: &str = "bookworm";

/// What the guest has beyond the essential packages. qemu-guest-agent runs only where its own port is, which one check plugs in.
pub const PACKAGES: [&str; 9] =
    ["systemd", "systemd-sysv", "udev", "dbus", "procps", "iproute2", "kmod", "qemu-guest-agent", "socat"];

/// Sparse: an image takes as much room as its files.
pub const IMAGE_SIZE: &str = "1500M";

/// What the kernel needs to see its disk, in the order of their dependencies. udev loads the rest from the disk.
pub const BOOT_MODULES: [&str; 6] =
    ["virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk"];

/// The first program in the guest. The disk is there once virtio_blk is loaded, but its node may take a moment.
pub const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /modules/order); do
    /bin/busybox insmod "/modules/$module.ko" || echo "cannot load $module"
done
tries=0
until [ -b /dev/vda ] || [ "$tries" -ge 100 ]; do
    /bin/busybox sleep 0.1
    tries=$((tries + 1))
done
/bin/busybox mount -t ext4 -o rw /dev/vda /root || echo "cannot mount the root file system"
exec /bin/busybox switch_root /root /sbin/init
"#;

/// Files that make a Debian tree the test's machine.
pub const FILES: [(&str, &str); 5] = [
    ("etc/hostname", "vmtest-guest\n"),
    ("etc/hosts", "127.0.0.1 localhost vmtest-guest\n"),
    // The second disk carries what changes with every build: this test's program, the agent and its install script.
    ("etc/fstab", "/dev/vda / ext4 defaults 0 0\n/dev/vdb /opt/vmtest ext4 ro 0 0\n"),
    (
        "etc/systemd/system/vmtest.service",
        "[Unit]\n\
         Description=Control channel of the virtual machine test\n\
         RequiresMountsFor=/opt/vmtest\n\
         [Service]\n\
         ExecStart=/opt/vmtest/vmtest guest serve\n\
         Restart=always\n\
         RestartSec=1\n\
         [Install]\n\
         WantedBy=multi-user.target\n",
    ),
    // Emulated on a busy machine a boot may take minutes, which is no reason for the emergency shell. And a unit that hangs at shutdown
    // must not cost the reboot check a minute and a half.
    ("etc/systemd/system.conf.d/vmtest.conf", "[Manager]\nDefaultTimeoutStartSec=10min\nDefaultTimeoutStopSec=10s\n"),
];

/// Units that only cost time here: nobody logs in, nothing ages, and the test gives the network card its address itself.
pub const MASKED: [&str; 11] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
    "systemd-logind.service",
    "systemd-networkd.service",
    "systemd-timesyncd.service",
];

/// Builds `root.img` and `initramfs.gz` in `folder`, keeping downloaded packages in `packages`.
pub fn build(folder: &Path, packages: &Path, kernel: &Kernel) -> anyhow::Result<()> {
    let tree = folder.join("rootfs");
    bootstrap(&tree, packages)?;
    customise(&tree)?;
    install_modules(&tree, kernel)?;
    make_disk(&tree, &folder.join("root.img"))?;
    fs::remove_dir_all(&tree)?;
    initramfs(folder, kernel)
}

fn bootstrap(tree: &Path, packages: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(packages)?;
    let mut debootstrap = Command::new(tools::find("debootstrap").context("debootstrap is not installed")?);
    debootstrap.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    debootstrap.arg("--variant=minbase").arg(format!("--include={}", PACKAGES.join(",")));
    debootstrap.arg(format!("--cache-dir={}", packages.canonicalize()?.display()));
    debootstrap.arg(SUITE).arg(tree).args(mirror::of_this_machine(SUITE));
    sh(&mut debootstrap)
}

fn customise(tree: &Path) -> anyhow::Result<()> {
    for (path, text) in FILES {
        let file = tree.join(path);
        fs::create_dir_all(file.parent().unwrap_or(tree))?;
        fs::write(&file, text).with_context(|| format!("{}", file.display()))?;
    }
    fs::create_dir_all(tree.join("opt/vmtest"))?;
    let system = tree.join("etc/systemd/system");
    let wants = system.join("multi-user.target.wants");
    fs::create_dir_all(&wants)?;
    symlink("/etc/systemd/system/vmtest.service", wants.join("vmtest.service"))?;
    for unit in MASKED {
        symlink("/dev/null", system.join(unit))?;
    }
    // The kernel's and the test's logs tell enough; package archives are only weight.
    fs::remove_dir_all(tree.join("var/cache/apt"))?;
    fs::create_dir_all(tree.join("var/cache/apt/archives/partial"))?;
    Ok(())
}

fn install_modules(tree: &Path, kernel: &Kernel) -> anyhow::Result<()> {
    let target = tree.join("lib/modules");
    fs::create_dir_all(&target)?;
    sh(Command::new("cp").arg("-a").arg(&kernel.modules).arg(&target))?;
    let depmod = tools::find("depmod").context("depmod is not installed")?;
    sh(Command::new(depmod).arg("-b").arg(tree).arg(&kernel.version))
}

/// Makes a file system image out of a tree; needs no loop device.
pub fn make_disk(tree: &Path, image: &Path) -> anyhow::Result<()> {
    sh(Command::new("truncate").args(["-s", IMAGE_SIZE]).arg(image))?;
    let mkfs = tools::find("mkfs.ext4").context("mkfs.ext4 is not installed")?;
    sh(Command::new(mkfs).args(["-q", "-F", "-d"]).arg(tree).arg(image))
}

fn initramfs(folder: &Path, kernel: &Kernel) -> anyhow::Result<()> {
    let tree = folder.join("initramfs");
    for directory in ["bin", "dev", "modules", "root"] {
        fs::create_dir_all(tree.join(directory))?;
    }
    let busybox = tools::find("busybox").context("busybox is not installed")?;
    fs::copy(busybox, tree.join("bin/busybox"))?;
    fs::write(tree.join("init"), INIT)?;
    fs::set_permissions(tree.join("init"), fs::Permissions::from_mode(0o755))?;
    for module in BOOT_MODULES {
        let file = find_module(&kernel.modules.join("kernel/drivers"), &format!("{module}.ko"))
            .with_context(|| format!("the kernel {} has no module {module}", kernel.version))?;
        fs::copy(file, tree.join(format!("modules/{module}.ko")))?;
    }
    fs::write(tree.join("modules/order"), BOOT_MODULES.join("\n"))?;
    sh(Command::new("sh")
        .arg("-c")
        .arg("set -e; find . | cpio -o -H newc | gzip -1 >../initramfs.gz")
        .current_dir(&tree))?;
    fs::remove_dir_all(&tree)?;
    Ok(())
}

fn find_module(folder: &Path, name: &str) -> Option<std::path::PathBuf> {
    let entries: Vec<_> = fs::read_dir(folder).ok()?.flatten().collect();
    entries.iter().find(|entry| entry.file_name() == name).map(fs::DirEntry::path).or_else(|| {
        entries.iter().filter(|entry| entry.path().is_dir()).find_map(|entry| find_module(&entry.path(), name))
    })
}
