//! What a platform must be able to read, and how it says that it could not.

use std::path::PathBuf;
use std::time::Instant;

use infini_protocol::ErrorCode;
use infini_protocol::metrics::{
    CollectError, CpuMetrics, DiskDevice, DiskIo, DiskUsage, LoadAverage, MachineInfo, MemoryMetrics, NetworkInterface,
    PortMetrics, PressureMetrics, ProcessMetrics, ServiceInfo,
};

/// The groups of a sample, each read from the operating system. One implementation a platform.
///
/// A method is called on the thread of its group and may block there; the caller's deadline is its own affair. Rates are over the
/// time since the same method's call before: `now` is a monotonic reading, so that a set clock disturbs nothing. The first call has
/// nothing to compare with and gives rates of zero or none; the caller makes it early and waits a moment before the one it uses.
pub trait SystemMetricsProvider: Send + 'static {
    /// Processors.
    ///
    /// # Errors
    /// Where the group cannot be read; so with every method here.
    fn collect_cpu(&mut self, now: Instant) -> Result<CpuMetrics, CollectFailure>;
    /// Memory and swap.
    #[allow(missing_docs, clippy::missing_errors_doc)]
    fn collect_memory(&mut self) -> Result<MemoryMetrics, CollectFailure>;
    /// File systems that are really mounted, each once.
    #[allow(clippy::missing_errors_doc)]
    fn collect_disk_usage(&mut self) -> Result<List<DiskUsage>, CollectFailure>;
    /// Traffic of whole disks.
    #[allow(clippy::missing_errors_doc)]
    fn collect_disk_io(&mut self, now: Instant) -> Result<DiskIoReading, CollectFailure>;
    /// Network interfaces.
    #[allow(clippy::missing_errors_doc)]
    fn collect_network(&mut self, now: Instant) -> Result<List<NetworkInterface>, CollectFailure>;
    /// Seconds since boot.
    #[allow(clippy::missing_errors_doc)]
    fn collect_uptime(&mut self) -> Result<u64, CollectFailure>;
    /// Load averages.
    #[allow(clippy::missing_errors_doc)]
    fn collect_load_average(&mut self) -> Result<LoadAverage, CollectFailure>;
    /// Pressure stall information.
    #[allow(clippy::missing_errors_doc)]
    fn collect_pressure(&mut self) -> Result<PressureMetrics, CollectFailure>;
    /// What hardly ever changes.
    #[allow(clippy::missing_errors_doc)]
    fn collect_info(&mut self) -> Result<MachineInfo, CollectFailure>;
    /// Processes, the heaviest first, at most `limit`.
    #[allow(clippy::missing_errors_doc)]
    fn collect_processes(&mut self, now: Instant, limit: usize) -> Result<List<ProcessMetrics>, CollectFailure>;
    /// Local ports, listening ones first, at most `limit`.
    #[allow(clippy::missing_errors_doc)]
    fn collect_ports(&mut self, limit: usize) -> Result<List<PortMetrics>, CollectFailure>;
    /// Whether the share of work that one call may do was too small for all of the ports' owners.
    fn has_more_of_ports(&self) -> bool {
        false
    }
    /// Does another share, and tells the same ports again.
    #[allow(clippy::missing_errors_doc)]
    fn collect_more_of_ports(&mut self, limit: usize) -> Result<List<PortMetrics>, CollectFailure> {
        self.collect_ports(limit)
    }
    /// Services, at most `limit`.
    #[allow(clippy::missing_errors_doc)]
    fn collect_services(&mut self, limit: usize) -> Result<List<ServiceInfo>, CollectFailure>;
}

/// A list that may have been cut, and what of it could not be read.
#[derive(Clone, Debug, PartialEq)]
pub struct List<T> {
    /// The entries that are kept.
    pub entries: Vec<T>,
    /// How many there were.
    pub total: usize,
    /// Parts that failed while the rest could be read.
    pub errors: Vec<CollectError>,
}

/// Disk traffic: all disks together and each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiskIoReading {
    /// All together.
    pub total: DiskIo,
    /// One entry a disk.
    pub devices: Vec<DiskDevice>,
}

/// Why a group could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CollectFailure {
    /// The machine does not have this; the group is absent and nobody needs to hear of it.
    #[error("this machine has no {0}")]
    Unsupported(&'static str),
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was read.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What was read is not what it should be.
    #[error("{}: {reason}", path.display())]
    Parse {
        /// What was read.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A service that was asked (D-Bus) did not do its part.
    #[error("{service}: {reason}")]
    Service {
        /// Who was asked.
        service: &'static str,
        /// What it said.
        reason: String,
    },
}

impl CollectFailure {
    /// An error of reading `path`.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// The text of `path` is not what it should be.
    pub fn parse(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Parse { path: path.into(), reason: reason.into() }
    }

    /// The word for programs.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unsupported(_) => ErrorCode::UnsupportedPlatform,
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                ErrorCode::PermissionDenied
            }
            Self::Io { .. } | Self::Parse { .. } | Self::Service { .. } => ErrorCode::CommandFailed,
        }
    }
}
