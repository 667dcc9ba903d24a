//! Who this machine is.

#[cfg(target_os = "linux")]
pub mod linux;

use infini_protocol::PROTOCOL_VERSION;
use infini_protocol::agent::Handshake;

/// What the operating system says about the machine's identity. What it does not say is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineFacts {
    /// The hypervisor's id for the machine (DMI `product_uuid`).
    pub product_uuid: Option<String>,
    /// The installation's id.
    pub machine_id: Option<String>,
    /// New at every boot.
    pub boot_id: Option<String>,
    /// The host name.
    pub hostname: Option<String>,
}

/// Who the agent says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The machine.
    pub vm_id: String,
    /// Where `vm_id` came from, for people.
    pub vm_id_origin: &'static str,
    /// The boot.
    pub boot_id: String,
    /// This process, on this machine: a clone of the machine has another, as it has after a snapshot was restored.
    pub session_id: String,
    /// The host name.
    pub hostname: String,
}

impl Identity {
    /// Puts the identity together: a configured id goes before what the machine says of itself.
    #[must_use]
    pub fn new(configured_vm_id: Option<&str>, facts: MachineFacts) -> Self {
        let (vm_id, vm_id_origin) = vm_id(configured_vm_id, &facts);
        let session_id = random_id();
        Self {
            vm_id,
            vm_id_origin,
            // Without the kernel's word every start counts as a boot: hosts then forget more than they must, never less.
            boot_id: facts.boot_id.unwrap_or_else(|| session_id.clone()),
            session_id,
            hostname: facts.hostname.unwrap_or_else(|| "localhost".to_owned()),
        }
    }

    /// What the agent says first on every connection.
    #[must_use]
    pub fn handshake(&self, capabilities: &[&str]) -> Handshake {
        Handshake {
            vm_id: self.vm_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            platform: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            hostname: self.hostname.clone(),
            boot_id: self.boot_id.clone(),
            session_id: self.session_id.clone(),
            protocol_version: PROTOCOL_VERSION,
            capabilities: capabilities.iter().map(|&name| name.to_owned()).collect(),
        }
    }
}

fn vm_id(configured: Option<&str>, facts: &MachineFacts) -> (String, &'static str) {
    if let Some(id) = configured {
        return (id.to_owned(), "the configuration");
    }
    if let Some(id) = &facts.product_uuid {
        return (id.to_lowercase(), "DMI product_uuid");
    }
    if let Some(id) = &facts.machine_id {
        return (id.clone(), "machine-id");
    }
    ("unknown".to_owned(), "nothing: set vm_id in the configuration")
}

/// 128 random bits in the shape of a UUID.
#[must_use]
pub fn random_id() -> String {
    let mut bytes = [0_u8; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // Only an early boot without entropy comes here. The id tells sessions apart and guards nothing.
        let time = crate::clock::since_boot().as_nanos() ^ u128::from(std::process::id()) << 64;
        bytes = time.to_be_bytes();
    }
    let n = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | 4 << 76 | 2 << 62;
    let hex = format!("{n:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> MachineFacts {
        MachineFacts {
            product_uuid: Some("4C4C4544-0042-3510-8053-B4C04F4E4E32".to_owned()),
            machine_id: Some("0123456789abcdef0123456789abcdef".to_owned()),
            boot_id: Some("b".to_owned()),
            hostname: Some("web-1".to_owned()),
        }
    }

    #[test]
    fn the_configured_id_goes_first_then_dmi_then_machine_id() {
        let id = |configured, facts| Identity::new(configured, facts).vm_id;
        assert_eq!(id(Some("vm-7"), facts()), "vm-7");
        assert_eq!(id(None, facts()), "4c4c4544-0042-3510-8053-b4c04f4e4e32");
        assert_eq!(id(None, MachineFacts { product_uuid: None, ..facts() }), "0123456789abcdef0123456789abcdef");
        assert_eq!(id(None, MachineFacts::default()), "unknown");
    }

    #[test]
    fn a_session_is_new_at_every_start_and_a_boot_is_not() {
        let (one, two) = (Identity::new(None, facts()), Identity::new(None, facts()));
        assert_ne!(one.session_id, two.session_id);
        assert_eq!(one.boot_id, two.boot_id);
    }

    #[test]
    fn a_random_id_has_the_shape_of_a_uuid() {
        let id = random_id();
        let lengths: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
        assert_eq!(&id[14..15], "4", "{id}");
        assert!("89ab".contains(&id[19..20]), "{id}");
    }
}
