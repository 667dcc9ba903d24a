//! What a panic does. It is a defect wherever it happens; how far it reaches differs.
//!
//! Where a thread does one thing and somebody waits for it with a deadline (a lane of the collector), the panic stays there: it becomes
//! an entry in `errors`, and the thread is started anew. Anywhere else it ends the process at once: an agent whose loop or link is gone
//! would run on and answer nobody, while its supervisor starts a clean one within a second.

use std::cell::Cell;
use std::panic::{UnwindSafe, catch_unwind};

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` so that a panic in it goes no further, and gives what it panicked with.
///
/// # Errors
/// The panic's payload.
pub fn contain<T>(work: impl FnOnce() -> T + UnwindSafe) -> std::thread::Result<T> {
    let before = CONTAINED.replace(true);
    let result = catch_unwind(work);
    CONTAINED.set(before);
    result
}

/// From now on a panic that is not contained is reported and ends the process.
pub fn end_the_process_otherwise() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        if !CONTAINED.get() {
            std::process::abort();
        }
    }));
}
