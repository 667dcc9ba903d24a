//! The second disk: what changes from run to run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::rootfs::make_disk;

/// What is put onto the second disk. The guest finds it under /opt/vmtest.
#[derive(Debug)]
pub struct Seed<'a> {
    /// The infiniservice binary.
    pub agent: &'a Path,
    /// The folder with the install script and the unit.
    pub packaging: &'a Path,
    /// The secret that provisioning would hand to the install script.
    pub secret: &'a str,
}

impl Seed<'_> {
    /// Writes the disk into `folder` and gives its path.
    pub fn write(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let tree = folder.join("seed");
        fs::create_dir_all(tree.join("package"))?;
        copy(&std::env::current_exe()?, &tree.join("vmtest"))?;
        // The install script finds the binary and the unit beside itself.
        copy(self.agent, &tree.join("package/infiniservice"))?;
        for entry in fs::read_dir(self.packaging).with_context(|| format!("{}", self.packaging.display()))? {
            let path = entry?.path();
            if let (true, Some(name)) = (path.is_file(), path.file_name()) {
                copy(&path, &tree.join("package").join(name))?;
            }
        }
        fs::write(tree.join("secret"), self.secret)?;
        fs::set_permissions(tree.join("secret"), fs::Permissions::from_mode(0o600))?;
        let image = folder.join("seed.img");
        make_disk(&tree, &image)?;
        fs::remove_dir_all(&tree)?;
        Ok(image)
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(from, to).map(drop).with_context(|| format!("copying {}", from.display()))
}
