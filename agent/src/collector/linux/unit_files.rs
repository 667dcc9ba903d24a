//! Files of services as systemd finds them, and what becomes of them at boot: systemd.unit(5), "Unit File Load Path", and systemctl(1),
//! `is-enabled`.
//!
//! systemd would say all this itself (`ListUnitFilesByPatterns`). But it looks for every file's links in all its folders, answers nobody
//! meanwhile and does not even see a service die: seconds in a small machine that emulates its processor. Reading each folder and each file
//! once costs this process milliseconds and the others nothing.
//!
//! One thing is not looked for: an `[Install]` section in a drop-in. A file that has it from there alone is called `static` until it is
//! enabled.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::service::UnitFile;

const SUFFIX: &str = ".service";

/// A file of a service is a few lines; what is longer is not read to its end.
const MOST_BYTES: u64 = 1 << 20;

/// The endings of folders whose links have other units start a unit.
const REASONS: [&str; 3] = [".wants", ".requires", ".upholds"];

/// The files of all services in the folders of `load_path`, the first of which has the last word on a name. Folders that are not there
/// hold none. Below `root` is the machine.
///
/// # Errors
/// Where a folder is there and cannot be read.
pub fn read(root: &Path, load_path: &[PathBuf]) -> io::Result<Vec<UnitFile>> {
    let folders = load_path.iter().map(|folder| Folder::open(root, folder)).collect::<io::Result<Vec<Folder>>>()?;
    let mut links = Links::default();
    for folder in &folders {
        links.add(folder)?;
    }
    let machine = Machine { root, load_path, links };
    let mut files = BTreeMap::new();
    for folder in &folders {
        for service in &folder.services {
            files.entry(service.name.as_str()).or_insert_with(|| machine.state(folder, service));
        }
    }
    Ok(files.into_iter().map(|(name, state)| UnitFile { name: name.to_owned(), state: state.to_owned() }).collect())
}

/// What systemd keeps in a folder, which its path says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// What the administrator wants, for good.
    Persistent,
    /// The same until the next boot.
    Runtime,
    /// Made by a generator out of other configuration.
    Generated,
    /// Made by a running program.
    Transient,
    /// What packages brought.
    Vendor,
}

impl Kind {
    fn of(folder: &Path) -> Self {
        let last = folder.file_name().and_then(OsStr::to_str).unwrap_or_default();
        match last {
            "generator" | "generator.early" | "generator.late" => Self::Generated,
            "transient" => Self::Transient,
            _ if folder == Path::new("/etc/systemd/system") => Self::Persistent,
            _ if folder == Path::new("/run/systemd/system") => Self::Runtime,
            _ => Self::Vendor,
        }
    }
}

/// A folder of the load path.
struct Folder {
    kind: Kind,
    is_volatile: bool,
    services: Vec<Service>,
    /// Folders of links, such as `multi-user.target.wants`.
    reasons: Vec<PathBuf>,
}

/// A service's file or link.
struct Service {
    name: String,
    path: PathBuf,
    /// Where it leads, where it is a link.
    link: Option<PathBuf>,
}

impl Folder {
    fn open(root: &Path, path: &Path) -> io::Result<Self> {
        let mut folder = Self {
            kind: Kind::of(path),
            is_volatile: path.starts_with("/run"),
            services: Vec::new(),
            reasons: Vec::new(),
        };
        let entries = match fs::read_dir(below(root, path)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(folder),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            // Names that are no UTF-8 are no names of units.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = entry.path();
            if REASONS.iter().any(|ending| name.ends_with(ending)) {
                folder.reasons.push(path);
                continue;
            }
            let Ok(kind) = entry.file_type() else { continue };
            if name.ends_with(SUFFIX) && (kind.is_file() || kind.is_symlink()) {
                let link = if kind.is_symlink() { fs::read_link(&path).ok() } else { None };
                folder.services.push(Service { name, path, link });
            }
        }
        Ok(folder)
    }
}

/// Who is linked to: for good by the administrator, and until the next boot by anybody. What packages bring enables nothing.
#[derive(Default)]
struct Links {
    persistent: HashSet<String>,
    runtime: HashSet<String>,
}

impl Links {
    /// A link counts for its own name, which may be an instance's, and for the file that it leads to.
    fn add(&mut self, folder: &Folder) -> io::Result<()> {
        let names = match folder.kind {
            Kind::Persistent => &mut self.persistent,
            _ if folder.is_volatile => &mut self.runtime,
            _ => return Ok(()),
        };
        for reason in &folder.reasons {
            let entries = match fs::read_dir(reason) {
                Ok(entries) => entries,
                // It went meanwhile, or is a file.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                let Ok(target) = fs::read_link(entry.path()) else { continue };
                names.extend(
                    [Some(entry.file_name().as_os_str()), target.file_name()].into_iter().flatten().filter_map(text),
                );
            }
        }
        for Service { name, link, .. } in &folder.services {
            let target = link.as_deref().and_then(Path::file_name).filter(|target| *target != OsStr::new(name));
            names.extend(target.and_then(text));
        }
        Ok(())
    }
}

fn text(name: &OsStr) -> Option<String> {
    name.to_str().map(str::to_owned)
}

/// What a file's state depends on beside itself.
struct Machine<'m> {
    root: &'m Path,
    load_path: &'m [PathBuf],
    links: Links,
}

impl Machine<'_> {
    /// systemd's word for what becomes of a file at boot.
    fn state(&self, folder: &Folder, service: &Service) -> &'static str {
        let Service { name, path, link } = service;
        let masked = if folder.is_volatile { "masked-runtime" } else { "masked" };
        if let Some(target) = link {
            if target == Path::new("/dev/null") {
                return masked;
            }
            if target.file_name() != Some(OsStr::new(name)) {
                return "alias";
            }
        }
        match folder.kind {
            Kind::Generated => return "generated",
            Kind::Transient => return "transient",
            _ => {}
        }
        if self.links.persistent.contains(name) {
            return "enabled";
        }
        if self.links.runtime.contains(name) {
            return "enabled-runtime";
        }
        if let Some(target) = link {
            let parent = target.parent().unwrap_or(Path::new("/"));
            let is_outside = target.is_absolute() && !self.load_path.iter().any(|folder| folder == parent);
            match folder.kind {
                Kind::Persistent if is_outside => return "linked",
                Kind::Runtime if is_outside => return "linked-runtime",
                _ => {}
            }
        }
        // An absolute link leads on below the root that tests put in front.
        let content = link.as_deref().filter(|target| target.is_absolute());
        let content = content.map_or_else(|| path.clone(), |target| below(self.root, target));
        match read_file(&content) {
            Ok(text) if text.is_empty() => masked,
            Ok(text) => install(&text),
            Err(_) => "bad",
        }
    }
}

fn read_file(path: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What `[Install]` lets `systemctl enable` do, for a file that is not enabled.
fn install(text: &str) -> &'static str {
    let (mut is_install, mut can_be_enabled, mut has_companions) = (false, false, false);
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            is_install = section.strip_suffix(']') == Some("Install");
        } else if is_install && let Some((key, value)) = line.split_once('=') {
            let has_value = !value.trim().is_empty();
            match key.trim_end() {
                "WantedBy" | "RequiredBy" | "UpheldBy" | "Alias" => can_be_enabled |= has_value,
                "Also" => has_companions |= has_value,
                _ => {}
            }
        }
    }
    match (can_be_enabled, has_companions) {
        (true, _) => "disabled",
        (false, true) => "indirect",
        (false, false) => "static",
    }
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const LOAD_PATH: [&str; 7] = [
        "/run/systemd/transient",
        "/etc/systemd/system",
        "/run/systemd/system",
        "/run/systemd/generator",
        "/usr/local/lib/systemd/system",
        "/usr/lib/systemd/system",
        "/run/systemd/generator.late",
    ];

    /// A machine's folders, made of a line each: `PATH`, `PATH -> TARGET`, `PATH (empty)`, or `PATH: lines of [Install]`.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn of(lines: &[&str]) -> Self {
            let machine = Self(tempfile::tempdir().unwrap());
            for line in lines {
                machine.put(line);
            }
            machine
        }

        fn put(&self, line: &str) {
            let make = |path: &str| {
                let path = below(self.0.path(), Path::new(path));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                path
            };
            if let Some((path, target)) = line.split_once(" -> ") {
                symlink(target, make(path)).unwrap();
            } else if let Some((path, install)) = line.split_once(": ") {
                let lines = install.replace("; ", "\n");
                fs::write(make(path), format!("[Unit]\nWantedBy=nobody\n[Install]\n# WantedBy=x\n{lines}\n")).unwrap();
            } else if let Some(path) = line.strip_suffix(" (empty)") {
                fs::write(make(path), "").unwrap();
            } else {
                fs::write(make(line), "[Service]\nExecStart=/bin/true\n").unwrap();
            }
        }

        fn states(&self) -> Vec<String> {
            let load_path: Vec<PathBuf> = LOAD_PATH.iter().map(PathBuf::from).collect();
            let files = read(self.0.path(), &load_path).unwrap();
            files.iter().map(|file| format!("{} {}", file.name.strip_suffix(SUFFIX).unwrap(), file.state)).collect()
        }
    }

    #[test]
    fn each_state_is_found_in_what_the_folders_hold() {
        let machine = Machine::of(&[
            "/usr/lib/systemd/system/ssh.service: WantedBy=multi-user.target; Alias=sshd.service",
            "/etc/systemd/system/multi-user.target.wants/ssh.service -> /usr/lib/systemd/system/ssh.service",
            "/etc/systemd/system/sshd.service -> /usr/lib/systemd/system/ssh.service",
            "/usr/lib/systemd/system/rsync.service: WantedBy=multi-user.target",
            "/usr/lib/systemd/system/getty@.service: WantedBy=getty.target; DefaultInstance=tty1",
            "/etc/systemd/system/getty.target.wants/getty@tty1.service -> /usr/lib/systemd/system/getty@.service",
            "/usr/lib/systemd/system/apt-daily.service",
            "/usr/lib/systemd/system/also.service: Also=also.socket",
            "/usr/lib/systemd/system/emptied.service: WantedBy=",
            "/etc/systemd/system/cron.service -> /dev/null",
            "/usr/lib/systemd/system/cron.service: WantedBy=multi-user.target",
            "/run/systemd/system/held.service -> /dev/null",
            "/run/systemd/system/now.target.wants/now.service -> /usr/lib/systemd/system/now.service",
            "/usr/lib/systemd/system/now.service: WantedBy=now.target",
            "/run/systemd/generator/local-fs.target.wants/remount.service -> /usr/lib/systemd/system/remount.service",
            "/usr/lib/systemd/system/remount.service",
            "/run/systemd/generator/rc-local.service",
            "/run/systemd/generator.late/lsb.service",
            "/run/systemd/generator.late/multi-user.target.wants/lsb.service -> ../lsb.service",
            "/run/systemd/transient/run-u1.service",
            "/etc/systemd/system/mine.service -> /opt/mine/mine.service",
            "/opt/mine/mine.service: WantedBy=multi-user.target",
            "/usr/lib/systemd/system/dbus-org.example.service -> real.service",
            "/usr/lib/systemd/system/real.service",
            "/usr/lib/systemd/system/vendor.target.wants/real.service -> ../real.service",
            "/etc/systemd/system/gone.service -> /usr/lib/systemd/system/gone.service",
            "/usr/local/lib/systemd/system/emptyfile.service (empty)",
            "/usr/lib/systemd/system/a.socket: WantedBy=sockets.target",
            "/usr/lib/systemd/system/ssh.service.d/more.conf: WantedBy=x",
        ]);
        assert_eq!(
            machine.states(),
            [
                "also indirect",
                "apt-daily static",
                "cron masked",
                "dbus-org.example alias",
                "emptied static",
                "emptyfile masked",
                "getty@ enabled",
                "gone bad",
                "held masked-runtime",
                "lsb generated",
                "mine linked",
                "now enabled-runtime",
                "rc-local generated",
                "real static",
                "remount enabled-runtime",
                "rsync disabled",
                "run-u1 transient",
                "ssh enabled",
                "sshd alias",
            ]
        );
    }

    #[test]
    fn the_first_folder_has_the_last_word() {
        let machine = Machine::of(&[
            "/usr/lib/systemd/system/a.service: WantedBy=multi-user.target",
            "/etc/systemd/system/a.service",
        ]);
        assert_eq!(machine.states(), ["a static"]);
    }

    #[test]
    fn a_machine_without_such_folders_has_no_files() {
        assert_eq!(Machine::of(&[]).states(), [] as [&str; 0]);
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_an_error() {
        let machine = Machine::of(&["/etc/systemd/system"]);
        let error = read(machine.0.path(), &["/etc/systemd/system".into()]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory, "{error}");
    }
}
