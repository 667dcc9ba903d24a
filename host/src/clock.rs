//! The guest's clock as the host knows it.
//!
//! The agent refuses lines whose time is more than five minutes off its own clock, and a guest's clock may be off by hours. So
//! the host signs in the guest's time, which it learns from the `timestamp` of what the agent says.

use infini_protocol::Timestamp;

/// How far the guest's clock is off the host's.
///
/// The last message wins: a message is late by its way through the port, which is far below what the agent forgives, and a clock
/// that was set shows in the next message (the agent sends one at once).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestClock {
    offset_ms: Option<i64>,
}

impl GuestClock {
    /// Learns from a message that arrived at `host_now`.
    pub fn learn(&mut self, guest: Timestamp, host_now: Timestamp) {
        // Both are below 2^48 milliseconds.
        self.offset_ms = Some(guest.unix_ms() as i64 - host_now.unix_ms() as i64);
    }

    /// Guest less host in milliseconds; `None` before the first message.
    #[must_use]
    pub const fn offset_ms(self) -> Option<i64> {
        self.offset_ms
    }

    /// The guest's time at `host_now`; the host's own time before anything was learned.
    #[must_use]
    pub fn now(self, host_now: Timestamp) -> Timestamp {
        Timestamp::from_unix_ms(host_now.unix_ms().saturating_add_signed(self.offset_ms.unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Timestamp {
        Timestamp::from_unix_ms(ms)
    }

    #[test]
    fn the_hosts_time_serves_until_the_guest_spoke() {
        assert_eq!(GuestClock::default().now(at(5_000)), at(5_000));
    }

    #[test]
    fn the_guests_time_is_followed_both_ways() {
        let mut clock = GuestClock::default();
        clock.learn(at(1_000), at(5_000));
        assert_eq!((clock.offset_ms(), clock.now(at(6_000))), (Some(-4_000), at(2_000)));
        clock.learn(at(90_000), at(7_000));
        assert_eq!(clock.now(at(8_000)), at(91_000));
    }

    #[test]
    fn a_guest_far_from_here_overflows_nothing() {
        let mut clock = GuestClock::default();
        clock.learn(at(0), at(u64::MAX));
        assert_eq!(clock.now(at(10)), at(0));
        clock.learn(at(u64::MAX), at(0));
        assert_eq!(clock.now(at(u64::MAX)), at(u64::MAX));
    }
}
