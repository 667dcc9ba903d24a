//! Linux: DMI, machine-id and the kernel's own words.

use std::path::Path;

use super::MachineFacts;
use crate::collector::linux::Roots;

/// Some firmware ships one of these for every machine of a series; they identify nothing.
const MEANINGLESS_UUIDS: [&str; 3] = [
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "03000200-0400-0500-0006-000700080009",
];

/// Reads what there is.
#[must_use]
pub fn machine_facts(roots: &Roots) -> MachineFacts {
    let product_uuid = word(&roots.sys.join("class/dmi/id/product_uuid"))
        .filter(|uuid| !MEANINGLESS_UUIDS.contains(&uuid.to_lowercase().as_str()));
    MachineFacts {
        product_uuid,
        // systemd writes "uninitialized" there before the first boot is over.
        machine_id: word(&roots.etc.join("machine-id")).filter(|id| id != "uninitialized"),
        boot_id: word(&roots.proc.join("sys/kernel/random/boot_id")),
        hostname: word(&roots.proc.join("sys/kernel/hostname")),
    }
}

fn word(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let word = text.trim();
    (!word.is_empty()).then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn firmware_without_an_id_of_its_own_is_seen_through() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let roots = Roots { proc: at("proc"), sys: at("sys"), etc: at("etc") };
        fs::create_dir_all(at("sys/class/dmi/id")).unwrap();
        fs::create_dir_all(at("etc")).unwrap();
        fs::write(at("sys/class/dmi/id/product_uuid"), "03000200-0400-0500-0006-000700080009\n").unwrap();
        fs::write(at("etc/machine-id"), "0123\n").unwrap();
        let facts = machine_facts(&roots);
        assert_eq!(facts.product_uuid, None);
        assert_eq!(facts.machine_id.as_deref(), Some("0123"));
        assert_eq!(facts.hostname, None);
    }
}
