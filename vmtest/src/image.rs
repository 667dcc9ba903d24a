//! The machine's disk: Debian with systemd and the guest's end of the control channel, nothing of InfiniService. Built once and
//! kept under a name made from everything that goes into it.

mod inputs;
mod mirror;
mod rootfs;
mod seed;

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, ensure};
pub use seed::Seed;

use inputs::Inputs;

/// What a machine boots from.
#[derive(Debug, Clone)]
pub struct Image {
    /// The kernel's file.
    pub kernel: PathBuf,
    /// What finds the disk and goes on there.
    pub initramfs: PathBuf,
    /// The root file system.
    pub root: PathBuf,
    /// What the machine writes to it stays; else it is forgotten with the machine.
    pub is_kept: bool,
    /// Where runs leave their logs.
    pub logs: PathBuf,
}

/// A kernel of the host's that guests are booted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Such as `6.1.0-28-cloud-amd64`.
    pub version: String,
    /// The file in /boot.
    pub file: PathBuf,
    /// Its modules.
    pub modules: PathBuf,
}

/// The newest kernel for cloud machines that is installed with its modules.
pub fn newest_kernel() -> Option<Kernel> {
    let mut kernels: Vec<Kernel> = fs::read_dir("/boot")
        .ok()?
        .filter_map(|entry| kernel_of(&entry.ok()?.path()))
        .filter(|kernel| kernel.modules.is_dir())
        .collect();
    kernels.sort_by_key(|kernel| version_key(&kernel.version));
    kernels.pop()
}

fn kernel_of(file: &Path) -> Option<Kernel> {
    let version = file.file_name()?.to_str()?.strip_prefix("vmlinuz-")?;
    version.ends_with("-cloud-amd64").then(|| Kernel {
        version: version.to_owned(),
        file: file.to_owned(),
        modules: Path::new("/lib/modules").join(version),
    })
}

/// Sorts `6.1.0-9` before `6.1.0-28`.
fn version_key(version: &str) -> Vec<u64> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// The image in `cache`, built first where it is not there yet or was made from other inputs.
pub fn prepare(cache: &Path) -> anyhow::Result<Image> {
    fs::create_dir_all(cache).with_context(|| format!("{}", cache.display()))?;
    let cache = cache.canonicalize()?;
    let kernel = newest_kernel().context("there is no kernel for the guest")?;
    let key = Inputs::new(&kernel)?.key();
    let folder = cache.join(&key);
    // Two runs at once must not build into each other.
    let lock = File::create(cache.join("lock"))?;
    lock.lock().context("locking the cache")?;
    if !folder.is_dir() {
        build(&cache, &folder, &kernel)?;
    }
    let logs = cache.join("last-run");
    fs::create_dir_all(&logs)?;
    Ok(Image {
        kernel: kernel.file,
        initramfs: folder.join("initramfs.gz"),
        root: folder.join("root.img"),
        is_kept: false,
        logs,
    })
}

fn build(cache: &Path, folder: &Path, kernel: &Kernel) -> anyhow::Result<()> {
    let started = Instant::now();
    println!("Building the guest's image (once, until its inputs change): {}", folder.display());
    remove_others(cache)?;
    let partial = folder.with_extension("partial");
    fs::create_dir_all(&partial)?;
    rootfs::build(&partial, &cache.join("packages"), kernel)?;
    // Only a whole image gets the final name, so that an interrupted build is never taken for one.
    fs::rename(&partial, folder)?;
    println!("Built in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Removes images that were made from other inputs, and unfinished ones.
fn remove_others(cache: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(cache)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if inputs::is_key(name.trim_end_matches(".partial")) {
            fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

/// Runs a program and wants it to succeed; what it printed becomes part of the error.
fn sh(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}\n{}{}",
        output.status,
        tail(&output.stdout),
        tail(&output.stderr)
    );
    Ok(())
}

fn tail(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].iter().map(|line| format!("{line}\n")).collect()
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .with_context(|| format!("{}", path.display()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_from_other_files_and_sorted_by_number() {
        assert_eq!(kernel_of(Path::new("/boot/config-6.1.0-28-cloud-amd64")), None);
        assert_eq!(kernel_of(Path::new("/boot/vmlinuz-6.1.0-28-amd64")), None);
        let kernel = kernel_of(Path::new("/boot/vmlinuz-6.1.0-28-cloud-amd64")).unwrap();
        assert_eq!(kernel.modules, Path::new("/lib/modules/6.1.0-28-cloud-amd64"));
        assert!(version_key("6.1.0-9-cloud-amd64") < version_key("6.1.0-28-cloud-amd64"));
        assert!(version_key("6.12.0-1-cloud-amd64") > version_key("6.1.0-28-cloud-amd64"));
    }
}
