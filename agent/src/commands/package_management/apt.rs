//! apt and dpkg.

mod history;
mod parse;

use super::manager::{Change, History, Package, PackageManager, PendingUpdate, Step};
use super::query::{Ask, Query, ask, ask_fine};
use super::words::SearchWords;
use crate::commands::process_runner::Program;
use crate::commands::validation::PackageName;

/// What tells that this manager is here.
pub const PROGRAM: &str = "/usr/bin/apt-get";

const APT_CACHE: &str = "/usr/bin/apt-cache";
const DPKG: &str = "/usr/bin/dpkg";
const DPKG_QUERY: &str = "/usr/bin/dpkg-query";

/// dpkg-query(1): one package a line.
const FORMAT: &str = "-f=${Package}\t${Architecture}\t${db:Status-Status}\t${Version}\t${Installed-Size}\t${Maintainer}\t${binary:Summary}\n";

/// Every file of configuration that somebody changed stays as it is, and nobody is asked about it.
const KEEP_FILES: [&str; 2] = ["--force-confdef", "--force-confold"];

/// So long apt waits for another that holds its locks, in seconds; the command's own deadline may come earlier.
const LOCK_TIMEOUT: &str = "DPkg::Lock::Timeout=600";

/// apt and dpkg.
#[derive(Debug)]
pub struct Apt;

/// Whether names without an architecture mean this one.
fn architecture() -> Ask {
    ask(DPKG, &["--print-architecture"])
}

impl PackageManager for Apt {
    fn name(&self) -> &'static str {
        "apt"
    }

    fn list(&self) -> Query<Vec<Package>> {
        Query::new([architecture(), ask(DPKG_QUERY, &["-W", FORMAT])], |texts| {
            Ok(parse::installed(&texts[1], &texts[0]))
        })
    }

    fn search(&self, words: &SearchWords) -> Query<Vec<Package>> {
        // apt-cache(8): each argument is a regular expression, all of which must match.
        let escaped = words.escaped();
        let arguments: Vec<&str> =
            ["search", "--full", "--"].into_iter().chain(escaped.iter().map(String::as_str)).collect();
        let asks = [architecture(), ask(DPKG_QUERY, &["-W", FORMAT]), ask(APT_CACHE, &arguments)];
        Query::new(asks, |texts| Ok(parse::search(&texts[2], &parse::installed(&texts[1], &texts[0]))))
    }

    /// `apt-cache show` takes what is no package's name for a pattern (apt 2.6: `py.hon3` shows `python3`) and ends with 0 for a purely
    /// virtual package, so only a stanza with exactly this name counts. Where there is one, apt-get takes the name as it stands, too:
    /// its suffixes `+` and `-` count only for names that are no package's.
    fn exists(&self, name: &PackageName) -> Query<bool> {
        let (wanted, asked) =
            (name.clone(), ask_fine(APT_CACHE, &["show", "--no-all-versions", "--", name.as_str()], &[0, 100]));
        Query::new([asked], move |texts| Ok(parse::has_stanza(&texts[0], wanted.as_str())))
    }

    fn installed(&self, name: &PackageName) -> Query<Option<String>> {
        let wanted = name.clone();
        let asks = [architecture(), ask_fine(DPKG_QUERY, &["-W", FORMAT, "--", name.as_str()], &[0, 1])];
        Query::new(asks, move |texts| {
            Ok(parse::version(&parse::installed(&texts[1], &texts[0]), wanted.as_str(), &texts[0]))
        })
    }

    fn updates(&self) -> Query<Vec<PendingUpdate>> {
        // dist-upgrade, so that what needs a new package, such as a kernel, is told too.
        let sizes = ask(PROGRAM, &["--print-uris", "-qq", "-y", "dist-upgrade"]);
        Query::new([ask(PROGRAM, &["-s", "-q", "dist-upgrade"]), sizes], |texts| {
            Ok(parse::updates(&texts[0], &texts[1]))
        })
    }

    fn history(&self) -> History {
        History::Logs(&["var/log/apt/history.log", "var/log/dpkg.log"], history::parse)
    }

    fn refresh(&self, change: &Change) -> Option<Program> {
        let is_needed = !matches!(change, Change::Remove(_));
        is_needed.then(|| Program::new(PROGRAM, ["-q", "-o", LOCK_TIMEOUT, "update"]))
    }

    fn change(&self, change: &Change) -> Step {
        match change {
            Change::Install(name) => step(&["install", "--", name.as_str()]),
            Change::Remove(name) => step(&["remove", "--", name.as_str()]),
            Change::Update(name) => step(&["install", "--only-upgrade", "--", name.as_str()]),
            // Brings new packages in, and removes none.
            Change::UpdateAll => step(&["--with-new-pkgs", "upgrade"]),
            Change::Repair => self.repair(),
        }
    }

    fn repair(&self) -> Step {
        unattended(Step::new(DPKG, KEEP_FILES.into_iter().chain(["--configure", "-a"])))
    }
}

fn step(arguments: &[&str]) -> Step {
    let keep = KEEP_FILES.iter().flat_map(|option| ["-o".to_owned(), format!("Dpkg::Options::={option}")]);
    let fixed = ["-y", "-q", "-o", LOCK_TIMEOUT].map(str::to_owned);
    unattended(Step::new(
        PROGRAM,
        fixed.into_iter().chain(keep).chain(arguments.iter().map(|&argument| argument.to_owned())),
    ))
}

/// Nobody is there to answer a question.
fn unattended(step: Step) -> Step {
    step.with("DEBIAN_FRONTEND", "noninteractive").with("APT_LISTCHANGES_FRONTEND", "none")
}
