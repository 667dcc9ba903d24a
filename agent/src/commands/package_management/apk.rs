//! apk. It tells no security updates from others and keeps no past.

use super::manager::{Change, History, Package, PackageManager, PendingUpdate, Step};
use super::query::{Query, ask};
use super::words::SearchWords;
use crate::commands::validation::PackageName;

/// What tells that this manager is here.
pub const PROGRAM: &str = "/sbin/apk";

/// apk.
#[derive(Debug)]
pub struct Apk;

impl PackageManager for Apk {
    fn name(&self) -> &'static str {
        "apk"
    }

    fn list(&self) -> Query<Vec<Package>> {
        Query::new([ask(PROGRAM, &["list", "-v", "--installed"])], |texts| Ok(packages(&texts[0])))
    }

    fn search(&self, words: &SearchWords) -> Query<Vec<Package>> {
        // apk-list(8): the pattern is one of fnmatch(3), of names alone.
        let (words, pattern) = (words.clone(), format!("*{}*", words.words()[0]));
        Query::new([ask(PROGRAM, &["list", "-v", "--", &pattern])], move |texts| {
            let described =
                |package: &Package| format!("{} {}", package.name, package.description.as_deref().unwrap_or_default());
            let found = newest(packages(&texts[0]));
            Ok(found.into_iter().filter(|package| words.are_in(&described(package))).collect())
        })
    }

    /// `apk list` looks at names, and at what packages provide only with `--providers` (apk-list(8)); a name without a pattern's
    /// characters matches itself alone, and the name is compared once more.
    fn exists(&self, name: &PackageName) -> Query<bool> {
        let wanted = name.clone();
        let parse =
            move |texts: &[String]| Ok(packages(&texts[0]).iter().any(|package| package.name == wanted.as_str()));
        Query::new([ask(PROGRAM, &["list", "--", name.as_str()])], parse)
    }

    fn installed(&self, name: &PackageName) -> Query<Option<String>> {
        let wanted = name.clone();
        Query::new([ask(PROGRAM, &["list", "--installed", "--", name.as_str()])], move |texts| {
            let mut packages = packages(&texts[0]).into_iter();
            Ok(packages
                .find(|package| package.installed && package.name == wanted.as_str())
                .map(|package| package.version))
        })
    }

    fn updates(&self) -> Query<Vec<PendingUpdate>> {
        Query::new([ask(PROGRAM, &["list", "--upgradable"])], |texts| Ok(texts[0].lines().filter_map(update).collect()))
    }

    fn history(&self) -> History {
        History::None
    }

    fn change(&self, change: &Change) -> Step {
        const FRESH: [&str; 2] = ["--no-progress", "--update-cache"];
        let arguments = match change {
            Change::Install(name) => [&FRESH[..], &["add", "--", name.as_str()]].concat(),
            Change::Remove(name) => vec!["--no-progress", "del", "--", name.as_str()],
            // `add --upgrade` would make of what another needed something that was asked for.
            Change::Update(name) => [&FRESH[..], &["upgrade", "--", name.as_str()]].concat(),
            Change::UpdateAll => [&FRESH[..], &["upgrade"]].concat(),
            Change::Repair => return self.repair(),
        };
        Step::new(PROGRAM, arguments)
    }

    fn repair(&self) -> Step {
        Step::new(PROGRAM, ["--no-progress", "fix"])
    }
}

/// `NAME-VERSION ARCH {ORIGIN} (LICENCE) [installed]`, and with `-v` an indented line about it.
fn packages(text: &str) -> Vec<Package> {
    let mut packages: Vec<Package> = Vec::new();
    for line in text.lines() {
        if let (true, Some(package)) = (line.starts_with("  "), packages.last_mut()) {
            package.description = Some(line.trim().to_owned());
        } else {
            packages.extend(package(line));
        }
    }
    packages
}

fn package(line: &str) -> Option<Package> {
    let (name, version) = split(line.split(' ').next()?)?;
    Some(Package {
        name: name.to_owned(),
        version: version.to_owned(),
        installed: line.contains(" [installed]"),
        source: "apk",
        ..Package::default()
    })
}

/// `NAME-VERSION-rN`: neither version nor revision holds a hyphen.
fn split(text: &str) -> Option<(&str, &str)> {
    let (rest, _) = text.rsplit_once('-')?;
    let (name, _) = rest.rsplit_once('-')?;
    Some((name, &text[name.len() + 1..]))
}

/// Of several versions of one name the installed one, else the last, which is the newest.
fn newest(packages: Vec<Package>) -> Vec<Package> {
    let mut kept: Vec<Package> = Vec::with_capacity(packages.len());
    for package in packages {
        match kept.last_mut() {
            Some(last) if last.name == package.name && last.installed => {}
            Some(last) if last.name == package.name => *last = package,
            _ => kept.push(package),
        }
    }
    kept
}

fn update(line: &str) -> Option<PendingUpdate> {
    let (name, to) = split(line.split(' ').next()?)?;
    let (_, from) = line.split_once(" [upgradable from: ")?;
    let (_, from) = split(from.trim_end_matches(']'))?;
    Some(PendingUpdate::of(name, Some(from), to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(name: &str) -> String {
        super::super::tests::recorded("apk", name)
    }

    #[test]
    fn lists_are_read() {
        let list = packages(&recorded("list.txt"));
        let told: Vec<_> = list.iter().map(|p| (p.name.as_str(), p.version.as_str(), p.installed)).collect();
        assert_eq!(
            told,
            [
                ("alpine-baselayout", "3.4.3-r2", true),
                ("busybox", "1.36.1-r15", true),
                ("libc-utils", "0.7.2-r5", true)
            ]
        );
        assert_eq!(list[1].description.as_deref(), Some("Size optimized toolbox of many common UNIX utilities"));
        let found = newest(packages(&recorded("search.txt")));
        let told: Vec<_> = found.iter().map(|p| (p.name.as_str(), p.version.as_str(), p.installed)).collect();
        assert_eq!(told, [("busybox", "1.36.1-r15", true), ("busybox-doc", "1.36.1-r20", false)]);
    }

    #[test]
    fn updates_have_both_versions() {
        let updates: Vec<_> = recorded("updates.txt").lines().filter_map(update).collect();
        let titles: Vec<_> = updates.iter().map(|update| update.title.as_str()).collect();
        assert_eq!(titles, ["busybox 1.36.1-r15 -> 1.36.1-r20", "libcrypto3 3.1.4-r5 -> 3.1.7-r0"]);
    }
}
