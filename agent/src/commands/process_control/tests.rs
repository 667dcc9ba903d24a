//! The lists of a recorded machine, of which `agent/tests/processes.rs` has the figures worked out by hand.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{from_value, json};

use super::*;
use crate::commands::test_machine::TestMachine;
use crate::commands::testing::assert_golden;

/// What lies between the two recordings.
const INTERVAL: Duration = Duration::from_secs(10);

/// These have ended by the second recording; the number of one belongs to another process then.
const ENDED: [&str; 2] = ["/proc/700", "/proc/800"];

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() { copy(&source, &target) } else { fs::write(target, fs::read(source).unwrap()).unwrap() }
    }
}

/// What the recorded machine's heaviest processes used in these ten seconds.
fn recorded(limit: usize) -> Result<List<ProcessMetrics>, CommandError> {
    let trees = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trees/processes");
    let machine = TestMachine::new(&[]);
    copy(&trees.join("before"), &machine.path("/"));
    let start = Instant::now();
    let wait = || {
        for ended in ENDED {
            // The collector's open files give nothing more, as those of a process that has ended.
            for file in ["stat", "io"] {
                fs::write(machine.path(&format!("{ended}/{file}")), "").unwrap();
            }
            fs::remove_dir_all(machine.path(ended)).unwrap();
        }
        copy(&trees.join("after"), &machine.path("/"));
        start + INTERVAL
    };
    let mut processes = heaviest((machine.context().collector)(), limit, start, wait)?;
    // It was recorded with pages of 4 KiB.
    let page = rustix::param::page_size() as u64;
    processes.entries.iter_mut().for_each(|process| process.memory_kb = process.memory_kb * 4096 / page);
    Ok(processes)
}

#[test]
fn the_heaviest_are_listed() {
    let list: ProcessList = from_value(json!({ "limit": 3 })).unwrap();
    let three = list.choose(&recorded).unwrap();
    assert_golden("ProcessList", &three.data.unwrap());
    assert!(!three.truncated, "the host wanted no more");
    let all: ProcessList = from_value(json!({})).unwrap();
    let all = all.choose(&recorded).unwrap();
    assert!(all.data.unwrap().as_array().unwrap().len() > 3 && !all.truncated);
}

#[test]
fn no_list_is_longer_than_any_may_be_and_says_so() {
    let asked = Cell::new(0);
    let many = |limit: usize| {
        asked.set(limit);
        let mut list = recorded(limit)?;
        list.total = 2000;
        Ok(list)
    };
    let list = |fields| from_value::<ProcessList>(fields).unwrap().choose(&many).unwrap();
    let top = |fields| from_value::<ProcessTop>(fields).unwrap().choose(&many).unwrap();
    for outcome in [list(json!({})), list(json!({ "limit": 5000 })), top(json!({ "limit": 5000 }))] {
        assert_eq!((asked.get(), outcome.truncated), (1000, true));
    }
    assert!(!list(json!({ "limit": 5 })).truncated && !top(json!({})).truncated);
    for limit in [json!(0), json!(-1), json!(1.5), json!("5")] {
        assert!(from_value::<ProcessList>(json!({ "limit": limit })).is_err(), "{limit}");
        assert!(from_value::<ProcessTop>(json!({ "limit": limit })).is_err(), "{limit}");
    }
}

#[test]
fn the_largest_are_chosen_among_all() {
    let top = |fields| from_value::<ProcessTop>(fields).unwrap().choose(&recorded).unwrap().data.unwrap();
    let largest = top(json!({ "limit": 3, "sort_by": "memory" }));
    assert_golden("ProcessTop", &largest);
    let sizes: Vec<_> = largest.as_array().unwrap().iter().map(|one| one["memory_kb"].as_u64()).collect();
    assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
    assert_ne!(top(json!({ "limit": 3, "sort_by": "cpu" })), largest);
    assert!(from_value::<ProcessTop>(json!({ "sort_by": "name" })).is_err());
}
