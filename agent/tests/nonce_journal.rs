//! The file of nonces on a disk that fills up. A process of its own, for the limit on file sizes that plays the disk holds for the whole
//! process.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;

use infiniservice::auth::replay::{NonceJournal, Seen};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// Sent where a file would outgrow the limit; it ends the process unless somebody handles it.
const SIGXFSZ: i32 = 25;

#[tokio::test]
async fn a_record_that_the_disk_had_no_room_for_spoils_none_after_it() {
    let _handled = signal(SignalKind::from_raw(SIGXFSZ)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nonces");
    let mut journal = NonceJournal::open(&path).unwrap();
    journal.admit("before", 1);
    let whole = fs::metadata(&path).unwrap().len();

    let unlimited = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(whole + 7), maximum: unlimited.maximum }).unwrap();
    assert_eq!(journal.admit("cut", 2), Seen::New);
    setrlimit(Resource::Fsize, unlimited).unwrap();
    journal.admit("after", 3);
    drop(journal);

    let mut journal = NonceJournal::open(&path).unwrap();
    assert_eq!(journal.admit("before", 1), Seen::Before);
    assert_eq!(journal.admit("after", 3), Seen::Before, "a restart lets a replay in");
}
