//! Network rates from network counters, for every platform.

use std::time::{Duration, Instant};

use infini_protocol::metrics::NetworkInterface;

use super::rate::per_second;

/// What went through an interface since it exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkCounters {
    /// Bytes received.
    pub bytes_received: u64,
    /// Packets received.
    pub packets_received: u64,
    /// Packets received with an error.
    pub errors_in: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets that could not be sent.
    pub errors_out: u64,
}

/// The last counters of an interface and when they were read.
#[derive(Debug, Default)]
pub struct NetworkRates {
    last: Option<(Instant, NetworkCounters)>,
}

impl NetworkRates {
    /// Puts the counters and their rates into `interface`. There is no rate at the first sight of an interface, nor where its counters went
    /// back, because then another one has taken the name.
    pub fn update(&mut self, now: Instant, counters: NetworkCounters, interface: &mut NetworkInterface) {
        let last = self.last.replace((now, counters));
        let since = last.map(|(at, counters)| (now.saturating_duration_since(at), counters));
        if let Some((elapsed, last)) = since.filter(|(elapsed, _)| *elapsed > Duration::ZERO) {
            let received = counters.bytes_received.checked_sub(last.bytes_received);
            let sent = counters.bytes_sent.checked_sub(last.bytes_sent);
            if let (Some(received), Some(sent)) = (received, sent) {
                interface.received_bytes_per_sec = Some(per_second(received, elapsed));
                interface.sent_bytes_per_sec = Some(per_second(sent, elapsed));
            }
        }
        interface.bytes_received = counters.bytes_received;
        interface.packets_received = counters.packets_received;
        interface.errors_in = counters.errors_in;
        interface.bytes_sent = counters.bytes_sent;
        interface.packets_sent = counters.packets_sent;
        interface.errors_out = counters.errors_out;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_need_two_readings_and_counters_that_grow() {
        let start = Instant::now();
        let mut rates = NetworkRates::default();
        let mut read = |seconds, bytes_received, bytes_sent| {
            let mut interface = NetworkInterface::default();
            let counters = NetworkCounters { bytes_received, bytes_sent, ..NetworkCounters::default() };
            rates.update(start + Duration::from_secs(seconds), counters, &mut interface);
            (interface.received_bytes_per_sec, interface.sent_bytes_per_sec)
        };
        assert_eq!(read(0, 1000, 500), (None, None));
        assert_eq!(read(4, 9000, 501), (Some(2000), Some(0)));
        assert_eq!(read(8, 10, 10), (None, None), "after a reset");
        assert_eq!(read(9, 110, 10), (Some(100), Some(0)));
    }
}
