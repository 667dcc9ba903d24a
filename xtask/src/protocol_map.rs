//! docs/protocol-map.md names what is there: a file that moved, a test that was renamed and a section that was left out are failures.

use std::fs;
use std::path::Path;

const MAP: &str = include_str!("../../docs/protocol-map.md");

/// The protocol's sections.
const SECTIONS: [&str; 8] = [
    "## 1. Framing",
    "## 2. Who starts",
    "## 3. Agent to host",
    "## 4. Host to agent",
    "## 5. The signed envelope",
    "## 6. Safe commands",
    "## 7. Error codes",
    "## 8. What is negotiated",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What stands between backquotes in a text.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether quoted text is a path; one with a `<` stands for several files.
fn is_path(text: &str) -> bool {
    let is_file = [".rs", ".md", ".json"].iter().any(|ending| text.ends_with(ending));
    (is_file || text.ends_with('/')) && !text.contains('<')
}

/// Whether quoted text is the name of something in a source file, such as `open` or `Key::new`.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte))
}

/// The cells that hold files: all of a row but what the protocol says.
fn cells() -> impl Iterator<Item = &'static str> {
    MAP.lines().filter(|line| line.starts_with('|')).flat_map(|row| row.split(" | ").skip(1))
}

#[test]
fn every_section_is_there_and_names_files() {
    let mut rest = MAP;
    for section in SECTIONS {
        let (_, after) = rest.split_once(section).unwrap_or_else(|| panic!("{section:?} is missing, or not in order"));
        rest = after;
        let text = rest.split("\n## ").next().unwrap_or_default();
        assert!(quoted(text).any(is_path), "{section:?} names no file");
    }
}

#[test]
fn every_path_is_there() {
    let missing: Vec<_> = quoted(MAP).filter(|text| is_path(text) && !root().join(text).exists()).collect();
    assert!(missing.is_empty(), "the map names what is not there: {missing:#?}");
}

#[test]
fn every_name_behind_a_file_is_in_it() {
    let mut checked = 0;
    for cell in cells() {
        let mut file = None;
        for text in quoted(cell) {
            if is_path(text) {
                file = text.ends_with(".rs").then_some(text);
            } else if let (Some(file), true) = (file, is_name(text)) {
                let name = text.rsplit("::").next().unwrap_or(text);
                assert!(read(file).contains(name), "{file} has no {text}");
                checked += 1;
            }
        }
    }
    assert!(checked > 20, "only {checked} names were found in the map");
}

#[test]
fn every_message_and_every_action_is_named() {
    let golden = root().join("protocol/tests/golden");
    let messages = fs::read_dir(golden).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    let mut names: Vec<String> = messages.map(|message| message_type(&message)).collect();
    let actions = read("agent/src/commands/mod.rs");
    names.extend(actions.lines().filter_map(|line| {
        let (_, after) = line.trim_start().strip_prefix("ActionSpec::")?.split_once("(\"")?;
        Some(after.split_once('"')?.0.to_owned())
    }));
    assert!(names.len() > 40, "only {names:?} were found");
    let missing: Vec<_> = names.iter().filter(|name| !quoted(MAP).any(|text| text == *name)).collect();
    assert!(missing.is_empty(), "the map does not name {missing:?}");
}

/// The type of a message in a golden file, where its own fields stand two blanks in.
fn message_type(message: &str) -> String {
    let (_, after) = message.split_once("\n  \"type\"").unwrap();
    after.split('"').nth(1).unwrap().to_owned()
}
