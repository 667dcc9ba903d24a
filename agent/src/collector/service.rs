//! Services: which of them are told of first.

use std::cmp::Reverse;

use infini_protocol::metrics::{ServiceInfo, ServiceStatus};

/// Orders by what needs attention: failed ones first, then what is on its way, what runs, what does not; of equals by name.
pub fn order(services: &mut [ServiceInfo]) {
    services.sort_by(|a, b| (Reverse(weight(a.status)), &a.name).cmp(&(Reverse(weight(b.status)), &b.name)));
}

fn weight(status: ServiceStatus) -> u8 {
    match status {
        ServiceStatus::Failed => 4,
        ServiceStatus::Starting | ServiceStatus::Stopping => 3,
        ServiceStatus::Running | ServiceStatus::Paused => 2,
        ServiceStatus::Unknown => 1,
        ServiceStatus::Stopped => 0,
    }
}
