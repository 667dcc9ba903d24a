//! The `metrics` message: one sample of a machine.
//!
//! What could not be measured is absent here and named in [`MetricsData::errors`]. A version 1 host refuses a message without
//! certain keys; only the encoder ([`crate::encode`]) fills these.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::encode::fill::{COMPONENTS, is_named};
use crate::parse::null_as_default;
use crate::{ErrorCode, Finite, Percent, Text, Timestamp};

/// One sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MetricsData {
    /// The machine as a whole.
    #[serde(default, deserialize_with = "null_as_default")]
    pub system: SystemMetrics,
    /// Processes, the heaviest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<Vec<ProcessMetrics>>,
    /// Local TCP and UDP ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<PortMetrics>>,
    /// Services of a Linux machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<Vec<ServiceInfo>>,
    /// Services of a Windows machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows_services: Option<Vec<WindowsServiceInfo>>,
    /// Applications of a Windows machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applications: Option<Vec<ApplicationUsage>>,
    /// What plugins measured, by plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugins: Option<BTreeMap<String, Vec<PluginMetric>>>,
    /// What could not be measured this time.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<CollectError>,
    /// Lists that were cut: their name and how many entries there were.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub truncated: BTreeMap<String, u64>,
}

impl MetricsData {
    /// The sample as it was measured: keys that an encoder had to fill for version 1 hosts, which `errors` tells, are absent again.
    #[must_use]
    pub fn without_filled(mut self) -> Self {
        let Self { system, errors, .. } = &mut self;
        for component in COMPONENTS.into_iter().filter(|component| is_named(errors, component)) {
            match component {
                "cpu" => system.cpu = None,
                "memory" => system.memory = None,
                "disk" => system.disk = None,
                "disk.io" => system.disk.iter_mut().for_each(|disk| disk.io_stats = None),
                "network" => system.network = None,
                "uptime" => system.uptime_seconds = None,
                // An empty list stands for itself.
                _ => {}
            }
        }
        self
    }
}

/// The machine as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SystemMetrics {
    /// Processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuMetrics>,
    /// Memory and swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryMetrics>,
    /// File systems and disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskMetrics>,
    /// Network interfaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkMetrics>,
    /// Seconds since boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_seconds: Option<u64>,
    /// Linux load averages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_average: Option<LoadAverage>,
    /// What hardly ever changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<MachineInfo>,
    /// Linux pressure stall information.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pressure: Option<PressureMetrics>,
}

/// Processors, over the time since the sample before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuMetrics {
    /// All processors together; what was idle or waited for disks is not use.
    pub usage_percent: Percent,
    /// One figure a logical processor that is online, in their order.
    #[serde(default, deserialize_with = "null_as_default")]
    pub cores_usage: Vec<Percent>,
    /// °C of the processor, where a sensor tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Finite>,
    /// Time that the hypervisor gave to others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steal_percent: Option<Percent>,
    /// Time that processors idled while a disk was awaited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iowait_percent: Option<Percent>,
}

/// Memory and swap, in KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryMetrics {
    /// All that the system manages.
    pub total_kb: u64,
    /// Total less available.
    pub used_kb: u64,
    /// What programs could get without swapping.
    pub available_kb: u64,
    /// Swap in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_total_kb: Option<u64>,
    /// Swap in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_used_kb: Option<u64>,
}

/// File systems and disks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DiskMetrics {
    /// One entry a mounted file system.
    #[serde(default, deserialize_with = "null_as_default")]
    pub usage_stats: Vec<DiskUsage>,
    /// All disks together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_stats: Option<DiskIo>,
    /// One entry a disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<DiskDevice>>,
}

/// How full a file system is, in GiB.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiskUsage {
    /// Where it is mounted.
    pub mount_point: Text,
    /// Its size.
    pub total_gb: Finite,
    /// What is taken.
    pub used_gb: Finite,
    /// What an ordinary user can still take.
    pub available_gb: Finite,
    /// Its type, such as `ext4`.
    pub filesystem: Text,
    /// What is mounted, such as `/dev/vda1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<Text>,
    /// How many of its inodes are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inodes_used_percent: Option<Percent>,
}

/// Disk traffic over the time since the sample before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DiskIo {
    /// Bytes read a second.
    pub read_bytes_per_sec: u64,
    /// Bytes written a second.
    pub write_bytes_per_sec: u64,
    /// Reads finished a second.
    pub read_ops_per_sec: u64,
    /// Writes finished a second.
    pub write_ops_per_sec: u64,
    /// Time that the disk had work; of the busiest where it stands for several.
    pub io_utilization_percent: Percent,
}

/// One disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiskDevice {
    /// The kernel's name, such as `vda`.
    pub name: Text,
    /// Its traffic.
    #[serde(flatten)]
    pub io: DiskIo,
}

/// Network interfaces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NetworkMetrics {
    /// One entry an interface.
    #[serde(default, deserialize_with = "null_as_default")]
    pub interfaces: Vec<NetworkInterface>,
}

/// One network interface. Counters run since the interface exists.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NetworkInterface {
    /// Its name.
    pub name: Text,
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Packets received.
    pub packets_received: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets that came in with an error.
    pub errors_in: u64,
    /// Packets that could not be sent.
    pub errors_out: u64,
    /// Its addresses without prefix length.
    #[serde(default, deserialize_with = "null_as_default")]
    pub ip_addresses: Vec<Text>,
    /// Its hardware address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Text>,
    /// Whether it can carry traffic.
    pub is_up: bool,
    /// Bytes received a second since the sample before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_bytes_per_sec: Option<u64>,
    /// Bytes sent a second since the sample before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_bytes_per_sec: Option<u64>,
}

/// Linux load averages.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadAverage {
    /// Over one minute.
    pub load_1min: Finite,
    /// Over five minutes.
    pub load_5min: Finite,
    /// Over fifteen minutes.
    pub load_15min: Finite,
}

/// What hardly ever changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineInfo {
    /// The system's name, such as `Debian GNU/Linux`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Text>,
    /// Its version, such as `12`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_version: Option<Text>,
    /// The kernel's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_version: Option<Text>,
    /// The machine's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Text>,
    /// The processor architecture, as Rust names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<Text>,
    /// When the machine started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_time: Option<Timestamp>,
}

/// Linux pressure stall information.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PressureMetrics {
    /// Waiting for a processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Pressure>,
    /// Waiting for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Pressure>,
    /// Waiting for disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io: Option<Pressure>,
}

/// Shares of the last ten seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// At least one task waited.
    pub some_avg10: Percent,
    /// All tasks waited; kernels before 5.13 do not say so for processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_avg10: Option<Percent>,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessMetrics {
    /// Its id.
    pub pid: u32,
    /// Its parent's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ppid: Option<u32>,
    /// Its name.
    pub name: Text,
    /// The program that it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe_path: Option<Text>,
    /// Its arguments, separated by spaces, at most 4 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd_line: Option<Text>,
    /// The user that it runs as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Text>,
    /// Of one logical processor, as `top` shows it: may exceed 100.
    pub cpu_percent: Finite,
    /// Resident memory in KiB.
    pub memory_kb: u64,
    /// Bytes that it read from disks since it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_read_bytes: Option<u64>,
    /// Bytes that it wrote to disks since it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_write_bytes: Option<u64>,
    /// What it does.
    pub status: ProcessStatus,
    /// When it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessStatus {
    /// Runs, or waits for a processor.
    Running,
    /// Waits for an event.
    Sleeping,
    /// Waits for a disk and cannot be interrupted.
    DiskSleep,
    /// Stopped by a signal.
    Stopped,
    /// Stopped by a debugger.
    Tracing,
    /// Over, but not reaped by its parent.
    Zombie,
    /// About to vanish.
    Dead,
    /// An idle kernel thread.
    Idle,
    /// Another state.
    #[serde(other)]
    Unknown,
}

/// A transport protocol and its address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortProtocol {
    /// TCP over IPv4.
    Tcp,
    /// TCP over IPv6.
    Tcp6,
    /// UDP over IPv4.
    Udp,
    /// UDP over IPv6.
    Udp6,
    /// Another transport.
    #[serde(other)]
    Unknown,
}

/// A local port: one that is listened on, or one that connections go out from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PortMetrics {
    /// The port number.
    pub port: u16,
    /// Over what.
    pub protocol: PortProtocol,
    /// The socket's state in capitals, as `ss` and `netstat` name it (`LISTEN`, `ESTABLISHED`, `UNCONN`).
    pub state: Text,
    /// The local address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Text>,
    /// The process that owns it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// That process's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process_name: Option<Text>,
    /// That process's program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe_path: Option<Text>,
    /// Whether it takes connections (UDP: datagrams from anyone).
    pub is_listening: bool,
    /// Connections that use this local port now.
    pub connection_count: u32,
}

/// A service of a Linux machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceInfo {
    /// The name that commands take, such as `nginx`.
    pub name: Text,
    /// The name for people.
    pub display_name: Text,
    /// What it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Text>,
    /// What it does now.
    pub status: ServiceStatus,
    /// When it starts.
    pub startup_type: StartupType,
    /// Its main process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Whether it can be started now.
    pub can_start: bool,
    /// Whether it can be stopped now.
    pub can_stop: bool,
    /// Whether it can be restarted now.
    pub can_restart: bool,
}

/// What a service does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceStatus {
    /// Runs.
    Running,
    /// Does not run.
    Stopped,
    /// Ended in failure.
    Failed,
    /// On its way up.
    Starting,
    /// On its way down.
    Stopping,
    /// Paused (Windows).
    Paused,
    /// Not known.
    #[serde(other)]
    Unknown,
}

/// When a service starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartupType {
    /// With the machine.
    Auto,
    /// Soon after the machine.
    AutoDelayed,
    /// On demand.
    Manual,
    /// Never.
    Disabled,
    /// Only as part of others (systemd).
    Static,
    /// Not known.
    #[serde(other)]
    Unknown,
}

/// A service of a Windows machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowsServiceInfo {
    /// The service's key name.
    pub name: Text,
    /// The name for people.
    pub display_name: Text,
    /// What it is, at most 4 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Text>,
    /// When it starts.
    pub start_type: Text,
    /// How it is hosted.
    pub service_type: Text,
    /// Its program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe_path: Option<Text>,
    /// Services that it needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dependencies: Option<Vec<Text>>,
    /// What it does now.
    pub state: Text,
    /// Its process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Whether it came with Windows.
    pub is_default: bool,
}

/// An application of a Windows machine and its use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApplicationUsage {
    /// Its program.
    pub exe_path: Text,
    /// Its name.
    pub name: Text,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Text>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher: Option<Text>,
    /// When its program was changed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<Timestamp>,
    /// How often it was seen started.
    pub access_count: u64,
    /// How long it was seen running, in minutes.
    pub usage_minutes: u64,
    /// Whether it runs now.
    pub is_active: bool,
}

/// One figure of a plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginMetric {
    /// Its name.
    pub name: String,
    /// What tells it from others of its name.
    #[serde(default, deserialize_with = "null_as_default")]
    pub labels: BTreeMap<String, String>,
    /// The figure.
    pub value: Finite,
    /// How it moves.
    pub kind: PluginMetricKind,
}

/// How a plugin's figure moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PluginMetricKind {
    /// Up and down.
    Gauge,
    /// Only up.
    Counter,
    /// In a way that a newer agent knows.
    #[serde(other)]
    Unknown,
}

/// Something that could not be measured this time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectError {
    /// The group (`cpu`, `memory`, `disk`, `network`, `uptime`, ...) when all of it is missing; with a part behind a dot or a
    /// colon (`disk.io`, `disk.usage:/mnt/nfs`) when only that is.
    pub component: Text,
    /// The word for programs.
    pub error_code: ErrorCode,
    /// The cause.
    pub message: String,
}
