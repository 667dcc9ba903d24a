//! The database of installed packages that dnf and zypper share. rpm(8).

use super::manager::Package;
use super::query::{Ask, Query, ask, ask_fine};
use crate::commands::validation::PackageName;

const RPM: &str = "/usr/bin/rpm";

/// One package a line.
const LIST: &str = "%{NAME}\\t%{EVR}\\t%{ARCH}\\t%{SIZE}\\t%{VENDOR}\\t%{SUMMARY}\\n";

/// What rpm puts where a package has no such tag.
const NONE: &str = "(none)";

/// All that is installed.
pub fn list() -> Ask {
    ask(RPM, &["-qa", "--qf", LIST])
}

/// What is installed under a name; `rpm -q` takes a name with a version too, so the name is printed for comparison.
pub fn named(name: &PackageName) -> Ask {
    ask_fine(RPM, &["-q", "--qf", "%{NAME}\\t%{EVR}\\n", "--", name.as_str()], &[0, 1])
}

/// The installed version of exactly this package; of several, as with kernels, the one installed last.
pub fn installed(name: &PackageName) -> Query<Option<String>> {
    let wanted = name.clone();
    Query::new([named(name)], move |texts| Ok(version(&texts[0], wanted.as_str())))
}

/// Reads [`named`].
pub fn version(text: &str, name: &str) -> Option<String> {
    let mut rows = text.lines().filter_map(|line| line.split_once('\t'));
    rows.rfind(|(found, _)| *found == name).map(|(_, version)| version.to_owned())
}

/// Reads [`list`].
pub fn packages(text: &str, source: &'static str) -> Vec<Package> {
    text.lines().filter_map(|line| package(line, true, source)).collect()
}

/// A line of name, version, architecture, size, vendor and summary.
pub fn package(line: &str, installed: bool, source: &'static str) -> Option<Package> {
    let [name, version, _, size, vendor, summary]: [&str; 6] =
        line.splitn(6, '\t').collect::<Vec<_>>().try_into().ok()?;
    // rpm keeps the keys that it trusts as packages of this name.
    if name == "gpg-pubkey" {
        return None;
    }
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty() && text != NONE);
    Some(Package {
        name: name.to_owned(),
        version: version.to_owned(),
        description: text(summary),
        installed,
        publisher: text(vendor),
        source,
        size: size.parse().ok(),
    })
}

/// The name of `NAME-VERSION-RELEASE.ARCH`: neither version nor release may hold a hyphen.
pub fn nevra_name(nevra: &str) -> Option<(&str, &str)> {
    let (rest, release) = nevra.rsplit_once('-')?;
    let (name, _) = rest.rsplit_once('-')?;
    let (release, _) = release.rsplit_once('.')?;
    Some((name, &nevra[name.len() + 1..rest.len() + 1 + release.len()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_and_keys_are_no_packages() {
        let recorded = |name| crate::commands::package_management::tests::recorded("dnf", name);
        let packages = packages(&(recorded("list.txt") + "gpg-pubkey\t1\t(none)\t0\t(none)\tgpg(x)\n"), "dnf");
        let names: Vec<_> = packages.iter().map(|package| (package.name.as_str(), package.version.as_str())).collect();
        assert_eq!(names, [("htop-demo", "3.2.1-1"), ("openssl-demo", "3.0.1-1")]);
        assert_eq!(packages[0].publisher.as_deref(), Some("Example Works"));
        assert_eq!(version(&recorded("installed.txt"), "htop-demo").as_deref(), Some("3.2.1-1"));
        assert_eq!(version(&recorded("installed.txt"), "htop-demo-3.2.1"), None);
        assert_eq!(version(&recorded("installed-nosuch.txt"), "nosuch"), None);
        assert_eq!(nevra_name("openssl-libs-1:3.0.7-2.fc40.x86_64"), Some(("openssl-libs", "1:3.0.7-2.fc40")));
        assert_eq!(nevra_name("nonsense"), None);
    }
}
