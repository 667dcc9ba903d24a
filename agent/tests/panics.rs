//! How far a panic reaches. Each test runs itself again as a process of its own, which is what may end.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::process::{Command, ExitStatus, Output};

use infiniservice::panics::{contain, end_the_process_otherwise};

const ROLE: &str = "INFINISERVICE_TEST_PANICS";

/// Runs the test of that name again, in the role of the process that panics.
fn again(test: &str) -> (ExitStatus, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let Output { status, stderr, .. } = command.args(["--exact", test, "--nocapture"]).env(ROLE, "1").output().unwrap();
    (status, String::from_utf8_lossy(&stderr).into_owned())
}

fn panics_here() -> bool {
    std::env::var_os(ROLE).is_some()
}

#[test]
fn a_contained_panic_goes_no_further() {
    if panics_here() {
        end_the_process_otherwise();
        assert!(contain(|| panic!("inside")).is_err());
        assert_eq!(contain(|| 7).unwrap(), 7);
        return;
    }
    let (status, stderr) = again("a_contained_panic_goes_no_further");
    assert!(status.success(), "{status}: {stderr}");
}

#[test]
fn any_other_panic_ends_the_process_and_is_reported() {
    if panics_here() {
        end_the_process_otherwise();
        assert!(contain(|| panic!("inside")).is_err());
        // A thread's own panic would otherwise only end that thread.
        let _ = std::thread::spawn(|| panic!("outside")).join();
        return;
    }
    let (status, stderr) = again("any_other_panic_ends_the_process_and_is_reported");
    assert!(!status.success() && status.code().is_none(), "{status}: {stderr}");
    assert!(stderr.contains("outside"), "{stderr}");
}
