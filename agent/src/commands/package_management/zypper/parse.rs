//! What zypper prints, mostly as XML.

use std::collections::{HashMap, HashSet};

use jiff::tz::TimeZone;
use roxmltree::{Document, Node};

use crate::commands::outcome::CommandError;
use crate::commands::package_management::logs::local_time;
use crate::commands::package_management::manager::{
    Importance, LogTexts, Package, PastUpdate, PendingUpdate, UpdateResult,
};

fn document(text: &str) -> Result<Document<'_>, CommandError> {
    Document::parse(text).map_err(|error| CommandError::failed(format!("zypper's answer makes no sense: {error}")))
}

fn elements<'a>(document: &'a Document<'a>, name: &'static str) -> impl Iterator<Item = Node<'a, 'a>> {
    document.descendants().filter(move |node| node.has_tag_name(name))
}

fn attribute(node: Node<'_, '_>, name: &str) -> Option<String> {
    node.attribute(name).map(str::to_owned)
}

/// `search --details`, which has versions, and `search`, which has summaries.
pub fn search(details: &str, summaries: &str) -> Result<Vec<Package>, CommandError> {
    let (details, summaries) = (document(details)?, document(summaries)?);
    let summaries: HashMap<&str, &str> = elements(&summaries, "solvable")
        .filter_map(|node| Some((node.attribute("name")?, node.attribute("summary")?)))
        .collect();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut packages: Vec<Package> = Vec::new();
    for package in elements(&details, "solvable").filter_map(|node| found(node, &summaries)) {
        // Several versions may be there: the installed one counts, else the first, which is the newest.
        match places.get(&package.name) {
            Some(&place) if package.installed => packages[place] = package,
            Some(_) => {}
            None => {
                places.insert(package.name.clone(), packages.len());
                packages.push(package);
            }
        }
    }
    Ok(packages)
}

fn found(node: Node<'_, '_>, summaries: &HashMap<&str, &str>) -> Option<Package> {
    let name = node.attribute("name")?;
    Some(Package {
        name: name.to_owned(),
        version: attribute(node, "edition")?,
        description: summaries.get(name).map(|&summary| summary.to_owned()),
        installed: node.attribute("status") == Some("installed"),
        source: "zypper",
        ..Package::default()
    })
}

/// Whether a search found exactly this name.
pub fn has_name(text: &str, name: &str) -> Result<bool, CommandError> {
    let document = document(text)?;
    Ok(elements(&document, "solvable").any(|node| node.attribute("name") == Some(name)))
}

/// `list-updates`, `list-patches`, and what the security patches would bring.
pub fn updates(updates: &str, patches: &str, security: &str) -> Result<Vec<PendingUpdate>, CommandError> {
    let (updates, patches, security) = (document(updates)?, document(patches)?, document(security)?);
    let brought: HashSet<&str> = elements(&security, "solvable").filter_map(|node| node.attribute("name")).collect();
    let needed = elements(&patches, "update").filter(|node| node.attribute("category") == Some("security"));
    // Which patch brings which package is not told, so the weightiest patch counts for all.
    let weight = needed.map(|node| Importance::of(node.attribute("severity").unwrap_or_default(), true)).max();
    let update = |node: Node<'_, '_>| {
        let (name, to) = (node.attribute("name")?, node.attribute("edition")?);
        let security = brought.contains(name);
        let importance = if security { weight.unwrap_or(Importance::Important) } else { Importance::Low };
        Some(PendingUpdate { security, importance, ..PendingUpdate::of(name, node.attribute("edition-old"), to) })
    };
    Ok(elements(&updates, "update").filter_map(update).collect())
}

/// `needs-rebooting`
pub fn reboot(text: &str) -> Option<bool> {
    if text.contains("not necessary") {
        return Some(false);
    }
    text.contains("Reboot is").then_some(true)
}

/// `/var/log/zypp/history`: `TIME|install|NAME|VERSION|...`. An update is an install of what the log installed before, or that a command
/// said to be an update.
pub fn history(logs: &LogTexts, zone: &TimeZone) -> Vec<PastUpdate> {
    let mut lines: Vec<&str> =
        logs.iter().flatten().flat_map(|text| text.lines()).filter(|line| !line.starts_with('#')).collect();
    lines.sort_by_key(|line| line.split('|').next());
    let mut seen = HashSet::new();
    let mut by_update = false;
    lines.into_iter().filter_map(|line| entry(line, zone, &mut seen, &mut by_update)).collect()
}

fn entry<'a>(line: &'a str, zone: &TimeZone, seen: &mut HashSet<&'a str>, by_update: &mut bool) -> Option<PastUpdate> {
    let fields: Vec<&str> = line.split('|').map(str::trim).collect();
    match fields.as_slice() {
        [_, "command", _, command, ..] => {
            *by_update =
                ["'update'", "'up'", "'patch'", "'dup'", "'dist-upgrade'"].iter().any(|word| command.contains(word));
            None
        }
        [time, "install", name, version, ..] => {
            let was_there = !seen.insert(*name);
            let date = local_time(time, zone).filter(|_| was_there || *by_update)?;
            let (title, version) = (format!("{name} {version}"), Some((*version).to_owned()));
            Some(PastUpdate { title, date, result: UpdateResult::Succeeded, version })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(name: &str) -> String {
        crate::commands::package_management::tests::recorded("zypper", name)
    }

    #[test]
    fn a_search_tells_each_package_once() {
        let packages = search(&recorded("search.xml"), &recorded("search-summaries.xml")).unwrap();
        let told: Vec<_> = packages.iter().map(|p| (p.name.as_str(), p.version.as_str(), p.installed)).collect();
        let wanted = [("htop-demo", "3.2.1-1", true), ("kernel-demo", "6.1.2-1", false)];
        assert_eq!(told.len(), 5, "{told:?}");
        assert_eq!(told[1..3], wanted);
        assert_eq!(packages[0].description.as_deref(), Some("A compiler with a plus in its name"));
    }

    #[test]
    fn only_the_name_itself_counts() {
        assert!(has_name(&recorded("exists.xml"), "g++-demo").unwrap());
        assert!(!has_name(&recorded("exists.xml"), "g++").unwrap());
        assert!(!has_name(&recorded("exists-nosuch.xml"), "nosuch").unwrap());
        assert!(has_name("<stream>", "x").unwrap_err().sentence.contains("makes no sense"));
    }

    #[test]
    fn what_a_security_patch_brings_is_marked() {
        let updates = updates(&recorded("updates.xml"), &recorded("patches.xml"), &recorded("security.xml")).unwrap();
        let told: Vec<_> = updates.iter().map(|u| (u.title.as_str(), u.security, u.importance)).collect();
        let wanted = [
            ("htop-demo 3.2.1-1 -> 3.2.2-1", false, Importance::Low),
            ("openssl-demo 3.0.1-1 -> 3.0.7-2", true, Importance::Important),
        ];
        assert_eq!(told, wanted);
    }

    #[test]
    fn the_words_tell_whether_to_boot_anew() {
        assert_eq!(
            reboot("No core libraries or services have been updated.\nReboot is probably not necessary.\n"),
            Some(false)
        );
        assert_eq!(reboot("Reboot is required to ensure that your system benefits from these updates.\n"), Some(true));
        assert_eq!(reboot("Unknown command 'needs-rebooting'\n"), None);
    }

    #[test]
    fn the_past_tells_updates_from_first_installs() {
        let updates = history(&[vec![recorded("history")]], &TimeZone::UTC);
        let told: Vec<_> = updates.iter().map(|update| update.title.as_str()).collect();
        assert_eq!(told[0], "htop-demo 3.2.2-1", "{updates:?}");
        assert!(!told.contains(&"g++-demo 12.2-1"), "{told:?}");
    }
}
