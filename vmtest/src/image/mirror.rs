//! The Debian mirror that this machine's own apt uses: a machine behind a mirror of its own may reach no other.

use std::fs;
use std::path::Path;

/// The first address that apt fetches `suite` from; `None` leaves the choice to debootstrap.
pub fn of_this_machine(suite: &str) -> Option<String> {
    let mut files = vec![Path::new("/etc/apt/sources.list").to_owned()];
    let mut parts: Vec<_> =
        fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    parts.sort();
    files.extend(parts);
    files.iter().filter_map(|file| fs::read_to_string(file).ok()).find_map(|text| in_sources(&text, suite))
}

/// Finds it in a sources file of either format (sources.list(5)).
fn in_sources(text: &str, suite: &str) -> Option<String> {
    let one_line = text.lines().find_map(|line| in_line(line, suite));
    one_line.or_else(|| text.split("\n\n").find_map(|stanza| in_stanza(stanza, suite)))
}

/// `deb [options] address suite component...`
fn in_line(line: &str, suite: &str) -> Option<String> {
    let rest = line.trim().strip_prefix("deb ")?.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let mut words = rest.split_whitespace();
    let address = words.next()?;
    (words.next() == Some(suite) && usable(address)).then(|| address.to_owned())
}

/// `Types: deb`, `URIs: address...`, `Suites: suite...`
fn in_stanza(stanza: &str, suite: &str) -> Option<String> {
    let field = |name: &str| {
        stanza.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    };
    let has = |name, word: &str| field(name).is_some_and(|value| value.split_whitespace().any(|other| other == word));
    if !has("Types", "deb") || !has("Suites", suite) || has("Enabled", "no") {
        return None;
    }
    field("URIs")?.split_whitespace().find(|address| usable(address)).map(str::to_owned)
}

/// Whether debootstrap can fetch from such an address.
fn usable(address: &str) -> bool {
    ["http://", "https://", "file:/"].iter().any(|scheme| address.starts_with(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stanza_of_the_suite_is_found_among_others() {
        let text = "Types: deb\nURIs: https://a.example/node\nSuites: nodistro\nComponents: main\n\n\
                    Types: deb\n# a comment: with a colon\nURIs: mirror+file:/x http://m.example/debian\n\
                    Suites: bookworm bookworm-updates\nComponents: main\n";
        assert_eq!(in_sources(text, "bookworm").as_deref(), Some("http://m.example/debian"));
        assert_eq!(in_sources(text, "trixie"), None);
    }

    #[test]
    fn the_old_format_works_with_and_without_options() {
        let text = "# deb http://no.example/debian bookworm main\n\
                    deb-src http://src.example/debian bookworm main\n\
                    deb [arch=amd64 signed-by=/x.gpg] http://s.example/security bookworm-security main\n\
                    deb [arch=amd64] http://m.example/debian/ bookworm main contrib\n";
        assert_eq!(in_sources(text, "bookworm").as_deref(), Some("http://m.example/debian/"));
        let plain = "deb http://m.example/debian bookworm main";
        assert_eq!(in_sources(plain, "bookworm").as_deref(), Some("http://m.example/debian"));
    }

    #[test]
    fn what_is_switched_off_or_cannot_be_fetched_from_is_passed_over() {
        let off = "Types: deb\nURIs: http://m.example\nSuites: bookworm\nEnabled: no";
        assert_eq!(in_sources(off, "bookworm"), None);
        assert_eq!(in_sources("deb cdrom:[Debian]/ bookworm main", "bookworm"), None);
        assert_eq!(in_sources("", "bookworm"), None);
    }
}
