//! apt's `history.log`, and what dpkg did without apt in its own log.

use std::collections::HashSet;

use infini_protocol::Timestamp;
use jiff::tz::TimeZone;

use crate::commands::package_management::logs::local_time;
use crate::commands::package_management::manager::{LogTexts, PastUpdate, UpdateResult};

/// Both logs; an update that apt tells of is not told twice.
pub fn parse(logs: &LogTexts, zone: &TimeZone) -> Vec<PastUpdate> {
    let texts = |index: usize| logs.get(index).into_iter().flatten();
    let mut updates: Vec<PastUpdate> = texts(0).flat_map(|text| apt(text, zone)).collect();
    let known: HashSet<String> = updates.iter().map(|update| update.title.clone()).collect();
    updates.extend(texts(1).flat_map(|text| dpkg(text, zone)).filter(|update| !known.contains(&update.title)));
    updates
}

fn title(name: &str, from: &str, to: &str) -> String {
    let name = name.split_once(':').map_or(name, |(name, _)| name);
    format!("{name} {from} -> {to}")
}

/// Stanzas of `Start-Date:`, `Upgrade: NAME:ARCH (OLD, NEW), ...`, `Error:` where it failed, `End-Date:` where apt came to its end.
fn apt(text: &str, zone: &TimeZone) -> Vec<PastUpdate> {
    text.split("\n\n").filter_map(|stanza| transaction(stanza, zone)).flatten().collect()
}

fn transaction(stanza: &str, zone: &TimeZone) -> Option<Vec<PastUpdate>> {
    let field = |key: &str| stanza.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
    let date = local_time(field("Start-Date")?, zone)?;
    let result = match (field("Error"), field("End-Date")) {
        (Some(_), _) => UpdateResult::Failed,
        (None, Some(_)) => UpdateResult::Succeeded,
        (None, None) => UpdateResult::Unknown,
    };
    let upgraded = |entry: &str| {
        let (name, versions) = entry.split_once(" (")?;
        let (from, to) = versions.trim_end_matches(')').split_once(", ")?;
        Some(PastUpdate { title: title(name, from, to), date, result, version: Some(to.to_owned()) })
    };
    Some(field("Upgrade")?.split("), ").filter_map(upgraded).collect())
}

/// `DATE TIME upgrade NAME:ARCH OLD NEW`, and `DATE TIME status installed NAME:ARCH NEW` where it came to its end.
fn dpkg(text: &str, zone: &TimeZone) -> Vec<PastUpdate> {
    let configured: HashSet<(&str, &str)> = text.lines().filter_map(configured).collect();
    text.lines().filter_map(|line| upgrade(line, zone, &configured)).collect()
}

fn configured(line: &str) -> Option<(&str, &str)> {
    line.split_once(" status installed ")?.1.split_once(' ')
}

fn upgrade(line: &str, zone: &TimeZone, configured: &HashSet<(&str, &str)>) -> Option<PastUpdate> {
    let (time, upgrade) = line.split_once(" upgrade ")?;
    let [name, from, to]: [&str; 3] = upgrade.split(' ').collect::<Vec<_>>().try_into().ok()?;
    let date: Timestamp = local_time(time, zone)?;
    let result = if configured.contains(&(name, to)) { UpdateResult::Succeeded } else { UpdateResult::Unknown };
    Some(PastUpdate { title: title(name, from, to), date, result, version: Some(to.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_update_is_told_once_and_how_it_ended() {
        let recorded = |name| crate::commands::package_management::tests::recorded("apt", name);
        let failed = "\nStart-Date: 2024-05-20  10:11:12\nUpgrade: vim:amd64 (1, 2)\nError: Sub-process /usr/bin/dpkg returned an \
                      error code (1)\nEnd-Date: 2024-05-20  10:11:13\n\nStart-Date: 2024-05-21  10:11:12\nUpgrade: nano:amd64 (1, 2)\n";
        let by_hand =
            "2024-05-22 01:02:03 upgrade mine:amd64 0.9 1.0\n2024-05-22 01:02:04 status installed mine:amd64 1.0\n";
        let logs = [vec![recorded("history.log") + failed], vec![recorded("dpkg.log") + by_hand]];
        let updates = parse(&logs, &TimeZone::UTC);
        let told: Vec<_> = updates.iter().map(|update| (update.title.as_str(), update.result)).collect();
        assert_eq!(
            told,
            [
                ("tzdata 2026b-0+deb12u1 -> 2026f-0+deb12u1", UpdateResult::Succeeded),
                ("libssl3 3.0.20-1~deb12u2 -> 3.0.22-1~deb12u2", UpdateResult::Succeeded),
                ("openssl 3.0.20-1~deb12u2 -> 3.0.22-1~deb12u2", UpdateResult::Succeeded),
                ("vim 1 -> 2", UpdateResult::Failed),
                ("nano 1 -> 2", UpdateResult::Unknown),
                ("mine 0.9 -> 1.0", UpdateResult::Succeeded),
            ]
        );
        assert_eq!(updates[0].date.to_string(), "2026-11-24T04:55:13.000Z");
        assert_eq!(updates[0].version.as_deref(), Some("2026f-0+deb12u1"));
    }
}
