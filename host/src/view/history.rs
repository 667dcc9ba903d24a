use std::collections::VecDeque;

use crate::units::percent;
use crate::vm::Sample;

/// How many samples the charts keep: two a character column, more columns than terminals have.
const KEPT: usize = 1024;

/// The past of one figure, the newest last.
#[derive(Clone, Debug, Default)]
pub struct Series(VecDeque<f64>);

impl Series {
    fn push(&mut self, value: f64) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(value);
    }

    /// The newest `count` values, the newest last.
    pub fn last(&self, count: usize) -> impl DoubleEndedIterator<Item = f64> {
        self.0.iter().copied().skip(self.0.len().saturating_sub(count))
    }

    /// The largest of the newest `count` values.
    pub fn peak(&self, count: usize) -> f64 {
        self.last(count).fold(0.0, f64::max)
    }
}

/// The past of the figures that have charts. What was not measured leaves a gap of zero height, so that all charts keep step.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// CPU in percent.
    pub cpu: Series,
    /// Memory in percent.
    pub memory: Series,
    /// Bytes read from disks a second.
    pub read: Series,
    /// Bytes written to disks a second.
    pub write: Series,
    /// Bytes received a second.
    pub received: Series,
    /// Bytes sent a second.
    pub sent: Series,
}

impl History {
    /// Adds a sample.
    pub fn push(&mut self, sample: &Sample) {
        let system = &sample.data.system;
        self.cpu.push(system.cpu.as_ref().map_or(0.0, |cpu| cpu.usage_percent.get()));
        self.memory.push(system.memory.as_ref().map_or(0.0, |m| percent(m.used_kb as f64, m.total_kb as f64)));
        let io = system.disk.as_ref().and_then(|disk| disk.io_stats).unwrap_or_default();
        self.read.push(io.read_bytes_per_sec as f64);
        self.write.push(io.write_bytes_per_sec as f64);
        let (received, sent) = traffic(sample);
        self.received.push(received as f64);
        self.sent.push(sent as f64);
    }
}

/// Bytes received and sent a second over all interfaces but the loopback.
pub fn traffic(sample: &Sample) -> (u64, u64) {
    let interfaces = sample.data.system.network.iter().flat_map(|network| &network.interfaces);
    interfaces.filter(|interface| &*interface.name != "lo").fold((0, 0), |(received, sent): (u64, u64), interface| {
        (
            received.saturating_add(interface.received_bytes_per_sec.unwrap_or(0)),
            sent.saturating_add(interface.sent_bytes_per_sec.unwrap_or(0)),
        )
    })
}
