//! What apt and dpkg print.

use std::collections::HashMap;

use crate::commands::package_management::manager::{Importance, Package, PendingUpdate};

const SOURCE: &str = "apt";

/// `dpkg-query -W` with the format of this module, and `dpkg --print-architecture`.
pub fn installed(text: &str, architecture: &str) -> Vec<Package> {
    text.lines().filter_map(|line| installed_one(line, architecture.trim())).collect()
}

fn installed_one(line: &str, native: &str) -> Option<Package> {
    let [name, architecture, status, version, kib, maintainer, summary]: [&str; 7] =
        line.splitn(7, '\t').collect::<Vec<_>>().try_into().ok()?;
    // `config-files` is what is left of a removed package; `half-configured` and the like are there, after a fashion.
    if matches!(status, "not-installed" | "config-files") {
        return None;
    }
    let is_native = architecture == native || architecture == "all";
    Some(Package {
        name: if is_native { name.to_owned() } else { format!("{name}:{architecture}") },
        version: version.to_owned(),
        description: text(summary),
        installed: true,
        publisher: text(maintainer),
        source: SOURCE,
        size: kib.parse().ok().map(|kib: u64| kib * 1024),
    })
}

/// The version of the package that a name means: without an architecture, the machine's own.
pub fn version(packages: &[Package], name: &str, native: &str) -> Option<String> {
    let name = name.strip_suffix(&format!(":{}", native.trim())).unwrap_or(name);
    packages.iter().find(|package| package.name == name).map(|package| package.version.clone())
}

fn text(text: &str) -> Option<String> {
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The fields of each stanza that are on one line.
fn stanzas(text: &str) -> impl Iterator<Item = HashMap<&str, &str>> {
    text.split("\n\n").map(|stanza| {
        let fields = stanza.lines().filter(|line| !line.starts_with(' '));
        fields.filter_map(|line| line.split_once(':')).map(|(key, value)| (key, value.trim())).collect()
    })
}

/// `apt-cache show`: whether a stanza is of exactly this package.
pub fn has_stanza(text: &str, name: &str) -> bool {
    let (package, architecture) = name.split_once(':').map_or((name, None), |(package, arch)| (package, Some(arch)));
    stanzas(text).any(|fields| {
        let is_arch = |wanted| fields.get("Architecture").is_some_and(|&arch| arch == wanted || arch == "all");
        fields.get("Package") == Some(&package) && architecture.is_none_or(is_arch)
    })
}

/// `apt-cache search --full`, and what is installed.
pub fn search(text: &str, installed: &[Package]) -> Vec<Package> {
    let installed: HashMap<&str, &Package> = installed.iter().map(|package| (package.name.as_str(), package)).collect();
    stanzas(text).filter_map(|fields| found(&fields, &installed)).collect()
}

fn found(fields: &HashMap<&str, &str>, installed: &HashMap<&str, &Package>) -> Option<Package> {
    let (name, version) = (*fields.get("Package")?, *fields.get("Version")?);
    if let Some(&package) = installed.get(name) {
        return Some(package.clone());
    }
    let description = fields.get("Description-en").or_else(|| fields.get("Description"));
    Some(Package {
        name: name.to_owned(),
        version: version.to_owned(),
        description: description.map(|&description| description.to_owned()),
        installed: false,
        publisher: fields.get("Maintainer").map(|&maintainer| maintainer.to_owned()),
        source: SOURCE,
        size: fields.get("Installed-Size").and_then(|kib| kib.parse::<u64>().ok()).map(|kib| kib * 1024),
    })
}

/// `apt-get -s dist-upgrade`, and `--print-uris` of the same for the sizes.
pub fn updates(text: &str, uris: &str) -> Vec<PendingUpdate> {
    let sizes: HashMap<&str, u64> = uris.lines().filter_map(size).collect();
    text.lines().filter_map(|line| update(line, &sizes)).collect()
}

/// `'URI' NAME_VERSION_ARCH.deb SIZE HASH`
fn size(line: &str) -> Option<(&str, u64)> {
    let mut words = line.split(' ').skip(1);
    let (name, _) = words.next()?.split_once('_')?;
    Some((name, words.next()?.parse().ok()?))
}

/// `Inst NAME [OLD] (NEW ORIGIN:VERSION/SUITE[, ...] [ARCH]) ...`; a package that only comes along has no `[OLD]`.
fn update(line: &str, sizes: &HashMap<&str, u64>) -> Option<PendingUpdate> {
    let (name, rest) = line.strip_prefix("Inst ")?.split_once(" [")?;
    let (from, rest) = rest.split_once("] (")?;
    let (new, _) = rest.split_once(')')?;
    let (to, origins) = new.split_once(' ')?;
    let origins = origins.rsplit_once(" [").map_or(origins, |(origins, _)| origins);
    // Debian's suite is `stable-security`, Ubuntu's `jammy-security`.
    let security = origins.split(", ").any(|origin| origin.ends_with("-security"));
    let size = sizes.get(name).copied();
    Some(PendingUpdate {
        security,
        importance: Importance::plain(security),
        size,
        ..PendingUpdate::of(name, Some(from), to)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(name: &str) -> String {
        crate::commands::package_management::tests::recorded("apt", name)
    }

    #[test]
    fn the_list_has_what_is_installed_and_nothing_that_was_removed() {
        let text = recorded("list.txt")
            + "gone\tamd64\tconfig-files\t1\t4\tM\tS\nlibc6\ti386\tinstalled\t2.36\t8\tM\tS\nbroken";
        let packages = installed(&text, "amd64\n");
        assert_eq!(packages.len(), 41, "{packages:?}");
        let adduser = &packages[0];
        assert_eq!((adduser.name.as_str(), adduser.version.as_str()), ("adduser", "3.134"));
        assert_eq!(adduser.size, Some(686 * 1024), "{adduser:?}");
        assert_eq!(packages[40].name, "libc6:i386");
        assert_eq!(version(&packages, "libc6:i386", "amd64\n").as_deref(), Some("2.36"));
        assert_eq!(version(&packages, "adduser:amd64", "amd64\n").as_deref(), Some("3.134"));
        assert_eq!(version(&packages, "libc6", "amd64"), None);
    }

    #[test]
    fn a_pattern_that_matches_is_no_name() {
        assert!(has_stanza(&recorded("exists.txt"), "g++"));
        assert!(has_stanza(&recorded("exists.txt"), "g++:amd64"));
        assert!(!has_stanza(&recorded("exists.txt"), "g++:i386"));
        let pattern = recorded("exists-pattern.txt");
        assert!(pattern.contains("Package: python3-distro\n"), "apt took the pattern: {pattern}");
        assert!(!has_stanza(&pattern, "py.hon3") && !has_stanza("", "x"));
    }

    #[test]
    fn a_search_finds_both_kinds() {
        let bash = installed(&recorded("installed.txt"), "amd64");
        assert_eq!(bash.len(), 1);
        let text = recorded("search.txt") + "\n\nPackage: bash\nVersion: 99\n";
        let packages = search(&text, &bash);
        let gxx = packages.iter().find(|package| package.name == "g++-11").unwrap();
        assert!(!gxx.installed && gxx.description.as_deref() == Some("GNU C++ compiler"), "{gxx:?}");
        assert_eq!(packages.last(), bash.first(), "of an installed one its own version");
    }

    #[test]
    fn updates_name_both_versions_their_size_and_whether_they_mend_a_flaw() {
        let text = recorded("updates.txt")
            + "Inst base-files [12.4] (12.5 Debian:12.5/stable [amd64])\nInst new-one (1 Debian:12/stable [all])\n\
               Inst vim [1] (2 Ubuntu:22.04/jammy-updates, Ubuntu:22.04/jammy-security [amd64]) []\nRemv x [1]\n";
        let updates = updates(&text, &recorded("sizes.txt"));
        assert_eq!(updates.len(), 31, "{updates:?}");
        let perl = updates.iter().find(|update| update.name.as_deref() == Some("perl")).unwrap();
        assert_eq!(perl.title, "perl 5.36.0-7+deb12u3 -> 5.36.0-7+deb12u4");
        assert_eq!((perl.security, perl.importance, perl.size), (true, Importance::Important, Some(239_392)));
        let [base, vim] = &updates[29..] else { panic!("{updates:?}") };
        assert_eq!((base.security, base.importance, base.size), (false, Importance::Low, None));
        assert!(vim.security);
    }
}
