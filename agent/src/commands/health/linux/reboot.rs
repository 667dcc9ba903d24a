//! Whether an update waits for a reboot.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::collector::linux::Roots;
use crate::commands::health::{Finding, Status};

pub fn pending(roots: &Roots) -> Finding {
    let asked = roots.file("/run/reboot-required").exists();
    let packages = fs::read_to_string(roots.file("/run/reboot-required.pkgs")).unwrap_or_default();
    let packages: Vec<&str> = packages.lines().filter(|line| !line.is_empty()).collect();
    let kernel = newer_kernel(roots);
    let mut reasons = Vec::new();
    if asked {
        reasons.push(if packages.is_empty() { "a package".to_owned() } else { packages.join(", ") });
    }
    reasons.extend(kernel.iter().map(|kernel| format!("the installed kernel {kernel}")));
    if reasons.is_empty() {
        return Finding::new(Status::Healthy, "nothing waits for a reboot");
    }
    let message = format!("waiting for a reboot: {}", reasons.join(", "));
    Finding::new(Status::Warning, message).with(json!({ "packages": packages, "kernel": kernel }))
}

/// A kernel that is installed and newer than the one that runs. Only kernels of the same kind count (`cloud-amd64`, `lts`): another
/// kind may be installed beside and never be meant to run.
#[must_use]
pub fn newer_kernel(roots: &Roots) -> Option<String> {
    let running = fs::read_to_string(roots.proc.join("sys/kernel/osrelease")).ok()?;
    let running = running.trim();
    let newer = installed_kernels(roots)
        .into_iter()
        .filter(|name| flavour(name) == flavour(running) && numbers(name) > numbers(running));
    newer.max_by_key(|name| numbers(name))
}

/// By their images in `/boot`, and by the modules of distributions that keep the image beside them.
fn installed_kernels(roots: &Roots) -> Vec<String> {
    let names = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    let images = names(&roots.file("/boot")).into_iter();
    let mut kernels: Vec<String> = images
        .filter_map(|name| Some(name.strip_prefix("vmlinuz-")?.to_owned()))
        .filter(|name| is_release(name))
        .collect();
    let modules = roots.file("/usr/lib/modules");
    kernels.extend(names(&modules).into_iter().filter(|name| modules.join(name).join("vmlinuz").exists()));
    kernels
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

    fn newer(running: &str, files: &[&str]) -> Option<String> {
        let machine = TestMachine::new(&[("/proc/sys/kernel/osrelease", running)]);
        let machine = files.iter().fold(machine, |machine, path| machine.file(path, ""));
        newer_kernel(&machine.context().roots)
    }

    #[test]
    fn a_newer_kernel_of_the_same_kind_waits_for_a_reboot() {
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
        ] {
            assert_eq!(newer(running, &files).as_deref(), expected, "{running} {files:?}");
        }
    }
}
