//! What dnf prints.

use std::collections::HashMap;

use infini_protocol::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::commands::package_management::logs::{local_time, zoned_time};
use crate::commands::package_management::manager::{
    Importance, LogTexts, Package, PastUpdate, PendingUpdate, UpdateResult,
};
use crate::commands::package_management::rpm;
use crate::commands::package_management::words::SearchWords;

/// What the advisories say of a package: whether one mends a flaw, and how much the weightiest matters.
pub type Advisories = HashMap<String, (bool, Importance)>;

/// `repoquery` with the columns of rpm's list.
pub fn search(text: &str, installed: &[Package], words: &SearchWords) -> Vec<Package> {
    let installed: HashMap<&str, &Package> = installed.iter().map(|package| (package.name.as_str(), package)).collect();
    let found = text.lines().filter_map(|line| rpm::package(line, false, "dnf"));
    let matching = found.filter(|package| {
        words.are_in(&format!("{} {}", package.name, package.description.as_deref().unwrap_or_default()))
    });
    matching.map(|package| installed.get(package.name.as_str()).map_or(package.clone(), |&own| own.clone())).collect()
}

/// `repoquery --upgrades`
pub fn updates(text: &str, installed: &[Package], advisories: &Advisories) -> Vec<PendingUpdate> {
    let versions: HashMap<&str, &str> =
        installed.iter().map(|package| (package.name.as_str(), package.version.as_str())).collect();
    text.lines().filter_map(|line| update(line, &versions, advisories)).collect()
}

fn update(line: &str, versions: &HashMap<&str, &str>, advisories: &Advisories) -> Option<PendingUpdate> {
    let [name, evr, _, size, _]: [&str; 5] = line.splitn(5, '\t').collect::<Vec<_>>().try_into().ok()?;
    // Third parties' repositories have no advisories at all.
    let (security, importance) = advisories.get(name).copied().unwrap_or_default();
    let update = PendingUpdate::of(name, versions.get(name).copied(), evr);
    Some(PendingUpdate { security, importance, size: size.parse().ok(), ..update })
}

fn add(advisories: &mut Advisories, nevra: &str, security: bool, importance: Importance) {
    let Some((name, _)) = rpm::nevra_name(nevra) else { return };
    let known = advisories.entry(name.to_owned()).or_insert((false, Importance::Low));
    *known = (known.0 || security, known.1.max(importance));
}

/// dnf 4: `ID KIND NEVRA`, where KIND is `bugfix`, `enhancement`, or `SEVERITY/Sec.` of what mends a flaw.
pub fn advisories(text: &str) -> Advisories {
    let mut advisories = Advisories::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some(_), Some(kind), Some(nevra)) = (words.next(), words.next(), words.next()) {
            let severity = kind.strip_suffix("/Sec.");
            add(
                &mut advisories,
                nevra,
                severity.is_some(),
                Importance::of(severity.unwrap_or_default(), severity.is_some()),
            );
        }
    }
    advisories
}

#[derive(Deserialize)]
struct Advisory {
    #[serde(rename = "type")]
    kind: String,
    severity: String,
    nevra: String,
}

/// dnf 5: `advisory list --json`. One that cannot be read says nothing.
pub fn advisories_of_five(text: &str) -> Advisories {
    let mut advisories = Advisories::new();
    for advisory in serde_json::from_str::<Vec<Advisory>>(text).unwrap_or_default() {
        let security = advisory.kind == "security";
        add(&mut advisories, &advisory.nevra, security, Importance::of(&advisory.severity, security));
    }
    advisories
}

/// `needs-restarting -r`; `None` where the plugin is not there.
pub fn reboot(text: &str) -> Option<bool> {
    if text.contains("Reboot is required") {
        return Some(true);
    }
    text.contains("Reboot should not be necessary").then_some(false)
}

/// dnf 4's `dnf.rpm.log`: `TIME SUBDEBUG Upgrade: NEVRA` of the new one, then `Upgraded: NEVRA` of the one before.
pub fn history(logs: &LogTexts, _: &TimeZone) -> Vec<PastUpdate> {
    logs.iter().flatten().flat_map(|text| text.lines().filter_map(upgrade)).collect()
}

fn upgrade(line: &str) -> Option<PastUpdate> {
    let (time, nevra) = line.split_once(" SUBDEBUG Upgrade: ")?;
    past(nevra, zoned_time(time)?, UpdateResult::Succeeded)
}

fn past(nevra: &str, date: Timestamp, result: UpdateResult) -> Option<PastUpdate> {
    let (name, version) = rpm::nevra_name(nevra)?;
    Some(PastUpdate { title: format!("{name} {version}"), date, result, version: Some(version.to_owned()) })
}

/// dnf 5's `history info`: of each transaction keys and values, then a table of actions and packages.
pub fn history_of_five(text: &str) -> Vec<PastUpdate> {
    let mut updates = Vec::new();
    let (mut date, mut result) = (None, UpdateResult::Unknown);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match line.split_once(" : ") {
            Some((key, value)) if key.trim() == "Begin time" => date = local_time(value, &TimeZone::UTC),
            Some((key, value)) if key.trim() == "Status" => {
                result = if value.trim() == "Ok" { UpdateResult::Succeeded } else { UpdateResult::Failed };
            }
            None if words.next() == Some("Upgrade") => {
                updates.extend(words.next().zip(date).and_then(|(nevra, date)| past(nevra, date, result)));
            }
            _ => {}
        }
    }
    updates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(name: &str) -> String {
        crate::commands::package_management::tests::recorded("dnf", name)
    }

    #[test]
    fn a_search_finds_names_and_what_is_installed_of_them() {
        let installed = rpm::packages(&recorded("list.txt"), "dnf");
        let words = |text: &str| SearchWords::try_from(text.to_owned()).unwrap();
        let found = search(&recorded("search.txt"), &installed, &words("demo"));
        let told: Vec<_> = found.iter().map(|p| (p.name.as_str(), p.version.as_str(), p.installed)).collect();
        assert_eq!(told.len(), 5, "{told:?}");
        assert_eq!(told[..2], [("g++-demo", "12.2-1", false), ("htop-demo", "3.2.1-1", true)]);
        assert_eq!(search(&recorded("search.txt"), &installed, &words("demo folders")).len(), 1);
    }

    #[test]
    fn both_versions_of_dnf_mark_what_mends_a_flaw() {
        let installed = rpm::packages(&recorded("list.txt"), "dnf");
        for advisories in
            [advisories(&recorded("advisories.txt")), advisories_of_five(&recorded("advisories-dnf5.json"))]
        {
            let updates = updates(&recorded("updates.txt"), &installed, &advisories);
            let [htop, openssl] = updates.as_slice() else { panic!("{updates:?}") };
            assert_eq!((htop.security, htop.importance, htop.size), (false, Importance::Low, Some(5589)));
            assert_eq!((openssl.security, openssl.importance), (true, Importance::Important));
            assert_eq!(openssl.title, "openssl-demo 3.0.1-1 -> 3.0.7-2");
        }
        assert!(advisories("nonsense\n").is_empty() && advisories_of_five("{").is_empty());
    }

    #[test]
    fn the_words_tell_whether_to_boot_anew() {
        assert_eq!(reboot(&recorded("needs-restarting.txt")), Some(false));
        assert_eq!(reboot("Core libraries...\n\nReboot is required to fully utilize these updates.\n"), Some(true));
        assert_eq!(reboot("No such command: needs-restarting.\n"), None);
    }

    #[test]
    fn both_pasts_are_read() {
        let of_four = history(&[vec![recorded("dnf.rpm.log")]], &TimeZone::UTC);
        assert_eq!(of_four.len(), 1, "{of_four:?}");
        assert_eq!(
            (of_four[0].title.as_str(), of_four[0].date.to_string().as_str()),
            ("openssl-demo 3.0.7-2", "2026-11-24T04:27:01.000Z")
        );
        let of_five = history_of_five(&recorded("history-dnf5.txt"));
        let told: Vec<_> = of_five.iter().map(|update| (update.title.as_str(), update.result)).collect();
        assert_eq!(
            told,
            [("openssl-demo 3.0.7-2", UpdateResult::Succeeded), ("htop-demo 3.2.2-1", UpdateResult::Failed)]
        );
    }
}
