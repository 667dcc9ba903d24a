//! Runs the inputs that fuzzing kept through the code that it ran: each reaches something that no other does.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/policy_properties.rs"]
mod properties;

use std::fs;
use std::path::Path;

#[test]
fn policy() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/policy");
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut count = 0;
    for file in files {
        let path = file.unwrap().path();
        // Captured unless the test fails: the last line then names the input.
        println!("{}", path.display());
        properties::decided(&fs::read(&path).unwrap());
        count += 1;
    }
    assert!(count > 9, "{count} inputs in {}", folder.display());
}
