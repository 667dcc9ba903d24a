//! The machine's wall clock and when it booted by that clock.

#[cfg(target_os = "linux")]
pub mod linux;
#[cfg(target_os = "linux")]
pub use linux::{ClockWatch, since_boot};

use std::time::SystemTime;

use infini_protocol::Timestamp;

use crate::auth::Moment;

/// The wall clock now.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

/// Both readings that an inbound line is judged by.
#[must_use]
pub fn moment() -> Moment {
    let now_ms = now().unix_ms();
    let up_ms = u64::try_from(since_boot().as_millis()).unwrap_or(u64::MAX);
    Moment { now_ms, boot_ms: now_ms.saturating_sub(up_ms) }
}
