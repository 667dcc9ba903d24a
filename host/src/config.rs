//! Which socket a machine's name means, and where its secret lies.
//!
//! ```toml
//! master_file = "master"            # derives the secrets of machines that have a vm_id and no secret_file
//!
//! [vm.web]
//! socket = "/run/vm/web.sock"
//! vm_id = "4c4c4544-0042-3510-8052-b4c04f4a4d31"
//!
//! [vm.db]
//! socket = "/run/vm/db.sock"
//! secret_file = "db.secret"
//! ```
//!
//! Paths are relative to the configuration file. A secret file must be closed to its group and to others; one `\n` at its end is
//! not part of the secret.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use infini_protocol::envelope::{EmptySecret, Key};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::vm::Endpoint;

/// The longest secret; longer is another file.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// Why a machine cannot be found or its secret not used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The configuration is not as it should be; names the key and the line.
    #[error("{}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong where.
        source: Box<toml::de::Error>,
    },
    /// Others can read a secret.
    #[error("{}: its mode {mode:04o} lets group or others at the secret; run: chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A secret file holds no usable secret.
    #[error("{}: {source}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: EmptySecret,
    },
    /// A secret file is too long to be one.
    #[error("{}: longer than 64 KiB; this is no secret", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// Neither a configured name nor a path.
    #[error(
        "no virtual machine is configured as {name:?} ({known}); a socket is named with its path, such as ./{name}"
    )]
    UnknownName {
        /// What was asked for.
        name: String,
        /// Those that are.
        known: String,
    },
    /// A master secret without an identity to derive from.
    #[error(
        "a master secret needs the machine's vm_id to derive its secret: add --vm-id, or vm_id to the configuration"
    )]
    NoVmId,
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The master secret's file.
    master_file: Option<PathBuf>,
    /// Machines by name.
    #[serde(default)]
    vm: BTreeMap<String, Entry>,
    /// Where the file lies; its paths start here.
    #[serde(skip)]
    directory: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    socket: PathBuf,
    vm_id: Option<String>,
    secret_file: Option<PathBuf>,
}

/// What the command line says about one machine; it wins over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The machine's secret.
    pub secret_file: Option<PathBuf>,
    /// The master secret.
    pub master_file: Option<PathBuf>,
    /// The machine's identity.
    pub vm_id: Option<String>,
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// Where it cannot be read or holds a key that nobody knows.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let config: Self = toml::from_str(&text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        Ok(Self { directory: path.parent().map(Path::to_owned).unwrap_or_default(), ..config })
    }

    /// The first of the usual files that exists: the user's, then the machine's. An empty configuration where none does.
    ///
    /// # Errors
    /// Where that file cannot be used.
    pub fn load_default(env: impl Fn(&str) -> Option<std::ffi::OsString>) -> Result<Self, ConfigError> {
        let user = env("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| env("HOME").map(|home| PathBuf::from(home).join(".config")));
        let places = [user, Some(PathBuf::from("/etc"))];
        let file = places.into_iter().flatten().map(|place| place.join("infinihost/config.toml")).find(|f| f.exists());
        file.map_or_else(|| Ok(Self::default()), |file| Self::load(&file))
    }

    /// The machine that `vm` means: a configured name, else the path of a socket.
    ///
    /// # Errors
    /// Where it is neither, or its secret cannot be used.
    pub fn endpoint(&self, vm: &str, overrides: &Overrides) -> Result<Endpoint, ConfigError> {
        let entry = self.vm.get(vm);
        let socket = match entry {
            Some(entry) => self.directory.join(&entry.socket),
            None if vm.contains('/') || Path::new(vm).exists() => PathBuf::from(vm),
            None => return Err(ConfigError::UnknownName { name: vm.to_owned(), known: self.known() }),
        };
        let vm_id = overrides.vm_id.clone().or_else(|| entry.and_then(|entry| entry.vm_id.clone()));
        let key = self.key(entry, overrides, vm_id.as_deref())?;
        Ok(Endpoint { vm_id, key, ..Endpoint::new(socket) })
    }

    /// Where the secret comes from: the command line before the file, the machine's own before the master's.
    fn key(
        &self,
        entry: Option<&Entry>,
        overrides: &Overrides,
        vm_id: Option<&str>,
    ) -> Result<Option<Key>, ConfigError> {
        let derive = |master: &Path| Ok(Some(read_secret(master)?.derive(vm_id.ok_or(ConfigError::NoVmId)?)));
        if let Some(file) = &overrides.secret_file {
            return read_secret(file).map(Some);
        }
        if let Some(master) = &overrides.master_file {
            return derive(master);
        }
        if let Some(file) = entry.and_then(|entry| entry.secret_file.as_ref()) {
            return read_secret(&self.directory.join(file)).map(Some);
        }
        match &self.master_file {
            Some(master) if vm_id.is_some() => derive(&self.directory.join(master)),
            _ => Ok(None),
        }
    }

    fn known(&self) -> String {
        if self.vm.is_empty() {
            return "no configuration names any".to_owned();
        }
        format!("known: {}", self.vm.keys().map(String::as_str).collect::<Vec<_>>().join(", "))
    }
}

/// The secret in a file that nobody else can read, without one line end after it.
///
/// # Errors
/// Where the file cannot be read, others can read it, or it holds no secret.
pub fn read_secret(path: &Path) -> Result<Key, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(ConfigError::Exposed { path: path.to_owned(), mode });
    }
    // All the room at once: growing would leave pieces of the secret behind in freed memory.
    let mut secret = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES as usize + 1));
    file.take(MAX_SECRET_BYTES + 1).read_to_end(&mut secret).map_err(failed)?;
    if secret.len() as u64 > MAX_SECRET_BYTES {
        return Err(ConfigError::TooLong { path: path.to_owned() });
    }
    Key::from_provisioned(&secret).map_err(|source| ConfigError::Empty { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn write(dir: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn key(endpoint: &Endpoint) -> Option<&[u8]> {
        endpoint.key.as_ref().map(Key::expose)
    }

    #[test]
    fn a_name_means_a_socket_an_identity_and_a_secret() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "master", "m\n", 0o600);
        write(dir.path(), "db.secret", "own\n\n", 0o400);
        let text = "master_file = 'master'\n[vm.web]\nsocket = 'web.sock'\nvm_id = 'w-1'\n\
                    [vm.db]\nsocket = '/run/db.sock'\nsecret_file = 'db.secret'\n[vm.open]\nsocket = 'o.sock'\n";
        let config = Config::load(&write(dir.path(), "config.toml", text, 0o644)).unwrap();
        let web = config.endpoint("web", &Overrides::default()).unwrap();
        assert_eq!((web.socket, web.vm_id.as_deref()), (dir.path().join("web.sock"), Some("w-1")));
        assert_eq!(web.key.unwrap().expose(), Key::new("m").unwrap().derive("w-1").expose());
        let db = config.endpoint("db", &Overrides::default()).unwrap();
        assert_eq!((db.socket.as_path(), key(&db)), (Path::new("/run/db.sock"), Some(&b"own\n"[..])));
        assert_eq!(key(&config.endpoint("open", &Overrides::default()).unwrap()), None);
    }

    #[test]
    fn the_command_line_wins() {
        let dir = tempfile::tempdir().unwrap();
        let secret = write(dir.path(), "s", "mine", 0o600);
        let overrides =
            Overrides { secret_file: Some(secret.clone()), vm_id: Some("x".to_owned()), ..Overrides::default() };
        let vm = Config::default().endpoint("./vm.sock", &overrides).unwrap();
        assert_eq!((key(&vm), vm.vm_id.as_deref()), (Some(&b"mine"[..]), Some("x")));
        let overrides = Overrides { master_file: Some(secret), ..Overrides::default() };
        let refused = Config::default().endpoint("./vm.sock", &overrides);
        assert!(matches!(refused, Err(ConfigError::NoVmId)), "{refused:?}");
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o644, 0o640, 0o604, 0o620] {
            let path = write(dir.path(), "s", "secret", mode);
            let error = read_secret(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("{mode:04o}")) && error.contains("chmod 600"), "{error}");
        }
        let empty = read_secret(&write(dir.path(), "e", "\n", 0o600));
        assert!(matches!(empty, Err(ConfigError::Empty { .. })), "{empty:?}");
        let long = read_secret(&write(dir.path(), "l", &"x".repeat(70_000), 0o600));
        assert!(matches!(long, Err(ConfigError::TooLong { .. })), "{long:?}");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), "c", "[vm.a]\nsocket = 'a'\nsekret_file = 'b'\n", 0o600);
        let error = Config::load(&path).unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("sekret_file"), "{error}");
    }

    #[test]
    fn an_unknown_name_tells_the_known_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), "c", "[vm.a]\nsocket = 'a'\n[vm.b]\nsocket = 'b'\n", 0o600);
        let error = Config::load(&path).unwrap().endpoint("c", &Overrides::default()).unwrap_err().to_string();
        assert!(error.contains("known: a, b"), "{error}");
    }

    #[test]
    fn the_users_file_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("infinihost")).unwrap();
        write(dir.path(), "infinihost/config.toml", "[vm.mine]\nsocket = 'a'\n", 0o600);
        let home = dir.path().as_os_str().to_owned();
        let config = Config::load_default(|name| (name == "XDG_CONFIG_HOME").then(|| home.clone())).unwrap();
        assert_eq!(config.known(), "known: mine");
    }
}
