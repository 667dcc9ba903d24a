//! Runs the inputs that fuzzing kept through the code that it ran: each reaches something that no other does.
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "support/properties.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod properties;

use std::fs;
use std::path::PathBuf;

fn replay(target: &str, property: fn(&[u8])) {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut count = 0;
    for file in files {
        let path = file.unwrap().path();
        // Captured unless the test fails: the last line then names the input.
        println!("{}", path.display());
        property(&fs::read(&path).unwrap());
        count += 1;
    }
    assert!(count > 4, "{count} inputs in {}", directory.display());
}

#[test]
fn framer() {
    replay("framer", properties::framer);
}

#[test]
fn envelope() {
    replay("envelope", properties::sealed);
}

#[test]
fn host_message() {
    replay("host_message", properties::host_message);
}
