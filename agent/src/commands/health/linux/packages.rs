//! Whether the files of core packages are as they were installed.
//!
//! Every file of every package is minutes of reading, so a fixed list is compared: what an intruder or a failing disk would change first,
//! and what the machine cannot start without. A package manager reads tens of MB for it.

use std::ffi::OsString;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::Why;
use crate::commands::action::Context;
use crate::commands::health::{Finding, Status};
use crate::commands::process_runner::Finished;
use crate::commands::stop::Stop;
use crate::commands::tools;

/// Names of Debian's family, which come first in dpkg's own list of what is essential, and of what lets people in.
const DEBIAN: [&str; 16] = [
    "apt",
    "base-files",
    "base-passwd",
    "bash",
    "bsdutils",
    "coreutils",
    "dpkg",
    "libc6",
    "libpam-modules",
    "login",
    "mount",
    "openssh-server",
    "passwd",
    "sudo",
    "systemd",
    "util-linux",
];

/// The same of Fedora's and SUSE's.
const RPM: [&str; 14] = [
    "bash",
    "coreutils",
    "dnf",
    "filesystem",
    "glibc",
    "openssh-server",
    "pam",
    "rpm",
    "setup",
    "shadow",
    "shadow-utils",
    "sudo",
    "systemd",
    "util-linux",
];

/// What minimal images leave out on purpose (dpkg's path-exclude, rpm's nodocs).
const LEFT_OUT: [&str; 5] =
    ["/usr/share/doc/", "/usr/share/man/", "/usr/share/info/", "/usr/share/locale/", "/usr/share/lintian/"];

/// The most paths that an answer names.
const MOST_PATHS: usize = 50;

/// What stays of the command's time for telling the result.
const RESERVE: Duration = Duration::from_secs(2);

/// A file that is not as its package has it.
#[derive(Debug, PartialEq, Eq)]
struct Difference<'t> {
    path: &'t str,
    /// Missing, or other bytes; otherwise only owner, mode or time.
    is_of_content: bool,
}

pub async fn integrity(context: &Context) -> Result<Finding, Why> {
    let roots = &context.roots;
    let dpkg = |name: &&str| {
        // A package of a foreign architecture has it in its files' names.
        let info = roots.file("/var/lib/dpkg/info");
        [String::new(), format!(":{}", debian_architecture())]
            .iter()
            .any(|of| info.join(format!("{name}{of}.list")).exists())
    };
    let (tool, option, packages): (&str, &str, Vec<&str>) = if tools::installed(roots, "dpkg").is_some() {
        ("dpkg", "--verify", DEBIAN.into_iter().filter(dpkg).collect())
    } else if tools::installed(roots, "rpm").is_some() {
        // It says of those that are not installed that they are not, and goes on.
        ("rpm", "--verify", RPM.to_vec())
    } else {
        return Err(
            "neither dpkg nor rpm is installed; other package managers do not verify single packages".to_owned()
        );
    };
    if packages.is_empty() {
        return Err(format!("{tool} has installed none of the packages that are verified"));
    }
    let finished = verify(context, tool, option, &packages).await?;
    judge(tool, &finished)
}

async fn verify(context: &Context, tool: &str, option: &str, packages: &[&str]) -> Result<Finished, Why> {
    let end = context.stop.deadline().checked_sub(RESERVE).unwrap_or_else(Instant::now);
    let (_order, stop) = Stop::at(end);
    let arguments = [option, "--"].into_iter().chain(packages.iter().copied()).map(OsString::from);
    let finished = tools::run_until(context, stop, tool, arguments).await;
    finished.map_err(|error| format!("{tool} did not verify the packages: {error}; a longer timeout may help"))
}

fn judge(tool: &str, finished: &Finished) -> Result<Finding, Why> {
    let found: Vec<Difference<'_>> = finished.stdout.text.lines().filter_map(difference).collect();
    let is_complaint = |line: &&str| !line.trim().is_empty() && !line.contains("is not installed");
    if found.is_empty() && finished.stderr.text.lines().any(|line| is_complaint(&line)) {
        return Err(tools::complaint(tool, finished).sentence);
    }
    let paths: Vec<&str> = found.iter().take(MOST_PATHS).map(|difference| difference.path).collect();
    let details = json!({ "files": paths, "count": found.len() });
    let changed = found.iter().filter(|difference| difference.is_of_content).count();
    let finding = if changed > 0 {
        let advice = "install their packages anew, or find out who changed them";
        Finding::new(
            Status::Critical,
            format!("files of core packages that are changed or missing: {changed}; {advice}"),
        )
    } else if found.is_empty() {
        return Ok(Finding::new(Status::Healthy, "the files of the core packages are as they were installed"));
    } else {
        let count = found.len();
        Finding::new(Status::Warning, format!("files of core packages with another owner, mode or time: {count}"))
    };
    Ok(finding.with(details))
}

/// `??5?????? c /etc/passwd` or `missing   c /etc/motd`, as dpkg(1) and rpm(8) print it. Configuration is there to be changed, and other
/// marked files (ghosts, documentation) are not meant to be there for sure.
fn difference(line: &str) -> Option<Difference<'_>> {
    let mut words = line.split_whitespace();
    let what = words.next()?;
    let is_flags = what.len() >= 8 && what.chars().all(|c| "SM5DLUGTPc.?".contains(c));
    let path = words.next().filter(|word| word.starts_with('/'))?;
    let path = &line[line.find(path)?..];
    let counts = (is_flags || what == "missing") && !LEFT_OUT.iter().any(|folder| path.starts_with(folder));
    counts.then(|| Difference { path, is_of_content: what == "missing" || what.contains('5') })
}

const fn debian_architecture() -> &'static str {
    match std::env::consts::ARCH.as_bytes() {
        b"aarch64" => "arm64",
        b"x86" => "i386",
        b"arm" => "armhf",
        b"x86_64" => "amd64",
        _ => std::env::consts::ARCH,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::test_machine::TestMachine;

    async fn verified(program: &str, code: i32, stdout: &str, stderr: &str) -> Result<Finding, Why> {
        let list = format!("/var/lib/dpkg/info/libc6:{}.list", debian_architecture());
        let machine = TestMachine::new(&[("/var/lib/dpkg/info/bash.list", ""), (&list, "")]);
        integrity(&machine.program(program, code, stdout, stderr).context()).await
    }

    const DPKG: &str = "dpkg --verify -- bash libc6";

    #[tokio::test]
    async fn contents_count_more_than_modes_and_configuration_not_at_all() {
        let text = "??5?????? c /etc/bash.bashrc\nmissing     /usr/share/doc/bash/README\n";
        let finding = verified(DPKG, 1, text, "").await.unwrap();
        assert_eq!(finding.status, Status::Healthy, "{finding:?}");
        let finding = verified(DPKG, 1, "??5??????   /bin/bash\nmissing     /lib/a b\n", "").await.unwrap();
        assert_eq!(finding.status, Status::Critical, "{finding:?}");
        assert_eq!(finding.details, Some(json!({ "files": ["/bin/bash", "/lib/a b"], "count": 2 })));
    }

    #[tokio::test]
    async fn rpm_says_more_and_knows_not_all() {
        let program = format!("rpm --verify -- {}", RPM.join(" "));
        let text = ".M.......    /usr/bin/sudo\n.......T.  g /var/log/x\npackage dnf is not installed\n";
        let finding = verified(&program, 1, text, "").await.unwrap();
        assert_eq!((finding.status, finding.details.unwrap()["count"].clone()), (Status::Warning, json!(1)));
    }

    #[tokio::test]
    async fn what_cannot_be_verified_is_unknown() {
        let why = verified(DPKG, 2, "", "dpkg: error: no database\n").await.unwrap_err();
        assert!(why.contains("no database"), "{why}");
        let why = verified("pacman -Q", 0, "", "").await.unwrap_err();
        assert!(why.contains("neither dpkg nor rpm"), "{why}");
    }
}
