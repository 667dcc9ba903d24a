//! What this machine must have before a virtual machine can be booted on it.

use std::env;
use std::path::{Path, PathBuf};

/// A program and the Debian package that brings it.
const PROGRAMS: [(&str, &str); 8] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("debootstrap", "debootstrap"),
    ("mkfs.ext4", "e2fsprogs"),
    ("depmod", "kmod"),
    ("cpio", "cpio"),
    ("gzip", "gzip"),
    ("busybox", "busybox-static"),
    ("setpriv", "util-linux"),
];

/// The guest's kernel comes from this package of the host's.
const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";

/// What is missing, a sentence each, and at the end what to do; empty where nothing is.
pub fn missing() -> Vec<String> {
    let mut sentences = Vec::new();
    let mut packages = Vec::new();
    for (program, package) in PROGRAMS {
        if find(program).is_none() {
            sentences.push(format!("{program} is not installed"));
            packages.push(package);
        }
    }
    if crate::image::newest_kernel().is_none() {
        sentences
            .push("there is no kernel for the guest (/boot/vmlinuz-*-cloud-amd64 with its /lib/modules)".to_owned());
        packages.push(KERNEL_PACKAGE);
    }
    if !packages.is_empty() {
        sentences.push(format!("apt-get install --no-install-recommends {}", packages.join(" ")));
    }
    if !is_root() {
        sentences.push("only root can build the guest's file system: run this as root".to_owned());
    }
    sentences
}

/// A program on the path, or where programs of the administrator are even if the path does not say so.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    // The owner of /proc/self is the effective user of this process (proc(5)).
    Path::new("/proc/self").metadata().is_ok_and(|meta| meta.uid() == 0)
}
