//! dnf: version 4 of RHEL and Fedora up to 40, version 5 after it.

mod parse;

use std::path::Path;

use super::manager::{Change, History, Package, PackageManager, PendingUpdate, Step, is_installed};
use super::query::{Query, ask, ask_fine};
use super::rpm;
use super::words::SearchWords;
use crate::commands::validation::PackageName;

/// What tells that this manager is here. In Fedora 41 and later it is a link to `dnf5`.
pub const PROGRAM: &str = "/usr/bin/dnf";

const FIVE: &str = "/usr/bin/dnf5";

/// repoquery's format with rpm's columns. dnf 4 ends each line of it by itself, dnf 5 does not.
const FOUND: &str = "%{name}\\t%{evr}\\t%{arch}\\t%{installsize}\\t%{vendor}\\t%{summary}\\n";
const UPGRADES: &str = "%{name}\\t%{evr}\\t%{arch}\\t%{downloadsize}\\t%{summary}\\n";

/// dnf.
#[derive(Debug)]
pub struct Dnf {
    is_five: bool,
}

impl Dnf {
    /// The dnf below a root.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { is_five: is_installed(root, FIVE) }
    }
}

impl PackageManager for Dnf {
    fn name(&self) -> &'static str {
        "dnf"
    }

    fn list(&self) -> Query<Vec<Package>> {
        Query::new([rpm::list()], |texts| Ok(rpm::packages(&texts[0], "dnf")))
    }

    fn search(&self, words: &SearchWords) -> Query<Vec<Package>> {
        let words = words.clone();
        let pattern = format!("*{}*", words.words()[0]);
        let asks = [rpm::list(), ask(PROGRAM, &["-q", "repoquery", "--latest-limit=1", "--qf", FOUND, "--", &pattern])];
        Query::new(asks, move |texts| Ok(parse::search(&texts[1], &rpm::packages(&texts[0], "dnf"), &words)))
    }

    /// repoquery takes a name with a version, a pattern or what a package provides as well (dnf 4.14), so what counts is that it prints
    /// exactly this name. What is installed counts too, whatever repository it once came from.
    fn exists(&self, name: &PackageName) -> Query<bool> {
        let wanted = name.clone();
        let available = ask(PROGRAM, &["-q", "repoquery", "--available", "--qf", "%{name}\\n", "--", name.as_str()]);
        Query::new([rpm::named(name), available], move |texts| {
            let is_installed = rpm::version(&texts[0], wanted.as_str()).is_some();
            Ok(is_installed || texts[1].lines().any(|line| line == wanted.as_str()))
        })
    }

    fn installed(&self, name: &PackageName) -> Query<Option<String>> {
        rpm::installed(name)
    }

    fn updates(&self) -> Query<Vec<PendingUpdate>> {
        // dnf 5 cuts words where its table gets too wide, and has JSON instead.
        let advisories: &[&str] = if self.is_five {
            &["-q", "advisory", "list", "--json"]
        } else {
            &["-q", "updateinfo", "list", "--updates"]
        };
        let asks =
            [rpm::list(), ask(PROGRAM, &["-q", "repoquery", "--upgrades", "--qf", UPGRADES]), ask(PROGRAM, advisories)];
        let read = if self.is_five { parse::advisories_of_five } else { parse::advisories };
        Query::new(asks, move |texts| Ok(parse::updates(&texts[1], &rpm::packages(&texts[0], "dnf"), &read(&texts[2]))))
    }

    fn reboot(&self) -> Option<Query<Option<bool>>> {
        // 1 stands for "yes" as well as for "there is no such command", so the words count.
        Some(Query::new([ask_fine(PROGRAM, &["-q", "needs-restarting", "-r"], &[0, 1, 2])], |texts| {
            Ok(parse::reboot(&texts[0]))
        }))
    }

    fn history(&self) -> History {
        if self.is_five {
            let asked = ask_fine(PROGRAM, &["-q", "history", "info", "1..last"], &[0, 1]);
            return History::Asked(Query::new([asked], |texts| Ok(parse::history_of_five(&texts[0]))));
        }
        // `dnf history info` of version 4 joins several transactions into one, and its list names no packages.
        History::Logs(&["var/log/dnf.rpm.log"], parse::history)
    }

    fn change(&self, change: &Change) -> Step {
        // Version 4 can be told that an operand is a name and nothing else; version 5 has no such commands.
        let by_name = |command: &str| if self.is_five { command.to_owned() } else { format!("{command}-n") };
        match change {
            Change::Install(name) => step([by_name("install"), "--".to_owned(), name.to_string()]),
            Change::Remove(name) => step([by_name("remove"), "--".to_owned(), name.to_string()]),
            Change::Update(name) => step(["upgrade".to_owned(), "--".to_owned(), name.to_string()]),
            Change::UpdateAll => step(["--refresh".to_owned(), "upgrade".to_owned()]),
            Change::Repair => self.repair(),
        }
    }

    fn repair(&self) -> Step {
        Step::new("/usr/bin/rpm", ["--rebuilddb"])
    }
}

fn step<const N: usize>(arguments: [String; N]) -> Step {
    Step::new(PROGRAM, ["-y".to_owned()].into_iter().chain(arguments))
}
