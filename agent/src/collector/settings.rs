//! What is measured, how often and how much of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lane::Lane;

/// A part of a sample that is read at once, on or off as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Processors and their temperature.
    Cpu,
    /// Memory and swap.
    Memory,
    /// How full file systems are.
    DiskUsage,
    /// Traffic of disks.
    DiskIo,
    /// Network interfaces.
    Network,
    /// Pressure stall information.
    Pressure,
    /// Load averages.
    Load,
    /// Time since boot.
    Uptime,
    /// What hardly ever changes: names and versions.
    Info,
    /// Processes.
    Processes,
    /// Local ports.
    Ports,
    /// Services.
    Services,
}

impl Group {
    /// Every group, in the order in which a lane reads its own.
    pub const ALL: [Self; 12] = [
        Self::Cpu,
        Self::Memory,
        Self::DiskIo,
        Self::Network,
        Self::Pressure,
        Self::Load,
        Self::Uptime,
        Self::Info,
        Self::DiskUsage,
        Self::Processes,
        Self::Ports,
        Self::Services,
    ];

    /// Its name in the `errors` of a sample.
    #[must_use]
    pub const fn component(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::DiskUsage => "disk.usage",
            Self::DiskIo => "disk.io",
            Self::Network => "network",
            Self::Pressure => "pressure",
            Self::Load => "load",
            Self::Uptime => "uptime",
            Self::Info => "info",
            Self::Processes => "processes",
            Self::Ports => "ports",
            Self::Services => "services",
        }
    }

    /// Whether it holds rates, which need a reading some time before the one that counts.
    pub(super) const fn has_rates(self) -> bool {
        matches!(self, Self::Cpu | Self::DiskIo | Self::Network | Self::Processes)
    }

    /// The thread that reads it. What can hang or takes long is kept apart from what cannot.
    pub(super) const fn lane(self) -> Lane {
        match self {
            Self::DiskUsage => Lane::Disk,
            Self::Processes => Lane::Processes,
            Self::Ports => Lane::Ports,
            Self::Services => Lane::Services,
            _ => Lane::System,
        }
    }
}

/// What the collector does; the `[collector]` part of the configuration becomes one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorSettings {
    /// The groups that samples hold. All of them by default.
    pub groups: BTreeSet<Group>,
    /// How old a group's figures may get before they are read again; a group without an entry is read for every sample.
    ///
    /// By default file systems are 30 s, ports 60 s, services 5 min and names and versions 1 h.
    pub intervals: BTreeMap<Group, Duration>,
    /// How long after the collector's start a group is read for the first time; one without an entry is in the first sample.
    ///
    /// By default services have 5 s. Listing them keeps systemd busy, which at that moment has a machine to boot or agents to restart.
    pub first_after: BTreeMap<Group, Duration>,
    /// How long a sample waits for a group; one without an entry has [`CollectorSettings::DEADLINE`].
    ///
    /// What comes later is not lost: it goes into the samples after. By default services have 500 ms: systemd may be busy, and a
    /// sample must not wait for it.
    pub deadlines: BTreeMap<Group, Duration>,
    /// How many entries the long lists keep.
    pub limits: ListLimits,
}

/// How many entries a list keeps; what is over is counted in `truncated`. A sample never has more than
/// [`ListLimits::MOST`] in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListLimits {
    /// Processes, the heaviest first. By default 200: enough to see what a machine does in a line of moderate length.
    pub processes: usize,
    /// Ports, the listening ones first. By default 500.
    pub ports: usize,
    /// Services. By default 500.
    pub services: usize,
}

impl ListLimits {
    /// The protocol's bound for any list.
    pub const MOST: usize = 1000;

    /// The limit of a group; groups that are no long list have the protocol's bound.
    pub(super) fn of(self, group: Group) -> usize {
        let limit = match group {
            Group::Processes => self.processes,
            Group::Ports => self.ports,
            Group::Services => self.services,
            _ => Self::MOST,
        };
        limit.min(Self::MOST)
    }
}

impl Default for ListLimits {
    fn default() -> Self {
        Self { processes: 200, ports: 500, services: 500 }
    }
}

impl CollectorSettings {
    /// How long a sample waits for a group that has no deadline of its own. Reading takes milliseconds; what needs seconds hangs.
    pub const DEADLINE: Duration = Duration::from_secs(3);

    /// How old ports may get by default, and how often at most all descriptors of all processes are read for whose they are, however often
    /// ports are.
    pub const PORTS_INTERVAL: Duration = Duration::from_secs(60);

    /// How old the group's figures may get; zero where it is read for every sample.
    #[must_use]
    pub fn interval(&self, group: Group) -> Duration {
        self.intervals.get(&group).copied().unwrap_or_default()
    }

    /// How long after the collector's start the group is read for the first time.
    #[must_use]
    pub fn first_after(&self, group: Group) -> Duration {
        self.first_after.get(&group).copied().unwrap_or_default()
    }

    /// How long a sample waits for the group.
    #[must_use]
    pub fn deadline(&self, group: Group) -> Duration {
        self.deadlines.get(&group).copied().unwrap_or(Self::DEADLINE)
    }
}

impl Default for CollectorSettings {
    fn default() -> Self {
        Self {
            groups: Group::ALL.into(),
            intervals: BTreeMap::from([
                (Group::DiskUsage, Duration::from_secs(30)),
                (Group::Ports, Self::PORTS_INTERVAL),
                (Group::Services, Duration::from_secs(5 * 60)),
                (Group::Info, Duration::from_secs(60 * 60)),
            ]),
            first_after: BTreeMap::from([(Group::Services, Duration::from_secs(5))]),
            deadlines: BTreeMap::from([(Group::Services, Duration::from_millis(500))]),
            limits: ListLimits::default(),
        }
    }
}
