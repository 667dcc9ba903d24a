//! The threads that read, one for groups that may wait for each other.
//!
//! A reading may hang in the kernel for as long as a file server is away, and nothing can end it. So each lane is a plain thread that
//! nobody joins: Tokio's blocking threads would be waited for when the agent stops. A thread without work waits for its channel and
//! does not wake up.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, mpsc};
use std::time::Instant;
use std::{io, thread};

use infini_protocol::metrics::{
    CpuMetrics, DiskUsage, LoadAverage, MachineInfo, MemoryMetrics, NetworkInterface, PortMetrics, PressureMetrics,
    ProcessMetrics, ServiceInfo,
};
use tokio::sync::mpsc::UnboundedSender;

use super::provider::{CollectFailure, DiskIoReading, List, SystemMetricsProvider};
use super::settings::{Group, ListLimits};
use crate::panics::contain;

/// A thread that reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    /// What the kernel answers at once.
    System,
    /// File systems, some of which are far away.
    Disk,
    /// Processes.
    Processes,
    /// Ports, whose owners take a walk over all descriptors of all processes.
    Ports,
    /// Services, which are asked for over D-Bus.
    Services,
}

impl Lane {
    /// The thread's name.
    const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Disk => "disk",
            Self::Processes => "processes",
            Self::Ports => "ports",
            Self::Services => "services",
        }
    }
}

/// One group's figures.
#[derive(Clone, Debug)]
pub(super) enum Reading {
    Cpu(CpuMetrics),
    Memory(MemoryMetrics),
    DiskUsage(List<DiskUsage>),
    DiskIo(DiskIoReading),
    Network(List<NetworkInterface>),
    Pressure(PressureMetrics),
    Load(LoadAverage),
    Uptime(u64),
    Info(MachineInfo),
    Processes(List<ProcessMetrics>),
    Ports(List<PortMetrics>),
    Services(List<ServiceInfo>),
}

/// What a lane tells.
#[derive(Debug)]
pub(super) enum Report {
    /// It read a group, or could not.
    Read {
        /// The group.
        group: Group,
        /// What came of it.
        result: Result<Reading, CollectFailure>,
        /// Whether there is more to find out.
        has_more: bool,
    },
    /// It panicked with this message and is no more.
    Died(Lane, String),
}

/// Groups to read.
pub(super) type Job = Vec<Task>;

/// A group to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    /// The group.
    pub group: Group,
    /// How many entries its list keeps.
    pub limit: usize,
    /// Whether only to go on with what was left to do.
    pub goes_on: bool,
}

/// Makes a thread's own reader, in that thread.
pub(super) type Factory<P> = Arc<dyn Fn() -> P + Send + Sync>;

/// Starts a lane's thread, which ends when the returned sender is dropped.
///
/// # Errors
/// Where the system starts no more threads.
pub(super) fn start<P: SystemMetricsProvider>(
    lane: Lane,
    factory: Factory<P>,
    reports: UnboundedSender<Report>,
) -> io::Result<mpsc::Sender<Job>> {
    let (sender, jobs) = mpsc::channel();
    thread::Builder::new().name(lane.name().to_owned()).spawn(move || {
        let work = || {
            let mut provider = factory();
            for task in jobs.iter().flatten() {
                let result = read(&mut provider, task);
                let has_more = task.group == Group::Ports && provider.has_more_of_ports();
                // Nobody listens once the collector is dropped; the channel of jobs is closed then too.
                let _ = reports.send(Report::Read { group: task.group, result, has_more });
            }
        };
        if let Err(panic) = contain(AssertUnwindSafe(work)) {
            let _ = reports.send(Report::Died(lane, message_of(&*panic)));
        }
    })?;
    Ok(sender)
}

fn read<P: SystemMetricsProvider>(provider: &mut P, task: Task) -> Result<Reading, CollectFailure> {
    let Task { group, limit, goes_on } = task;
    let now = Instant::now();
    match group {
        Group::Cpu => provider.collect_cpu(now).map(Reading::Cpu),
        Group::Memory => provider.collect_memory().map(Reading::Memory),
        Group::DiskUsage => provider.collect_disk_usage().map(Reading::DiskUsage),
        Group::DiskIo => provider.collect_disk_io(now).map(Reading::DiskIo),
        Group::Network => provider.collect_network(now).map(Reading::Network),
        Group::Pressure => provider.collect_pressure().map(Reading::Pressure),
        Group::Load => provider.collect_load_average().map(Reading::Load),
        Group::Uptime => provider.collect_uptime().map(Reading::Uptime),
        Group::Info => provider.collect_info().map(Reading::Info),
        Group::Processes => provider.collect_processes(now, limit).map(Reading::Processes),
        Group::Ports if goes_on => provider.collect_more_of_ports(limit).map(Reading::Ports),
        Group::Ports => provider.collect_ports(limit).map(Reading::Ports),
        Group::Services => provider.collect_services(limit).map(Reading::Services),
    }
}

/// A job of these groups.
pub(super) fn job(groups: &[Group], limits: ListLimits, goes_on: bool) -> Job {
    groups.iter().map(|group| Task { group: *group, limit: limits.of(*group), goes_on }).collect()
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".to_owned())
}
