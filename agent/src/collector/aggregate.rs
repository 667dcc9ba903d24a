//! Putting the groups together into one sample. Pure.

use infini_protocol::ErrorCode;
use infini_protocol::metrics::{CollectError, MetricsData, NetworkMetrics};

use super::lane::Reading;
use super::provider::{CollectFailure, List};
use super::settings::Group;

/// What came of a group.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// Its figures.
    Read(Box<Reading>),
    /// The machine has no such thing.
    Absent,
    /// It could not be measured.
    Failed(CollectError),
}

impl Outcome {
    pub(super) fn of(group: Group, result: Result<Reading, CollectFailure>) -> Self {
        match result {
            Ok(reading) => Self::Read(Box::new(reading)),
            Err(CollectFailure::Unsupported(_)) => Self::Absent,
            Err(failure) => Self::failed(group, failure.code(), failure.to_string()),
        }
    }

    pub(super) fn failed(group: Group, error_code: ErrorCode, message: String) -> Self {
        Self::Failed(CollectError { component: group.component().into(), error_code, message })
    }
}

/// One sample of these groups.
pub(super) fn assemble<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> MetricsData {
    let mut data = MetricsData::default();
    for outcome in outcomes {
        match outcome {
            Outcome::Read(reading) => add(&mut data, reading),
            Outcome::Absent => {}
            Outcome::Failed(error) => data.errors.push(error.clone()),
        }
    }
    data
}

fn add(data: &mut MetricsData, reading: &Reading) {
    let system = &mut data.system;
    match reading {
        Reading::Cpu(cpu) => system.cpu = Some(cpu.clone()),
        Reading::Memory(memory) => system.memory = Some(memory.clone()),
        Reading::DiskUsage(list) => {
            let entries = kept(data, "usage_stats", list);
            data.system.disk.get_or_insert_default().usage_stats = entries;
        }
        Reading::DiskIo(io) => {
            let disk = system.disk.get_or_insert_default();
            disk.io_stats = Some(io.total);
            disk.devices = Some(io.devices.clone());
        }
        Reading::Network(list) => {
            let interfaces = kept(data, "interfaces", list);
            data.system.network = Some(NetworkMetrics { interfaces });
        }
        Reading::Pressure(pressure) => system.pressure = Some(*pressure),
        Reading::Load(load) => system.load_average = Some(*load),
        Reading::Uptime(seconds) => system.uptime_seconds = Some(*seconds),
        Reading::Info(info) => system.info = Some(info.clone()),
        Reading::Processes(list) => data.processes = Some(kept(data, "processes", list)),
        Reading::Ports(list) => data.ports = Some(kept(data, "ports", list)),
        Reading::Services(list) => data.services = Some(kept(data, "services", list)),
    }
}

/// The list's entries, with a note of what was cut and of what failed.
fn kept<T: Clone>(data: &mut MetricsData, name: &str, list: &List<T>) -> Vec<T> {
    if list.total > list.entries.len() {
        data.truncated.insert(name.to_owned(), list.total as u64);
    }
    data.errors.extend_from_slice(&list.errors);
    list.entries.clone()
}
