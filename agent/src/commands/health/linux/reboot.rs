//! Whether an update waits for a reboot.

use serde_json::json;

use crate::collector::linux::Roots;
use crate::commands::health::{Finding, Status};
use crate::commands::pending_reboot::PendingReboot;

pub fn pending(roots: &Roots) -> Finding {
    let pending = PendingReboot::find(roots);
    if !pending.is_pending() {
        return Finding::new(Status::Healthy, "nothing waits for a reboot");
    }
    let PendingReboot { is_asked_for, packages, kernel } = pending;
    let mut reasons = Vec::new();
    if is_asked_for {
        reasons.push(if packages.is_empty() { "a package".to_owned() } else { packages.join(", ") });
    }
    reasons.extend(kernel.iter().map(|kernel| format!("the installed kernel {kernel}")));
    let message = format!("waiting for a reboot: {}", reasons.join(", "));
    Finding::new(Status::Warning, message).with(json!({ "packages": packages, "kernel": kernel }))
}
