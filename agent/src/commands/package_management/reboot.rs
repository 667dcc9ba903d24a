//! Whether the machine must boot anew for its updates to count.

use std::fs;
use std::path::Path;

use super::find::root;
use super::manager::PackageManager;
use crate::commands::action::Context;

/// The mark of Debian's packages, the manager's own word, or a kernel that is newer than the running one.
pub async fn required(manager: &dyn PackageManager, context: &Context) -> bool {
    let root = root(&context.roots);
    if root.join("run/reboot-required").exists() {
        return true;
    }
    // A manager without the word for it, or one that fails at it, leaves the kernels to be compared.
    if let Some(question) = manager.reboot()
        && let Ok(found) = question.run(context).await
        && let Some(required) = found.value
    {
        return required;
    }
    let running = fs::read_to_string(context.roots.proc.join("sys/kernel/osrelease")).unwrap_or_default();
    newer_kernel(&root, running.trim())
}

/// Whether the modules of a newer kernel of the same flavour are there, or those of the running one are gone.
fn newer_kernel(root: &Path, running: &str) -> bool {
    let folders = fs::read_dir(root.join("lib/modules")).into_iter().flatten().flatten();
    let kernels: Vec<String> = folders
        .filter(|entry| entry.path().join("modules.dep").exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    // A container, or a kernel from outside.
    if kernels.is_empty() || running.is_empty() {
        return false;
    }
    !kernels.iter().any(|kernel| kernel == running)
        || kernels.iter().any(|kernel| flavour(kernel) == flavour(running) && numbers(kernel) > numbers(running))
}

/// What is left of a kernel's name without its numbers: `..-lts` of `6.6.31-0-lts`.
fn flavour(kernel: &str) -> String {
    kernel.chars().filter(|c| !c.is_ascii_digit()).collect()
}

fn numbers(kernel: &str) -> Vec<u64> {
    kernel.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_kernel_of_the_same_flavour_counts() {
        let root = tempfile::tempdir().unwrap();
        let kernel = |name: &str| {
            let folder = root.path().join("lib/modules").join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("modules.dep"), "").unwrap();
        };
        assert!(!newer_kernel(root.path(), "6.6.9-0-lts"), "no kernel at all is a container");
        kernel("6.6.9-0-lts");
        kernel("6.8.1-0-virt");
        assert!(!newer_kernel(root.path(), "6.6.9-0-lts"));
        assert!(newer_kernel(root.path(), "6.6.8-0-lts"), "its own modules are gone");
        kernel("6.6.10-0-lts");
        assert!(newer_kernel(root.path(), "6.6.9-0-lts"));
    }
}
