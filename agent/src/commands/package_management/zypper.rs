//! zypper.

mod parse;

use super::manager::{Change, History, Package, PackageManager, PendingUpdate, Step};
use super::query::{Ask, Query, ask_fine};
use super::rpm;
use super::words::SearchWords;
use crate::commands::validation::PackageName;

/// What tells that this manager is here.
pub const PROGRAM: &str = "/usr/bin/zypper";

/// zypper(8), exit codes: a reboot is needed, zypper itself must be restarted, repositories were skipped. The work is done all the same.
const DONE: &[i32] = &[0, 102, 103, 106];

/// zypper.
#[derive(Debug)]
pub struct Zypper;

/// 104: nothing was found. The metadata is taken as it is: refreshing takes longer than a read may.
fn xml(arguments: &[&str]) -> Ask {
    let arguments: Vec<&str> =
        ["--xmlout", "--non-interactive", "--no-refresh"].iter().chain(arguments).copied().collect();
    ask_fine(PROGRAM, &arguments, &[0, 100, 101, 102, 104, 106])
}

impl PackageManager for Zypper {
    fn name(&self) -> &'static str {
        "zypper"
    }

    fn list(&self) -> Query<Vec<Package>> {
        Query::new([rpm::list()], |texts| Ok(rpm::packages(&texts[0], "zypper")))
    }

    fn search(&self, words: &SearchWords) -> Query<Vec<Package>> {
        let words: Vec<&str> = words.words().iter().map(String::as_str).collect();
        // One form has versions, the other summaries.
        let with = |options: &[&str]| {
            xml(&[&["search", "--match-substrings", "--type", "package"], options, &["--"], &words].concat())
        };
        Query::new([with(&["--details"]), with(&[])], |texts| parse::search(&texts[0], &texts[1]))
    }

    /// `--match-exact` looks at names alone and leaves out what packages provide (zypper 1.14).
    fn exists(&self, name: &PackageName) -> Query<bool> {
        let wanted = name.clone();
        let options =
            ["search", "--match-exact", "--case-sensitive", "--details", "--type", "package", "--", name.as_str()];
        Query::new([xml(&options)], move |texts| parse::has_name(&texts[0], wanted.as_str()))
    }

    fn installed(&self, name: &PackageName) -> Query<Option<String>> {
        rpm::installed(name)
    }

    fn updates(&self) -> Query<Vec<PendingUpdate>> {
        // Which packages the needed security patches would bring is what a dry run tells.
        let security = xml(&["patch", "--dry-run", "--category", "security"]);
        Query::new([xml(&["list-updates"]), xml(&["list-patches"]), security], |texts| {
            parse::updates(&texts[0], &texts[1], &texts[2])
        })
    }

    fn reboot(&self) -> Option<Query<Option<bool>>> {
        let asked = ask_fine(PROGRAM, &["--non-interactive", "needs-rebooting"], &[0, 102]);
        Some(Query::new([asked], |texts| Ok(parse::reboot(&texts[0]))))
    }

    fn history(&self) -> History {
        History::Logs(&["var/log/zypp/history"], parse::history)
    }

    fn change(&self, change: &Change) -> Step {
        const AGREE: &str = "--auto-agree-with-licenses";
        match change {
            Change::Install(name) => step(&["install", "--name", AGREE, "--", name.as_str()]),
            Change::Remove(name) => step(&["remove", "--name", "--", name.as_str()]),
            Change::Update(name) => step(&["update", AGREE, "--", name.as_str()]),
            Change::UpdateAll => step(&["update", AGREE]),
            Change::Repair => self.repair(),
        }
    }

    fn repair(&self) -> Step {
        step(&["verify"])
    }
}

fn step(arguments: &[&str]) -> Step {
    Step { fine: DONE, ..Step::new(PROGRAM, ["--non-interactive"].iter().chain(arguments)) }
}
