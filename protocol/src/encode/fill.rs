//! The keys of `metrics` without which a version 1 host refuses the message.

use crate::ErrorCode;
use crate::metrics::{CollectError, MetricsData};

/// What a key is called in `errors` when it had to be filled. `disk.io` stands for the sums alone; together with `disk.usage` it
/// stands for all of `disk`.
pub(crate) const COMPONENTS: [&str; 7] = ["cpu", "memory", "disk", "disk.usage", "disk.io", "network", "uptime"];

/// Fills each demanded key that was not measured with zeros, and names it in `errors` so that nobody takes these for figures.
pub(super) fn fill(data: &mut MetricsData) {
    let MetricsData { system, errors, .. } = data;
    let without_disk = system.disk.is_none();
    fill_key(&mut system.cpu, "cpu", errors);
    fill_key(&mut system.memory, "memory", errors);
    fill_key(&mut system.disk, "disk", errors);
    if let Some(disk) = &mut system.disk {
        fill_key(&mut disk.io_stats, if without_disk { "disk" } else { "disk.io" }, errors);
    }
    fill_key(&mut system.network, "network", errors);
    fill_key(&mut system.uptime_seconds, "uptime", errors);
}

fn fill_key<T: Default>(key: &mut Option<T>, component: &str, errors: &mut Vec<CollectError>) {
    if key.is_some() {
        return;
    }
    *key = Some(T::default());
    if !is_named(errors, component) {
        errors.push(CollectError {
            component: component.into(),
            error_code: ErrorCode::Internal,
            message: "not measured".to_owned(),
        });
    }
}

/// Whether `errors` says that all of a component is missing, by its own name or by those of all its parts.
pub(crate) fn is_named(errors: &[CollectError], component: &str) -> bool {
    let has = |name: &str| errors.iter().any(|error| &*error.component == name);
    has(component) || (component == "disk" && has("disk.usage") && has("disk.io"))
}

/// Brings the entries that tell a filled key from a measured one to the front, one of each component, and says how many they are:
/// these must not be lost with the end of the list.
pub(super) fn put_first(errors: &mut [CollectError]) -> usize {
    let mut front = 0;
    for component in COMPONENTS {
        if let Some(ahead) = errors[front..].iter().position(|error| &*error.component == component) {
            errors[front..=front + ahead].rotate_right(1);
            front += 1;
        }
    }
    front
}
