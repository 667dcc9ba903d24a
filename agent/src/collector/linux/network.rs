//! Network interfaces: `/proc/net/dev`, `/sys/class/net`, rtnetlink.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use infini_protocol::metrics::{CollectError, NetworkInterface};
use infini_protocol::{ErrorCode, Text};

use super::address::{Address, AddressSource};
use super::file::KeptFile;
use super::roots::Roots;
use super::scan::{decimal, fields, hexadecimal, lines};
use crate::collector::network::{NetworkCounters, NetworkRates};
use crate::collector::roster::Roster;
use crate::collector::{CollectFailure, List};

/// Addresses are asked for again after this time, and at once when an interface appears or goes up or down.
const ADDRESSES_GOOD_FOR: Duration = Duration::from_secs(60);

/// The lines of `/proc/net/dev` before the first interface.
const HEADING: usize = 2;

/// A name of at most 15 bytes and sixteen numbers of at most 20 digits, with what separates them: 370 bytes and some room.
const LONGEST_LINE: usize = 512;

/// `IFF_UP` of linux/if.h: the administrator switched it on.
const IFF_UP: u64 = 1;

/// Reads network interfaces: all of them, the loopback too.
pub struct NetworkReader {
    dev: KeptFile,
    class: PathBuf,
    interfaces: Roster<Interface>,
    addresses: AddressSource,
    addresses_read: Option<Instant>,
    /// Why the addresses are as they were before, or are not there at all.
    addresses_unknown: Option<CollectError>,
    state: Vec<u8>,
}

struct Interface {
    directory: PathBuf,
    operstate: KeptFile,
    flags: KeptFile,
    rates: NetworkRates,
    is_up: bool,
    is_known: bool,
    mac: Option<Text>,
    ip_addresses: Vec<Text>,
}

impl NetworkReader {
    pub fn new(roots: &Roots, addresses: AddressSource) -> Self {
        Self {
            // What /proc/net is a link to, without following it each time.
            dev: KeptFile::new(roots.proc.join("self/net/dev")),
            class: roots.sys.join("class/net"),
            interfaces: Roster::default(),
            addresses,
            addresses_read: None,
            addresses_unknown: None,
            state: Vec::new(),
        }
    }

    /// Counters, and rates since the call before.
    ///
    /// # Errors
    /// Where the counters cannot be read. Where only the addresses cannot, they are as they were and the list's errors name
    /// `network.addresses`.
    pub fn read(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Result<List<NetworkInterface>, CollectFailure> {
        let text = self.dev.read_short_records(buffer, LONGEST_LINE);
        let text = text.map_err(|error| CollectFailure::io(self.dev.path(), error))?;
        let mut is_changed = false;
        let mut interfaces = Vec::with_capacity(self.interfaces.len());
        self.interfaces.start();
        for line in lines(text).skip(HEADING) {
            let (key, counters) = parse(line)
                .ok_or_else(|| CollectFailure::parse(self.dev.path(), "a line is not a name and sixteen numbers"))?;
            let (name, known) = self.interfaces.meet(key, || Interface::new(&self.class, key));
            is_changed |= known.look(&mut self.state);
            let mut interface = NetworkInterface { name: name.clone(), ..NetworkInterface::default() };
            known.rates.update(now, counters, &mut interface);
            // Counters that went back are those of another interface under the name, with addresses of its own.
            is_changed |= interface.received_bytes_per_sec.is_none();
            interfaces.push(interface);
        }
        self.interfaces.finish();
        let is_old = |read| now.saturating_duration_since(read) >= ADDRESSES_GOOD_FOR;
        if is_changed || self.addresses_read.is_none_or(is_old) {
            self.read_addresses();
            self.addresses_read = Some(now);
        }
        for (interface, known) in interfaces.iter_mut().zip(self.interfaces.values()) {
            interface.is_up = known.is_up;
            interface.mac = known.mac.clone();
            interface.ip_addresses = known.ip_addresses.clone();
        }
        let errors = self.addresses_unknown.iter().cloned().collect();
        Ok(List { total: interfaces.len(), entries: interfaces, errors })
    }

    /// Takes the slow-moving facts anew: hardware addresses and, where the kernel tells, addresses.
    fn read_addresses(&mut self) {
        let addresses = (self.addresses)();
        self.addresses_unknown = addresses.as_ref().err().map(error);
        for known in self.interfaces.values_mut() {
            known.mac = word(&known.directory.join("address")).filter(|mac| has_meaning(mac));
            let number = word(&known.directory.join("ifindex")).and_then(|number| number.parse::<u32>().ok());
            if let (Ok(addresses), Some(number)) = (&addresses, number) {
                let own = addresses.iter().filter(|address: &&Address| address.interface == number);
                known.ip_addresses = own.map(|address| address.ip.to_string().into()).collect();
            }
        }
    }
}

impl Interface {
    fn new(class: &Path, key: &[u8]) -> Self {
        let directory = class.join(OsStr::from_bytes(key));
        Self {
            operstate: KeptFile::new(directory.join("operstate")),
            flags: KeptFile::new(directory.join("flags")),
            directory,
            rates: NetworkRates::default(),
            is_up: false,
            is_known: false,
            mac: None,
            ip_addresses: Vec::new(),
        }
    }

    /// Sees whether the interface can carry traffic; true where that changed or was not known.
    fn look(&mut self, buffer: &mut Vec<u8>) -> bool {
        let is_up = match self.operstate.read_record(buffer) {
            Ok(b"up\n") => true,
            // Drivers without a carrier (loopback, tunnels) do not say; there the administrator's switch counts.
            Ok(b"unknown\n") => self.flags.read_record(buffer).is_ok_and(is_switched_on),
            _ => false,
        };
        let is_changed = !self.is_known || is_up != self.is_up;
        self.is_up = is_up;
        self.is_known = true;
        is_changed
    }
}

/// A sandbox that allows no netlink refuses with `EAFNOSUPPORT`, one that watches each call with `EPERM`.
fn error(error: &io::Error) -> CollectError {
    CollectError {
        component: "network.addresses".into(),
        error_code: match error.kind() {
            io::ErrorKind::PermissionDenied => ErrorCode::PermissionDenied,
            _ => ErrorCode::CommandFailed,
        },
        message: format!("the kernel was asked by rtnetlink: {error}"),
    }
}

fn is_switched_on(flags: &[u8]) -> bool {
    let flags = flags.trim_ascii().strip_prefix(b"0x").and_then(hexadecimal);
    flags.is_some_and(|flags| flags & IFF_UP != 0)
}

/// The loopback and tunnels have a hardware address of zeros or none.
fn has_meaning(mac: &str) -> bool {
    mac.bytes().any(|byte| !matches!(byte, b'0' | b':'))
}

fn word(path: &Path) -> Option<Text> {
    Some(std::fs::read_to_string(path).ok()?.trim().into())
}

/// A name, a colon, eight numbers about receiving and eight about sending; each side begins with bytes, packets, errors.
fn parse(line: &[u8]) -> Option<(&[u8], NetworkCounters)> {
    // No number has a colon; the name of an alias on an old kernel may.
    let colon = line.iter().rposition(|byte| *byte == b':')?;
    let mut fields = fields(&line[colon + 1..]);
    let counters = NetworkCounters {
        bytes_received: fields.decimal()?,
        packets_received: fields.decimal()?,
        errors_in: fields.decimal()?,
        bytes_sent: decimal(fields.nth(5)?)?,
        packets_sent: fields.decimal()?,
        errors_out: fields.decimal()?,
    };
    Some((line[..colon].trim_ascii_start(), counters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_are_read() {
        let expected = NetworkCounters {
            bytes_received: 218_344_632,
            packets_received: 9501,
            errors_in: 3,
            bytes_sent: 638_437,
            packets_sent: 5695,
            errors_out: 2,
        };
        let line = b"  eth0: 218344632    9501    3    0    0     0          0         0   638437    5695    2    0    0     0       0          0";
        assert_eq!(parse(line), Some((&b"eth0"[..], expected)));
        let squeezed = b"eth0:0:218344632    9501    3    0    0     0          0         0   638437    5695    2    0";
        assert_eq!(parse(squeezed), Some((&b"eth0:0"[..], expected)));
        assert_eq!(parse(b"eth0 1 2 3"), None);
        assert_eq!(parse(b"eth0: 1 2 3"), None);
    }

    #[test]
    fn flags_and_addresses_say_what_they_mean() {
        assert!(is_switched_on(b"0x1009\n"));
        assert!(!is_switched_on(b"0x1008\n"));
        assert!(!is_switched_on(b"1009\n"));
        assert!(has_meaning("02:fc:00:00:00:05"));
        assert!(!has_meaning("00:00:00:00:00:00"));
        assert!(!has_meaning(""));
    }
}
