//! Where the shared secret comes from: the environment, a systemd credential, or a file that only root can read.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use infini_protocol::envelope::Key;
use zeroize::Zeroizing;

/// The environment variable that provisioning may hand the secret over in.
pub const SECRET_VARIABLE: &str = "INFINISERVICE_SHARED_SECRET";

/// The name of the systemd credential.
pub const CREDENTIAL: &str = "infiniservice.secret";

/// Longer is surely another file.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// A secret and where it was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The secret.
    pub key: Key,
    /// For people: where it came from.
    pub origin: String,
}

/// Why a secret that is there cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Others can read it, so it is no secret.
    #[error("{} can be read by others than its owner (mode {mode:o}); run: chmod 600 {}", path.display(), path.display())]
    ReadableByOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Its owner is neither root nor the agent's user and could change it.
    #[error("{} belongs to user {owner}, not to root; run: chown root {}", path.display(), path.display())]
    WrongOwner {
        /// The file.
        path: PathBuf,
        /// Its owner's id.
        owner: u32,
    },
    /// It cannot be read at all.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds nothing.
    #[error("{origin} is empty")]
    Empty {
        /// What is empty.
        origin: String,
    },
    /// It is no secret but some large file.
    #[error("{} is over 64 KiB", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

/// Looks for the secret: the environment first (`from_environment`), then the credential in systemd's folder, then the file.
///
/// # Errors
/// Where one is there but cannot be used; the places after it are not tried, so that a mistake is seen.
pub fn find(
    from_environment: Option<Zeroizing<Vec<u8>>>,
    credentials: Option<&Path>,
    secret_file: &Path,
) -> Result<Option<Found>, SecretError> {
    if let Some(secret) = from_environment {
        return found(&secret, format!("the environment variable {SECRET_VARIABLE}")).map(Some);
    }
    if let Some(folder) = credentials {
        // systemd keeps credentials in a folder that only the unit can enter; their mode is its own affair.
        if let Some(secret) = read(&folder.join(CREDENTIAL), |_, _| Ok(()))? {
            return found(&secret, format!("the systemd credential {CREDENTIAL}")).map(Some);
        }
    }
    match read(secret_file, only_for_its_owner)? {
        Some(secret) => found(&secret, format!("the file {}", secret_file.display())).map(Some),
        None => Ok(None),
    }
}

fn found(secret: &[u8], origin: String) -> Result<Found, SecretError> {
    match Key::from_provisioned(secret) {
        Ok(key) => Ok(Found { key, origin }),
        Err(_) => Err(SecretError::Empty { origin }),
    }
}

type Check = fn(&Path, &std::fs::Metadata) -> Result<(), SecretError>;

fn read(path: &Path, check: Check) -> Result<Option<Zeroizing<Vec<u8>>>, SecretError> {
    let failed = |source| SecretError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // What was opened is what is checked: a path can be made to mean another file in between.
    check(path, &file.metadata().map_err(failed)?)?;
    let mut secret = Zeroizing::new(Vec::with_capacity(256));
    file.take(MAX_SECRET_BYTES + 1).read_to_end(&mut secret).map_err(failed)?;
    if secret.len() as u64 > MAX_SECRET_BYTES {
        return Err(SecretError::TooLong { path: path.to_owned() });
    }
    Ok(Some(secret))
}

fn only_for_its_owner(path: &Path, metadata: &std::fs::Metadata) -> Result<(), SecretError> {
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretError::ReadableByOthers { path: path.to_owned(), mode });
    }
    if metadata.uid() != 0 && metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(SecretError::WrongOwner { path: path.to_owned(), owner: metadata.uid() });
    }
    Ok(())
}

/// Takes the secret out of the environment: its value is returned and its bytes are overwritten where the kernel shows them
/// (`/proc/PID/environ`), so that neither a child nor a look at the process finds them.
///
/// # Errors
/// Where the process cannot overwrite its own environment. The secret is still in it then.
pub fn take_from_environment() -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    take_from(Path::new("/proc/self"))
}

/// The same of the process whose folder in `/proc` this is. Its memory is opened only where there is a secret to overwrite: hardened
/// systems deny that, and an agent whose secret is in a file must start there all the same.
fn take_from(process: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut block = Zeroizing::new(Vec::new());
    File::open(process.join("environ"))?.read_to_end(&mut block)?;
    let values = secret_values(&block);
    let Some(first) = values.first() else { return Ok(None) };
    let memory = OpenOptions::new().write(true).open(process.join("mem"))?;
    let base = environment_address(process)?;
    for value in &values {
        memory.write_all_at(&vec![0; value.len()], base + value.start as u64)?;
    }
    Ok(Some(Zeroizing::new(block[first.clone()].to_vec())))
}

/// Where in the environment the variable's value stands; a name may be there more than once.
fn secret_values(block: &[u8]) -> Vec<Range<usize>> {
    let mut values = Vec::new();
    let mut start = 0;
    for entry in block.split(|&byte| byte == 0) {
        let end = start + entry.len();
        let value = entry.strip_prefix(SECRET_VARIABLE.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            values.push(end - value.len()..end);
        }
        start = end + 1;
    }
    values
}

/// Where the kernel put the environment of the process: the field `env_start` of `/proc/PID/stat`, proc(5).
fn environment_address(process: &Path) -> io::Result<u64> {
    const ENV_START_AFTER_NAME: usize = 47;
    let stat = std::fs::read_to_string(process.join("stat"))?;
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let address = fields.split(' ').nth(ENV_START_AFTER_NAME).and_then(|field| field.parse().ok());
    address.ok_or_else(|| io::Error::other("/proc/PID/stat does not say where the environment is"))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn secret_file(folder: &Path, content: &str, mode: u32) -> PathBuf {
        let path = folder.join("secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn no_secret_anywhere_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(find(None, Some(folder.path()), &folder.path().join("secret")).unwrap().is_none());
    }

    #[test]
    fn the_line_break_of_a_file_is_not_part_of_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = secret_file(folder.path(), "s3cret\n", 0o600);
        let found = find(None, None, &path).unwrap().unwrap();
        assert_eq!(found.key.expose(), b"s3cret");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o640, 0o604, 0o644, 0o660] {
            let path = secret_file(folder.path(), "s3cret", mode);
            let error = find(None, None, &path).unwrap_err();
            assert!(error.to_string().contains("chmod 600"), "{error}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn an_empty_secret_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = secret_file(folder.path(), "\n", 0o600);
        assert!(matches!(find(None, None, &path), Err(SecretError::Empty { .. })));
    }

    #[test]
    fn the_environment_goes_before_the_credential_and_that_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = secret_file(folder.path(), "from-file", 0o600);
        fs::write(folder.path().join(CREDENTIAL), "from-credential").unwrap();
        let environment = Some(Zeroizing::new(b"from-environment".to_vec()));
        let key = |found: Option<Found>| found.unwrap().key.expose().to_vec();
        assert_eq!(key(find(environment, Some(folder.path()), &path).unwrap()), b"from-environment");
        assert_eq!(key(find(None, Some(folder.path()), &path).unwrap()), b"from-credential");
        assert_eq!(key(find(None, None, &path).unwrap()), b"from-file");
    }

    #[test]
    fn the_memory_is_opened_only_where_a_secret_is_to_be_overwritten() {
        let process = tempfile::tempdir().unwrap();
        let at = |file: &str| process.path().join(file);
        fs::write(at("environ"), format!("PATH=/bin\0{SECRET_VARIABLE}=\0X{SECRET_VARIABLE}=x\0")).unwrap();
        // Without `mem` and `stat` whoever opens them fails.
        let taken = take_from(process.path());
        assert!(matches!(taken, Ok(None)), "{taken:?}");

        let environment = format!("PATH=/bin\0{SECRET_VARIABLE}=s3cret\0HOME=/\0{SECRET_VARIABLE}=again\0");
        fs::write(at("environ"), &environment).unwrap();
        let taken = take_from(process.path());
        assert!(taken.is_err(), "a secret that could not be overwritten was taken: {taken:?}");

        fs::write(at("mem"), &environment).unwrap();
        fs::write(at("stat"), format!("1 (a) b) S{}\n", " 0".repeat(60))).unwrap();
        let taken = take_from(process.path()).unwrap();
        assert_eq!(taken.as_ref().map(|secret| secret.as_slice()), Some(&b"s3cret"[..]));
        let left = String::from_utf8(fs::read(at("mem")).unwrap()).unwrap();
        assert_eq!(left, environment.replace("s3cret", "\0\0\0\0\0\0").replace("again", "\0\0\0\0\0"));
    }
}
