//! What a Linux machine says of itself: os-release, `/proc`, DMI, the account files.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use infini_protocol::Timestamp;

use super::{Os, System, User, unknown};
use crate::collector::linux::{OsRelease, Roots};
use crate::commands::outcome::CommandError;
use crate::commands::pending_reboot::PendingReboot;
use crate::identity::linux::machine_facts;

/// Members of these may become root, by the defaults of sudo's and PAM's packages.
const ADMIN_GROUPS: [&str; 3] = ["sudo", "wheel", "admin"];

/// Shells that let nobody in.
const NO_SHELLS: [&str; 3] = ["nologin", "false", "sync"];

/// One account's record in lastlog(8): the time in four bytes, then the terminal (32) and the host (256).
const LASTLOG_RECORD: u64 = 4 + 32 + 256;

/// What DMI's vendor or product says, and the word that systemd-detect-virt has for it.
const HYPERVISORS: [(&str, &str); 9] = [
    ("KVM", "kvm"),
    ("QEMU", "qemu"),
    ("VMware", "vmware"),
    ("VirtualBox", "oracle"),
    ("Xen", "xen"),
    ("Bochs", "bochs"),
    ("Parallels", "parallels"),
    ("Microsoft Corporation", "microsoft"),
    ("Amazon EC2", "amazon"),
];

pub fn system(roots: &Roots) -> Result<System, CommandError> {
    let facts = machine_facts(roots);
    let release = OsRelease::read(roots);
    let cpuinfo = read(&roots.proc.join("cpuinfo"))?;
    let meminfo = read(&roots.proc.join("meminfo"))?;
    let total_kib = field(&meminfo, "MemTotal").and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
    Ok(System {
        hostname: facts.hostname.unwrap_or_else(unknown),
        os: release.value("NAME").map_or_else(unknown, |name| name.to_string()),
        os_version: release.version().map_or_else(unknown, |version| version.to_string()),
        kernel: read(&roots.proc.join("sys/kernel/osrelease"))?.trim().to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        cpu_model: cpu_model(&cpuinfo).unwrap_or_else(unknown),
        cpu_count: cpuinfo.lines().filter(|line| key(line) == "processor").count(),
        total_memory: total_kib.ok_or_else(|| CommandError::failed("/proc/meminfo has no MemTotal"))? * 1024,
        virtualization: virtualization(roots, &cpuinfo),
        machine_id: facts.machine_id,
    })
}

pub fn os(roots: &Roots) -> Os {
    let release = OsRelease::read(roots);
    let text = |key: &str| release.value(key).map(|value| value.to_string());
    let name = text("NAME").unwrap_or_else(unknown);
    Os {
        pretty_name: text("PRETTY_NAME").unwrap_or_else(|| name.clone()),
        name,
        version: release.version().map_or_else(unknown, |version| version.to_string()),
        build: text("BUILD_ID"),
        platform: "linux",
        id: text("ID"),
        codename: text("VERSION_CODENAME"),
        pending_reboot: PendingReboot::find(roots).is_pending(),
    }
}

pub fn users(roots: &Roots) -> Result<Vec<User>, CommandError> {
    let passwd = read(&roots.etc.join("passwd"))?;
    let group = fs::read_to_string(roots.etc.join("group")).unwrap_or_default();
    let shadow = fs::read_to_string(roots.etc.join("shadow")).unwrap_or_default();
    let (admin_gids, admin_names) = admins(&group);
    let lastlog = File::open(roots.etc.join("../var/log/lastlog")).ok();
    let today = Timestamp::from_system_time(std::time::SystemTime::now()).unix_ms() / 86_400_000;
    let user = |line: &str| {
        let [name, _, uid, gid, comment, home, shell] = line.split(':').collect::<Vec<_>>().try_into().ok()?;
        let (uid, gid): (u32, u32) = (uid.parse().ok()?, gid.parse().ok()?);
        Some(User {
            name: name.to_owned(),
            uid: Some(uid),
            full_name: Some(comment.split(',').next()?.to_owned()).filter(|name| !name.is_empty()),
            home: Some(home.to_owned()).filter(|home| !home.is_empty()),
            shell: Some(shell.to_owned()).filter(|shell| !shell.is_empty()),
            is_admin: uid == 0 || admin_gids.contains(&gid) || admin_names.contains(name),
            is_active: lets_in(shell) && !has_expired(&shadow, name, today),
            last_login: lastlog.as_ref().and_then(|file| last_login(file, uid).ok().flatten()),
        })
    };
    Ok(passwd.lines().filter_map(user).collect())
}

/// Numbers and members of the groups of administrators.
fn admins(group: &str) -> (HashSet<u32>, HashSet<&str>) {
    let (mut gids, mut names) = (HashSet::new(), HashSet::new());
    for line in group.lines() {
        let mut fields = line.split(':');
        if fields.next().is_some_and(|name| ADMIN_GROUPS.contains(&name)) {
            gids.extend(fields.nth(1).and_then(|gid| gid.parse::<u32>().ok()));
            names.extend(fields.next().unwrap_or_default().split(',').filter(|name| !name.is_empty()));
        }
    }
    (gids, names)
}

/// An empty shell is `/bin/sh` (passwd(5)).
fn lets_in(shell: &str) -> bool {
    let program = shell.rsplit('/').next().unwrap_or_default();
    !NO_SHELLS.contains(&program)
}

/// The eighth field of shadow(5): the day on which the account ends, counted from 1970.
fn has_expired(shadow: &str, name: &str, today: u64) -> bool {
    let line = shadow.lines().find(|line| line.split(':').next() == Some(name));
    let ends: Option<u64> = line.and_then(|line| line.split(':').nth(7)?.parse().ok());
    ends.is_some_and(|day| day <= today)
}

/// The file has holes where an account was never logged into; newer systems have no such file.
fn last_login(file: &File, uid: u32) -> io::Result<Option<Timestamp>> {
    let offset = u64::from(uid) * LASTLOG_RECORD;
    if offset + LASTLOG_RECORD > file.metadata()?.len() {
        return Ok(None);
    }
    let mut seconds = [0; 4];
    file.read_exact_at(&mut seconds, offset)?;
    let seconds = u64::from(u32::from_ne_bytes(seconds));
    Ok((seconds > 0).then(|| Timestamp::from_unix_ms(seconds * 1000)))
}

/// x86 has a name; ARM has numbers only, and some boards a name for the whole.
fn cpu_model(cpuinfo: &str) -> Option<String> {
    ["model name", "Model", "Hardware", "cpu"].iter().find_map(|name| field(cpuinfo, name)).map(str::to_owned)
}

/// The hypervisor's name, as far as firmware and kernel tell without asking the processor.
fn virtualization(roots: &Roots, cpuinfo: &str) -> Option<String> {
    let word = |path: &str| fs::read_to_string(roots.sys.join(path)).unwrap_or_default();
    let dmi =
        ["sys_vendor", "product_name", "board_vendor", "bios_vendor"].map(|name| word(&format!("class/dmi/id/{name}")));
    let known = HYPERVISORS.iter().find(|(text, _)| dmi.iter().any(|told| told.contains(text)));
    if let Some((_, name)) = known {
        return Some((*name).to_owned());
    }
    let is_xen = word("hypervisor/type").trim() == "xen";
    // Set by every hypervisor on x86: bit 31 of CPUID leaf 1.
    let is_guest =
        field(cpuinfo, "flags").is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"));
    is_xen.then(|| "xen".to_owned()).or_else(|| is_guest.then(|| "vm-other".to_owned()))
}

/// The value of a line like `model name : Intel`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find(|line| key(line) == name).and_then(|line| Some(line.split_once(':')?.1.trim()))
}

fn key(line: &str) -> &str {
    line.split_once(':').map_or("", |(key, _)| key.trim())
}

fn read(path: &Path) -> Result<String, CommandError> {
    fs::read_to_string(path).map_err(|error| CommandError::failed(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new(files: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir_all(folder.path().join("etc")).unwrap();
            for (path, text) in files {
                let path = folder.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(folder)
        }

        fn roots(&self) -> Roots {
            let at = |name: &str| self.0.path().join(name);
            Roots { proc: at("proc"), sys: at("sys"), etc: at("etc") }
        }
    }

    #[test]
    fn a_machine_describes_itself() {
        let machine = Machine::new(&[
            ("etc/os-release", "NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\n"),
            ("etc/machine-id", "abc\n"),
            ("proc/sys/kernel/osrelease", "6.1.0-18-amd64\n"),
            ("proc/sys/kernel/hostname", "web\n"),
            ("proc/meminfo", "MemTotal:        1000 kB\nMemFree: 1 kB\n"),
            ("proc/cpuinfo", "processor\t: 0\nmodel name\t: Some CPU\n\nprocessor\t: 1\nmodel name\t: Some CPU\n"),
            ("sys/class/dmi/id/sys_vendor", "QEMU\n"),
        ]);
        let system = system(&machine.roots()).unwrap();
        let expected = System {
            hostname: "web".to_owned(),
            os: "Debian GNU/Linux".to_owned(),
            os_version: "12".to_owned(),
            kernel: "6.1.0-18-amd64".to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            cpu_model: "Some CPU".to_owned(),
            cpu_count: 2,
            total_memory: 1_024_000,
            virtualization: Some("qemu".to_owned()),
            machine_id: Some("abc".to_owned()),
        };
        assert_eq!(system, expected);
    }

    #[test]
    fn an_unknown_hypervisor_is_still_one() {
        let machine = Machine::new(&[]);
        assert_eq!(virtualization(&machine.roots(), "flags : fpu hypervisor\n").as_deref(), Some("vm-other"));
        assert_eq!(virtualization(&machine.roots(), "flags : fpu\n"), None);
    }

    #[test]
    fn a_reboot_is_pending_where_a_package_says_so_or_a_kernel_waits() {
        let release = ("etc/os-release", "NAME=Arch\nBUILD_ID=rolling\nID=arch\n");
        let rolling = os(&Machine::new(&[release]).roots());
        assert_eq!(
            (rolling.version.as_str(), rolling.pretty_name.as_str(), rolling.pending_reboot),
            ("rolling", "Arch", false)
        );
        assert!(os(&Machine::new(&[release, ("run/reboot-required", "")]).roots()).pending_reboot);
        let running = ("proc/sys/kernel/osrelease", "6.6.1-arch1-1\n");
        let newer = ("usr/lib/modules/6.6.3-arch1-1/vmlinuz", "");
        assert!(os(&Machine::new(&[release, running, newer]).roots()).pending_reboot);
    }

    #[test]
    fn accounts_say_who_may_enter_and_who_may_rule() {
        let machine = Machine::new(&[
            (
                "etc/passwd",
                "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
                 alice:x:1000:1000:Alice Liddell,,,:/home/alice:/bin/bash\nbob:x:1001:27::/home/bob:\n\
                 old:x:1002:1002::/home/old:/bin/sh\nbroken line\n",
            ),
            ("etc/group", "root:x:0:\nsudo:x:27:alice,\nusers:x:100:bob\n"),
            ("etc/shadow", "alice:!:19000:0:99999:7:::\nold:x:1:0:9:7::10:\n"),
        ]);
        let mut lastlog = vec![0_u8; LASTLOG_RECORD as usize * 1001];
        lastlog[LASTLOG_RECORD as usize * 1000..][..4].copy_from_slice(&1_700_000_000_u32.to_ne_bytes());
        fs::create_dir_all(machine.0.path().join("var/log")).unwrap();
        fs::write(machine.0.path().join("var/log/lastlog"), lastlog).unwrap();

        let users = users(&machine.roots()).unwrap();
        let brief: Vec<_> = users.iter().map(|user| (user.name.as_str(), user.is_admin, user.is_active)).collect();
        let expected = [
            ("root", true, true),
            ("daemon", false, false),
            ("alice", true, true),
            ("bob", true, true),
            ("old", false, false),
        ];
        assert_eq!(brief, expected);
        assert_eq!(users[2].full_name.as_deref(), Some("Alice Liddell"));
        assert_eq!(users[2].last_login.map(|time| time.to_string()).as_deref(), Some("2023-11-14T22:13:20.000Z"));
        assert_eq!((users[0].last_login, users[3].last_login, users[3].shell.as_deref()), (None, None, None));
    }
}
