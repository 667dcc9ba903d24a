//! Linux: straight from `/proc` and `/sys`.

mod address;
mod cpu;
mod disk_io;
mod disk_usage;
mod file;
mod info;
mod load;
mod memory;
mod mounts;
mod network;
mod port;
mod pressure;
mod probe;
mod process;
mod process_activity;
mod process_dir;
mod process_identity;
mod process_stat;
mod process_table;
mod roots;
mod scan;
pub mod service;
mod socket_owner;
mod socket_table;
pub mod systemd;
mod temperature;
mod unit_files;
mod users;

use std::sync::Arc;
use std::time::Instant;

use infini_protocol::metrics::{
    CpuMetrics, DiskUsage, LoadAverage, MachineInfo, MemoryMetrics, NetworkInterface, PortMetrics, PressureMetrics,
    ProcessMetrics, ServiceInfo,
};

use super::{CollectFailure, DiskIoReading, List, SystemMetricsProvider};
pub use address::{Address, AddressSource};
use cpu::CpuReader;
use disk_io::DiskIoReader;
use disk_usage::DiskUsageReader;
pub use info::OsRelease;
use load::LoadReader;
use memory::MemoryReader;
pub use mounts::{MountState, mount_points, mount_types, states, types_on_devices};
use network::NetworkReader;
pub use port::PortReader;
use pressure::PressureReader;
use probe::Outstanding;
pub use probe::{Probe, Space};
pub use process::ProcessReader;
pub use roots::Roots;
pub use service::ServiceReader;

/// Measures a Linux machine.
///
/// Its files are opened when they are first read, so that one of its kind in each of the collector's threads holds open only what
/// that thread reads.
pub struct LinuxCollector {
    roots: Roots,
    buffer: Vec<u8>,
    cpu: CpuReader,
    memory: MemoryReader,
    disk_usage: DiskUsageReader,
    disk_io: DiskIoReader,
    network: NetworkReader,
    pressure: PressureReader,
    load: LoadReader,
    processes: ProcessReader,
    ports: PortReader,
    services: ServiceReader,
}

impl LinuxCollector {
    /// Measures this machine.
    #[must_use]
    pub fn new(roots: Roots) -> Self {
        let outstanding = Outstanding::of_this_process();
        Self::with(roots, Arc::new(probe::statvfs), outstanding, Box::new(address::ask_kernel))
    }

    /// Measures this machine for one command. However many such there are at once, none keeps a descriptor of each process.
    #[must_use]
    pub fn passing(roots: Roots) -> Self {
        Self { processes: ProcessReader::passing(roots.clone()), ..Self::new(roots) }
    }

    /// Measures what the files under `roots` tell, and asks `probe` and `addresses` what only system calls know.
    #[must_use]
    pub fn with_kernel(roots: Roots, probe: Probe, addresses: AddressSource) -> Self {
        Self::with(roots, probe, Outstanding::default(), addresses)
    }

    fn with(roots: Roots, probe: Probe, outstanding: Outstanding, addresses: AddressSource) -> Self {
        Self {
            buffer: Vec::new(),
            cpu: CpuReader::new(&roots),
            memory: MemoryReader::new(&roots),
            disk_usage: DiskUsageReader::new(&roots, probe, outstanding),
            disk_io: DiskIoReader::new(&roots),
            network: NetworkReader::new(&roots, addresses),
            pressure: PressureReader::new(&roots),
            load: LoadReader::new(&roots),
            processes: ProcessReader::new(roots.clone()),
            ports: PortReader::new(roots.clone()),
            services: ServiceReader::new(),
            roots,
        }
    }
}

impl SystemMetricsProvider for LinuxCollector {
    fn collect_cpu(&mut self, now: Instant) -> Result<CpuMetrics, CollectFailure> {
        self.cpu.read(now, &mut self.buffer)
    }

    fn collect_memory(&mut self) -> Result<MemoryMetrics, CollectFailure> {
        self.memory.read(&mut self.buffer)
    }

    fn collect_disk_usage(&mut self) -> Result<List<DiskUsage>, CollectFailure> {
        self.disk_usage.read(&mut self.buffer)
    }

    fn collect_disk_io(&mut self, now: Instant) -> Result<DiskIoReading, CollectFailure> {
        self.disk_io.read(now, &mut self.buffer)
    }

    fn collect_network(&mut self, now: Instant) -> Result<List<NetworkInterface>, CollectFailure> {
        self.network.read(now, &mut self.buffer)
    }

    fn collect_uptime(&mut self) -> Result<u64, CollectFailure> {
        self.load.uptime(&mut self.buffer)
    }

    fn collect_load_average(&mut self) -> Result<LoadAverage, CollectFailure> {
        self.load.load(&mut self.buffer)
    }

    fn collect_pressure(&mut self) -> Result<PressureMetrics, CollectFailure> {
        self.pressure.read(&mut self.buffer)
    }

    fn collect_info(&mut self) -> Result<MachineInfo, CollectFailure> {
        info::read(&self.roots)
    }

    fn collect_processes(&mut self, now: Instant, limit: usize) -> Result<List<ProcessMetrics>, CollectFailure> {
        self.processes.read(now, limit)
    }

    fn collect_ports(&mut self, limit: usize) -> Result<List<PortMetrics>, CollectFailure> {
        self.ports.read(limit)
    }

    fn has_more_of_ports(&self) -> bool {
        self.ports.is_unfinished()
    }

    fn collect_more_of_ports(&mut self, limit: usize) -> Result<List<PortMetrics>, CollectFailure> {
        Ok(self.ports.go_on(Instant::now(), limit))
    }

    fn collect_services(&mut self, limit: usize) -> Result<List<ServiceInfo>, CollectFailure> {
        self.services.read(limit)
    }
}
