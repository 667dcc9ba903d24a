//! One sample as text for people. Nothing of the guest's text is left that a terminal would act on.

use std::fmt::{self, Write};
use std::time::Duration;

use infini_protocol::metrics::{MetricsData, SystemMetrics};

use crate::sanitize::{excerpt, sanitize};
use crate::units::{gib, kib, percent, rate, span};
use crate::vm::{Sample, Status};

/// How many processes the report names.
const PROCESSES: usize = 10;

/// The report.
#[must_use]
pub fn text(name: &str, status: &Status, sample: &Sample) -> String {
    let mut report = String::new();
    // Writing to a String cannot fail.
    write(&mut report, name, status, sample).ok();
    report
}

fn write(out: &mut String, name: &str, status: &Status, sample: &Sample) -> fmt::Result {
    let (data, system) = (&sample.data, &sample.data.system);
    write!(out, "{}", sanitize(name))?;
    if let Some(info) = &system.info {
        let facts = [&info.hostname, &info.name, &info.os_version, &info.kernel_version, &info.arch];
        let facts: Vec<String> = facts.into_iter().flatten().map(|fact| excerpt(fact, 60)).collect();
        write!(out, "  {}", facts.join("  "))?;
    }
    if let Some(handshake) = &status.handshake {
        write!(out, "  agent {}", excerpt(&handshake.version, 20))?;
    }
    writeln!(out, "\nat       {}", sample.timestamp)?;
    figures(out, system)?;
    file_systems(out, system)?;
    interfaces(out, system)?;
    processes(out, data)?;
    if let Some(ports) = &data.ports {
        let mut listening: Vec<String> = ports
            .iter()
            .filter(|port| port.is_listening)
            .map(|port| {
                format!(
                    "{}/{}",
                    port.port,
                    if port.protocol < infini_protocol::metrics::PortProtocol::Udp { "tcp" } else { "udp" }
                )
            })
            .collect();
        listening.dedup();
        writeln!(out, "\nlistening  {}", listening.join(" "))?;
    }
    for error in &data.errors {
        writeln!(out, "not measured: {}: {}", excerpt(&error.component, 80), excerpt(&error.message, 200))?;
    }
    Ok(())
}

fn figures(out: &mut String, system: &SystemMetrics) -> fmt::Result {
    if let Some(seconds) = system.uptime_seconds {
        writeln!(out, "up       {}", span(Duration::from_secs(seconds)))?;
    }
    if let Some(load) = system.load_average {
        let loads = [load.load_1min, load.load_5min, load.load_15min];
        writeln!(out, "load     {}", loads.map(|load| format!("{:.2}", load.get())).join(" "))?;
    }
    if let Some(cpu) = &system.cpu {
        write!(out, "cpu      {:.1} % of {} processors", cpu.usage_percent.get(), cpu.cores_usage.len())?;
        for (name, share) in [("steal", cpu.steal_percent), ("iowait", cpu.iowait_percent)] {
            if let Some(share) = share {
                write!(out, ", {name} {:.1} %", share.get())?;
            }
        }
        writeln!(out)?;
    }
    if let Some(memory) = &system.memory {
        let share = percent(memory.used_kb as f64, memory.total_kb as f64);
        writeln!(out, "memory   {} of {} ({share:.1} %)", kib(memory.used_kb), kib(memory.total_kb))?;
        if let (Some(used), Some(total @ 1..)) = (memory.swap_used_kb, memory.swap_total_kb) {
            writeln!(out, "swap     {} of {}", kib(used), kib(total))?;
        }
    }
    if let Some(io) = system.disk.as_ref().and_then(|disk| disk.io_stats) {
        let (read, write) = (rate(io.read_bytes_per_sec), rate(io.write_bytes_per_sec));
        writeln!(out, "disks    read {read}, write {write}, busy {:.1} %", io.io_utilization_percent.get())?;
    }
    Ok(())
}

fn file_systems(out: &mut String, system: &SystemMetrics) -> fmt::Result {
    let Some(disk) = system.disk.as_ref().filter(|disk| !disk.usage_stats.is_empty()) else { return Ok(()) };
    writeln!(out, "\n{:<28} {:<10} {:>10} {:>10} {:>6}", "MOUNT", "TYPE", "USED", "SIZE", "USE%")?;
    for usage in &disk.usage_stats {
        writeln!(
            out,
            "{:<28} {:<10} {:>10} {:>10} {:>6.1}",
            excerpt(&usage.mount_point, 28),
            excerpt(&usage.filesystem, 10),
            gib(usage.used_gb.get()),
            gib(usage.total_gb.get()),
            percent(usage.used_gb.get(), usage.used_gb.get() + usage.available_gb.get()),
        )?;
    }
    Ok(())
}

fn interfaces(out: &mut String, system: &SystemMetrics) -> fmt::Result {
    let Some(network) = system.network.as_ref().filter(|network| !network.interfaces.is_empty()) else {
        return Ok(());
    };
    writeln!(out, "\n{:<16} {:<5} {:>14} {:>14}  ADDRESSES", "INTERFACE", "STATE", "RECEIVES", "SENDS")?;
    for interface in &network.interfaces {
        let speed = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), rate);
        let addresses: Vec<String> = interface.ip_addresses.iter().take(8).map(|ip| excerpt(ip, 45)).collect();
        writeln!(
            out,
            "{:<16} {:<5} {:>14} {:>14}  {}",
            excerpt(&interface.name, 16),
            if interface.is_up { "up" } else { "down" },
            speed(interface.received_bytes_per_sec),
            speed(interface.sent_bytes_per_sec),
            addresses.join(" "),
        )?;
    }
    Ok(())
}

fn processes(out: &mut String, data: &MetricsData) -> fmt::Result {
    let Some(processes) = &data.processes else { return Ok(()) };
    let mut heaviest: Vec<_> = processes.iter().collect();
    heaviest.sort_by(|a, b| b.cpu_percent.get().total_cmp(&a.cpu_percent.get()).then(b.memory_kb.cmp(&a.memory_kb)));
    writeln!(out, "\n{:>8} {:<12} {:>6} {:>10}  COMMAND", "PID", "USER", "CPU%", "MEMORY")?;
    for process in heaviest.into_iter().take(PROCESSES) {
        writeln!(
            out,
            "{:>8} {:<12} {:>6.1} {:>10}  {}",
            process.pid,
            excerpt(process.user.as_deref().unwrap_or("-"), 12),
            process.cpu_percent.get(),
            kib(process.memory_kb),
            excerpt(process.cmd_line.as_deref().filter(|line| !line.is_empty()).unwrap_or(&process.name), 80),
        )?;
    }
    Ok(())
}
