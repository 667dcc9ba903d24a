//! What an image is made from, boiled down to a name.

use sha2::{Digest as _, Sha256};

use super::{Kernel, read, rootfs};

/// Everything that makes one image differ from another.
#[derive(Debug, Clone)]
pub struct Inputs {
    parts: Vec<(&'static str, Vec<u8>)>,
}

impl Inputs {
    /// The inputs on this machine.
    pub fn new(kernel: &Kernel) -> anyhow::Result<Self> {
        let parts = vec![
            ("suite", rootfs::SUITE.into()),
            ("packages", rootfs::PACKAGES.join(",").into()),
            ("masked", rootfs::MASKED.join(",").into()),
            ("modules", rootfs::BOOT_MODULES.join(",").into()),
            ("size", rootfs::IMAGE_SIZE.into()),
            ("init", rootfs::INIT.into()),
            ("files", rootfs::FILES.map(|(path, text)| format!("{path}\n{text}")).concat().into()),
            ("kernel version", kernel.version.clone().into()),
            // A security update keeps the version and changes the file.
            ("kernel", read(&kernel.file)?),
        ];
        Ok(Self { parts })
    }

    /// A folder's name that changes whenever a part does.
    pub fn key(&self) -> String {
        let mut hash = Sha256::new();
        for (name, bytes) in &self.parts {
            // Lengths keep two different lists from running together to the same bytes.
            hash.update(format!("{name} {}\n", bytes.len()));
            hash.update(bytes);
        }
        hash.finalize().iter().take(KEY_BYTES).map(|byte| format!("{byte:02x}")).collect()
    }
}

const KEY_BYTES: usize = 8;

/// Whether a folder's name is a key.
pub fn is_key(name: &str) -> bool {
    name.len() == 2 * KEY_BYTES && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(parts: &[(&'static str, &str)]) -> String {
        Inputs { parts: parts.iter().map(|(name, text)| (*name, text.as_bytes().to_vec())).collect() }.key()
    }

    #[test]
    fn the_key_stands_for_all_parts() {
        let one = key(&[("suite", "bookworm"), ("packages", "systemd,udev")]);
        assert_eq!(one, key(&[("suite", "bookworm"), ("packages", "systemd,udev")]));
        assert_ne!(one, key(&[("suite", "bookworm"), ("packages", "systemd,udev,dbus")]));
        assert_ne!(one, key(&[("suite", "trixie"), ("packages", "systemd,udev")]));
        assert!(is_key(&one), "{one}");
    }

    #[test]
    fn text_that_moves_from_one_part_to_the_next_changes_the_key() {
        assert_ne!(key(&[("a", "xy"), ("b", "z")]), key(&[("a", "x"), ("b", "yz")]));
    }

    #[test]
    fn other_names_in_the_cache_are_no_keys() {
        for name in ["last-run", "packages", "lock", "", "0123456789abcdef0", "0123456789abcdeg"] {
            assert!(!is_key(name), "{name:?}");
        }
    }
}
