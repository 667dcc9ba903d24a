//! What makes the agent this machine's. Nothing of it is written any more by then.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::super::OwnFiles;
use crate::auth::secret::CREDENTIAL;
use crate::auth::{audit, replay};
use crate::collector::linux::Roots;
use crate::commands::audit as command_audit;
use crate::commands::ids;
use crate::commands::outcome::CommandError;
use crate::config;

/// Where systemd looks for the credential that the unit asks for: systemd.exec(5), `LoadCredential=`.
const CREDENTIAL_STORES: [&str; 5] =
    ["/etc/credstore", "/etc/credstore.encrypted", "/run/credstore", "/usr/local/lib/credstore", "/usr/lib/credstore"];

/// Removes the secret wherever the agent looks for it, its bytes first.
pub fn remove_secret(roots: &Roots, own: &OwnFiles) -> Result<String, CommandError> {
    let stores = CREDENTIAL_STORES.iter().map(|folder| Path::new(folder).join(CREDENTIAL));
    let mut report = Report::default();
    for path in std::iter::once(own.secret.clone()).chain(stores) {
        report.took(&path, erase(&roots.file(&path)));
    }
    if let Some(name) = own.secret_variable {
        report.problem(format!(
            "it came in the environment variable {name}: unset it where the service gets it, or clones have it"
        ));
    }
    report.end("removed", "there was no secret in a file")
}

/// Removes the machine's id from the configuration, and leaves all else there as it was.
pub fn remove_vm_id(roots: &Roots, own: &OwnFiles) -> Result<String, CommandError> {
    let mut report = Report::default();
    if let Some(path) = &own.config {
        report.took(path, rewrite(&roots.file(path)));
    }
    if let Some(name) = own.vm_id_variable {
        report.problem(format!(
            "it came in the environment variable {name}: unset it where the service gets it, or clones have it"
        ));
    }
    report.end("taken out of", "no vm_id is configured")
}

/// Removes what the agent remembers, and both audits. The default folder is the agent's alone and is emptied; of one that the
/// configuration names only the agent's files go, for a wrong line there must not cost a folder.
pub fn remove_state(roots: &Roots, own: &OwnFiles) -> Result<String, CommandError> {
    let is_default = own.state == config::Config::default().state_dir;
    let names = if is_default { entries(&roots.file(&own.state)) } else { known(roots, &own.state) };
    let mut report = Report::default();
    for path in names.into_iter().map(|name| own.state.join(name)) {
        report.took(&path, remove(&roots.file(&path), is_default));
    }
    report.end("removed", "there was nothing")
}

/// What the agent makes there, as far as it is there.
fn known(roots: &Roots, state: &Path) -> Vec<PathBuf> {
    let folder = command_audit::folder(Path::new(""));
    let audited = command_audit::files(&roots.file(command_audit::folder(state))).unwrap_or_default();
    let in_folder = audited.into_iter().map(|name| folder.join(name));
    let names = replay::FILES.iter().chain(&audit::FILES).chain([&ids::FILE]).map(PathBuf::from);
    in_folder.chain([folder.clone()]).chain(names).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.file_name().into())).collect();
    names.sort_unstable();
    names
}

/// Removes a file or a folder, one with something in it only where `all` goes; gives whether there was one.
fn remove(path: &Path, all: bool) -> io::Result<bool> {
    let is_folder = path.symlink_metadata().is_ok_and(|found| found.is_dir());
    let removed = match (is_folder, all) {
        (true, true) => fs::remove_dir_all(path),
        (true, false) => fs::remove_dir(path),
        (false, _) => fs::remove_file(path),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        removed => gone(removed),
    }
}

/// Whether something was removed.
fn gone(removed: io::Result<()>) -> io::Result<bool> {
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Overwrites a file and removes it; gives whether there was one. What a file system keeps elsewhere of it is out of reach.
fn erase(path: &Path) -> io::Result<bool> {
    let found = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found?,
    };
    if found.is_symlink() {
        let target = fs::read_link(path)?;
        fs::remove_file(path)?;
        let sentence = format!("it was a link and is removed; the secret is still in {}", target.display());
        return Err(io::Error::other(sentence));
    }
    let no_link = OFlags::NOFOLLOW.bits().cast_signed();
    let overwritten = OpenOptions::new().write(true).custom_flags(no_link).open(path).and_then(|mut file| {
        file.write_all(&vec![0; usize::try_from(found.len()).unwrap_or_default()])?;
        file.sync_all()
    });
    fs::remove_file(path)?;
    overwritten.map(|()| true)
}

/// Writes the configuration without `vm_id`; gives whether there was one.
fn rewrite(path: &Path) -> io::Result<bool> {
    let path = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        path => path?,
    };
    let text = fs::read_to_string(&path)?;
    let Some(without) = config::without(&text, "vm_id").map_err(io::Error::other)? else { return Ok(false) };
    let before = fs::metadata(&path)?;
    let beside = path.with_extension("toml.new");
    gone(fs::remove_file(&beside))?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(without.as_bytes())?;
    fchown(&file, Some(before.uid()), Some(before.gid()))?;
    file.set_permissions(Permissions::from_mode(before.mode() & 0o7777))?;
    file.sync_all()?;
    fs::rename(&beside, &path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())?;
    Ok(true)
}

/// What was removed and what could not be.
#[derive(Default)]
struct Report {
    removed: Vec<String>,
    problems: Vec<String>,
}

impl Report {
    fn took(&mut self, path: &Path, removed: io::Result<bool>) {
        match removed {
            Ok(true) => self.removed.push(path.display().to_string()),
            Ok(false) => {}
            Err(error) => self.problem(format!("{}: {error}", path.display())),
        }
    }

    fn problem(&mut self, problem: String) {
        self.problems.push(problem);
    }

    fn end(self, done: &str, nothing: &str) -> Result<String, CommandError> {
        let done =
            if self.removed.is_empty() { nothing.to_owned() } else { format!("{done} {}", self.removed.join(", ")) };
        if self.problems.is_empty() {
            return Ok(done);
        }
        Err(CommandError::failed(format!("{}; {done}", self.problems.join("; "))))
    }
}
