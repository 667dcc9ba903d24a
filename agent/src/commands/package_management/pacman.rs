//! pacman. It tells no security updates from others.

use jiff::tz::TimeZone;

use super::logs::{local_time, zoned_time};
use super::manager::{
    Change, History, LogTexts, Package, PackageManager, PastUpdate, PendingUpdate, Step, UpdateResult,
};
use super::query::{Ask, Query, ask, ask_fine};
use super::words::SearchWords;
use crate::commands::validation::PackageName;

/// What tells that this manager is here.
pub const PROGRAM: &str = "/usr/bin/pacman";

/// pacman.
#[derive(Debug)]
pub struct Pacman;

/// 1 stands for "nothing found", too.
fn seek(arguments: &[&str]) -> Ask {
    ask_fine(PROGRAM, arguments, &[0, 1])
}

impl PackageManager for Pacman {
    fn name(&self) -> &'static str {
        "pacman"
    }

    fn list(&self) -> Query<Vec<Package>> {
        Query::new([ask(PROGRAM, &["-Q"])], |texts| Ok(list(&texts[0])))
    }

    fn search(&self, words: &SearchWords) -> Query<Vec<Package>> {
        let escaped = words.escaped();
        let arguments: Vec<&str> = ["-Ss", "--"].into_iter().chain(escaped.iter().map(String::as_str)).collect();
        Query::new([seek(&arguments)], |texts| Ok(search(&texts[0])))
    }

    /// `-Si` and `-Q` compare whole names and know neither groups nor what packages provide (pacman 6.0); where there is a package of
    /// that name, `-S` takes it before a group.
    fn exists(&self, name: &PackageName) -> Query<bool> {
        let wanted = name.clone();
        Query::new([seek(&["-Q", "--", name.as_str()]), seek(&["-Si", "--", name.as_str()])], move |texts| {
            Ok(version(&texts[0], wanted.as_str()).is_some() || has_name(&texts[1], wanted.as_str()))
        })
    }

    fn installed(&self, name: &PackageName) -> Query<Option<String>> {
        let wanted = name.clone();
        Query::new([seek(&["-Q", "--", name.as_str()])], move |texts| Ok(version(&texts[0], wanted.as_str())))
    }

    fn updates(&self) -> Query<Vec<PendingUpdate>> {
        Query::new([seek(&["-Qu"])], |texts| Ok(updates(&texts[0])))
    }

    fn history(&self) -> History {
        History::Logs(&["var/log/pacman.log"], history)
    }

    /// The index is refreshed only where all is updated: a newer package on older libraries is what Arch does not support.
    fn change(&self, change: &Change) -> Step {
        const FETCH: [&str; 4] = ["-S", "--noconfirm", "--noprogressbar", "--needed"];
        let arguments = match change {
            Change::Install(name) | Change::Update(name) => [&FETCH[..], &["--", name.as_str()]].concat(),
            Change::Remove(name) => vec!["-R", "--noconfirm", "--noprogressbar", "--", name.as_str()],
            Change::UpdateAll => vec!["-Syu", "--noconfirm", "--noprogressbar"],
            Change::Repair => return self.repair(),
        };
        Step::new(PROGRAM, arguments)
    }

    /// A pacman that was killed leaves its lock behind, and no other starts until it is gone.
    fn repair(&self) -> Step {
        Step::new("/usr/bin/rm", ["-f", "--", "/var/lib/pacman/db.lck"])
    }
}

fn list(text: &str) -> Vec<Package> {
    let rows = text.lines().filter_map(|line| line.split_once(' '));
    rows.map(|(name, version)| package(name, version, true)).collect()
}

fn package(name: &str, version: &str, installed: bool) -> Package {
    Package { name: name.to_owned(), version: version.to_owned(), installed, source: "pacman", ..Package::default() }
}

fn version(text: &str, name: &str) -> Option<String> {
    list(text).into_iter().find(|package| package.name == name).map(|package| package.version)
}

fn has_name(text: &str, name: &str) -> bool {
    let names = text.lines().filter_map(|line| line.split_once(':')).filter(|(key, _)| key.trim() == "Name");
    names.into_iter().any(|(_, value)| value.trim() == name)
}

/// `REPO/NAME VERSION (GROUPS) [installed: VERSION]`, then an indented line about it.
fn search(text: &str) -> Vec<Package> {
    let mut packages: Vec<Package> = Vec::new();
    for line in text.lines() {
        if let (true, Some(package)) = (line.starts_with(' '), packages.last_mut()) {
            package.description = Some(line.trim().to_owned());
        } else {
            packages.extend(found(line));
        }
    }
    packages
}

fn found(line: &str) -> Option<Package> {
    let (_, rest) = line.split_once('/')?;
    let mut words = rest.split(' ');
    let (name, version) = (words.next()?, words.next()?);
    let installed = rest.split_once(" [installed").map(|(_, mark)| mark.trim_start_matches(": ").trim_end_matches(']'));
    let version = installed.filter(|own| !own.is_empty()).unwrap_or(version);
    Some(package(name, version, installed.is_some()))
}

/// `NAME OLD -> NEW`, with `[ignored]` where the administrator holds it back.
fn updates(text: &str) -> Vec<PendingUpdate> {
    let update = |line: &str| {
        let (name, versions) = line.split_once(' ')?;
        let (from, to) = versions.split_once(" -> ")?;
        (!to.contains(' ')).then(|| PendingUpdate::of(name, Some(from), to))
    };
    text.lines().filter_map(update).collect()
}

/// `[TIME] [ALPM] upgraded NAME (OLD -> NEW)`; before pacman 5.2 the time has no zone.
fn history(logs: &LogTexts, zone: &TimeZone) -> Vec<PastUpdate> {
    logs.iter().flatten().flat_map(|text| text.lines().filter_map(|line| upgraded(line, zone))).collect()
}

fn upgraded(line: &str, zone: &TimeZone) -> Option<PastUpdate> {
    let (time, upgrade) = line.strip_prefix('[')?.split_once("] [ALPM] upgraded ")?;
    let (name, versions) = upgrade.split_once(" (")?;
    let (from, to) = versions.trim_end_matches(')').split_once(" -> ")?;
    let date = zoned_time(time).or_else(|| local_time(time, zone))?;
    let title = format!("{name} {from} -> {to}");
    Some(PastUpdate { title, date, result: UpdateResult::Succeeded, version: Some(to.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(name: &str) -> String {
        super::super::tests::recorded("pacman", name)
    }

    #[test]
    fn names_are_whole_and_lists_are_read() {
        assert_eq!(version(&recorded("installed.txt"), "htop-demo").as_deref(), Some("3.2.2-1"));
        assert_eq!(version(&recorded("installed-nosuch.txt"), "nosuch"), None);
        assert!(has_name(&recorded("exists.txt"), "g++-demo") && !has_name(&recorded("exists.txt"), "cxx-compiler"));
        assert_eq!(list(&recorded("list.txt")).len(), 2);
    }

    #[test]
    fn a_search_has_descriptions_and_own_versions() {
        let text = recorded("search.txt") + "extra/vim 9.1-1 [installed: 9.0-1]\n    An editor\n";
        let packages = search(&text);
        let told: Vec<_> = packages.iter().map(|p| (p.name.as_str(), p.version.as_str(), p.installed)).collect();
        assert_eq!(told[0], ("g++-demo", "12.2-1", false), "{told:?}");
        assert_eq!(told.last(), Some(&("vim", "9.0-1", true)));
        assert_eq!(packages[0].description.as_deref(), Some("A compiler with a plus in its name"));
    }

    #[test]
    fn updates_and_past_are_read() {
        let updates = updates(&(recorded("updates.txt") + "linux 6.1-1 -> 6.2-1 [ignored]\n"));
        let titles: Vec<_> = updates.iter().map(|update| update.title.as_str()).collect();
        assert_eq!(titles, ["htop-demo 3.2.1-1 -> 3.2.2-1", "openssl-demo 3.0.1-1 -> 3.0.7-2"]);
        let old = "[2019-01-02 03:04] [ALPM] upgraded vim (8.0-1 -> 8.1-1)\n";
        let past = history(&[vec![recorded("pacman.log") + old]], &TimeZone::UTC);
        let dates: Vec<_> = past.iter().map(|update| update.date.to_string()).collect();
        assert_eq!(dates, ["2026-11-24T04:55:09.000Z", "2026-11-24T04:55:09.000Z", "2019-01-02T03:04:00.000Z"]);
    }
}
