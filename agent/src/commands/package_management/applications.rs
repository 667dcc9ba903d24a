//! Applications that come beside the system's packages: snap and flatpak.

use std::collections::HashMap;
use std::path::Path;

use super::ApplicationUpdate;
use super::manager::{Package, is_installed};
use super::query::{Query, ask};

const SNAP: &str = "/usr/bin/snap";
const FLATPAK: &str = "/usr/bin/flatpak";

/// What is installed of one kind, and what can be updated of it.
pub struct Applications {
    /// The list.
    pub list: fn() -> Query<Vec<Package>>,
    /// The updates.
    pub updates: fn() -> Query<Vec<ApplicationUpdate>>,
}

/// The kinds that are there, below a root.
pub fn kinds(root: &Path) -> Vec<Applications> {
    let kinds = [
        (SNAP, Applications { list: snaps, updates: snap_updates }),
        (FLATPAK, Applications { list: flatpaks, updates: flatpak_updates }),
    ];
    kinds.into_iter().filter(|(program, _)| is_installed(root, program)).map(|(_, kind)| kind).collect()
}

fn snap_list() -> super::query::Ask {
    ask(SNAP, &["list", "--unicode=never", "--color=never"])
}

fn snaps() -> Query<Vec<Package>> {
    Query::new([snap_list()], |texts| Ok(snap_packages(&texts[0])))
}

fn snap_updates() -> Query<Vec<ApplicationUpdate>> {
    let refresh = ask(SNAP, &["refresh", "--list", "--unicode=never", "--color=never"]);
    Query::new([snap_list(), refresh], |texts| Ok(updates(snap_packages(&texts[0]), snap_rows(&texts[1]))))
}

/// The names and the versions below a table's head, with the publisher where the table has one there.
fn snap_rows(text: &str) -> impl Iterator<Item = (String, String)> {
    let rows = text.lines().skip_while(|line| !line.starts_with("Name ")).skip(1);
    rows.filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    })
}

fn snap_packages(text: &str) -> Vec<Package> {
    let publishers = text.lines().map(|line| line.split_whitespace().nth(4).map(|name| name.trim_end_matches('*')));
    let head = text.lines().take_while(|line| !line.starts_with("Name ")).count() + 1;
    let package = |((name, version), publisher): ((String, String), Option<&str>)| Package {
        publisher: publisher.map(str::to_owned),
        ..package(name, version, "snap")
    };
    snap_rows(text).zip(publishers.skip(head)).map(package).collect()
}

fn flatpak_list() -> super::query::Ask {
    ask(FLATPAK, &["list", "--app", "--columns=application,name,version,origin,description"])
}

fn flatpaks() -> Query<Vec<Package>> {
    Query::new([flatpak_list()], |texts| Ok(flatpak_packages(&texts[0])))
}

fn flatpak_updates() -> Query<Vec<ApplicationUpdate>> {
    let remote = ask(FLATPAK, &["remote-ls", "--app", "--updates", "--columns=application,name,version"]);
    Query::new([flatpak_list(), remote], |texts| {
        let available = flatpak_packages(&texts[1]).into_iter().map(|package| (package.name, package.version));
        Ok(updates(flatpak_packages(&texts[0]), available))
    })
}

fn flatpak_packages(text: &str) -> Vec<Package> {
    text.lines().filter_map(flatpak_package).collect()
}

fn flatpak_package(line: &str) -> Option<Package> {
    let mut columns = line.split('\t').map(|column| Some(column.to_owned()).filter(|column| !column.is_empty()));
    let mut next = || columns.next().flatten();
    let (id, name, version, origin, about) = (next()?, next(), next(), next(), next());
    Some(Package {
        publisher: origin,
        description: about.or(name),
        ..package(id, version.unwrap_or_default(), "flatpak")
    })
}

fn package(name: String, version: String, source: &'static str) -> Package {
    Package { name, version, installed: true, source, ..Package::default() }
}

/// What is installed in another version than the one that is available.
fn updates(installed: Vec<Package>, available: impl Iterator<Item = (String, String)>) -> Vec<ApplicationUpdate> {
    let installed: HashMap<String, Package> =
        installed.into_iter().map(|package| (package.name.clone(), package)).collect();
    let update = |(name, available_version): (String, String)| {
        let own = installed.get(&name)?;
        let (id, current_version) = (format!("{}:{name}", own.source), own.version.clone());
        Some(ApplicationUpdate { id, name, current_version, available_version })
    };
    available.filter_map(update).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_listed_and_updated() {
        let recorded = super::super::tests::recorded;
        let snaps = snap_packages(&recorded("snap", "list.txt"));
        assert_eq!(snaps.len(), 3, "{snaps:?}");
        assert_eq!((snaps[1].version.as_str(), snaps[1].publisher.as_deref()), ("126.0-2", Some("mozilla")));
        let refresh = recorded("snap", "updates.txt");
        let [firefox] = &updates(snaps, snap_rows(&refresh))[..] else { panic!("one snap has an update") };
        assert_eq!((firefox.id.as_str(), firefox.available_version.as_str()), ("snap:firefox", "127.0-1"));
        assert_eq!(snap_packages("No snaps are installed yet.\n"), []);

        let flatpaks = flatpak_packages(&recorded("flatpak", "list.txt"));
        assert_eq!(flatpaks[1].description.as_deref(), Some("VLC media player"), "{flatpaks:?}");
        let bare = flatpak_package("org.x.Y\tY\t\t").unwrap();
        assert_eq!((bare.version.as_str(), bare.publisher), ("", None));
    }
}
