//! Disk, memory and load, from the collector.

use std::time::Instant;

use infini_protocol::metrics::{DiskUsage, Pressure};
use serde_json::json;

use super::Why;
use crate::collector::CollectFailure;
use crate::commands::action::Context;
use crate::commands::disk_space::{SpaceStatus, Thresholds, used_percent};
use crate::commands::health::{Finding, Status};

/// Of memory in percent: below this the kernel drops caches that programs are about to read again.
pub const LEAST_AVAILABLE_WARNING: f64 = 10.0;

/// Below this an ordinary burst ends with the kernel killing a program.
const LEAST_AVAILABLE_CRITICAL: f64 = 4.0;

/// Of the last ten seconds in percent in which no program got on for want of memory. Healthy machines stay under one.
pub const FULL_STALL_WARNING: f64 = 10.0;

/// Where systemd-oomd begins to kill: its DefaultMemoryPressureLimit.
const FULL_STALL_CRITICAL: f64 = 60.0;

/// Programs that want to run, for each processor, over five minutes: twice as much work as can be done.
pub const LOAD_WARNING: f64 = 2.0;

/// Here whoever asks for something waits five times as long as on an idle machine.
const LOAD_CRITICAL: f64 = 5.0;

pub fn disk(context: &Context) -> Result<Finding, Why> {
    let list = (context.collector)().collect_disk_usage().map_err(told)?;
    let silent: Vec<&str> = list.errors.iter().map(|error| &*error.component).collect();
    if list.entries.is_empty() && silent.is_empty() {
        return Err("no file system tells how full it is".to_owned());
    }
    let judged: Vec<(&DiskUsage, SpaceStatus)> = list.entries.iter().map(|usage| (usage, judge(usage))).collect();
    let worst = judged.iter().map(|(_, status)| status_of(*status)).max().unwrap_or(Status::Healthy);
    let full: Vec<String> =
        judged.iter().filter(|(_, status)| *status != SpaceStatus::Ok).map(|(u, _)| say(u)).collect();
    let mut message = if full.is_empty() {
        "every file system has room".to_owned()
    } else {
        format!("little room: {}; remove files or enlarge the disk", full.join(", "))
    };
    if !silent.is_empty() {
        message += &format!("; no answer from {}", silent.join(", "));
    }
    let told = judged.iter().map(|(usage, status)| {
        json!({ "mount_point": usage.mount_point, "used_percent": used_percent(usage),
            "inodes_used_percent": usage.inodes_used_percent, "status": status })
    });
    let status = if silent.is_empty() { worst } else { worst.max(Status::Warning) };
    Ok(Finding::new(status, message).with(json!({ "file_systems": told.collect::<Vec<_>>() })))
}

/// Without inodes nothing can be created either, however much space there is.
fn judge(usage: &DiskUsage) -> SpaceStatus {
    let thresholds = Thresholds::default();
    let inodes = usage.inodes_used_percent.map_or(SpaceStatus::Ok, |percent| thresholds.judge(percent.get()));
    thresholds.judge(used_percent(usage).get()).max(inodes)
}

fn say(usage: &DiskUsage) -> String {
    let inodes = usage.inodes_used_percent.map_or(0.0, |percent| percent.get());
    let space = used_percent(usage).get();
    if inodes > space {
        format!("{} ({inodes:.0} % of the inodes are used)", usage.mount_point)
    } else {
        format!("{} ({space:.0} % used)", usage.mount_point)
    }
}

const fn status_of(space: SpaceStatus) -> Status {
    match space {
        SpaceStatus::Ok => Status::Healthy,
        SpaceStatus::Warning => Status::Warning,
        SpaceStatus::Critical => Status::Critical,
    }
}

pub fn memory(context: &Context) -> Result<Finding, Why> {
    let mut collector = (context.collector)();
    let memory = collector.collect_memory().map_err(told)?;
    // Old kernels have none; then the amount decides alone.
    let stall = collector.collect_pressure().ok().and_then(|pressure| full(pressure.memory));
    let available = percent(memory.available_kb, memory.total_kb);
    let by_amount = below(available, LEAST_AVAILABLE_WARNING, LEAST_AVAILABLE_CRITICAL);
    let by_stall = stall.map_or(Status::Healthy, |stall| above(stall, FULL_STALL_WARNING, FULL_STALL_CRITICAL));
    let status = by_amount.max(by_stall);
    let mut message = format!("{available:.0} % of memory is available");
    if by_stall > Status::Healthy {
        message +=
            &format!("; programs stood still for {:.0} % of the last 10 s for want of it", stall.unwrap_or_default());
    }
    if status > Status::Healthy {
        message += "; stop what needs it or give the machine more";
    }
    let swap = memory.swap_total_kb.zip(memory.swap_used_kb).filter(|(total, _)| *total > 0);
    let details = json!({ "available_kb": memory.available_kb, "total_kb": memory.total_kb,
        "swap_used_percent": swap.map(|(total, used)| percent(used, total).round()), "full_stall_percent": stall });
    Ok(Finding::new(status, message).with(details))
}

/// In which nobody got on.
fn full(pressure: Option<Pressure>) -> Option<f64> {
    Some(pressure?.full_avg10?.get())
}

pub fn load(context: &Context) -> Result<Finding, Why> {
    let load = (context.collector)().collect_load_average().map_err(told)?;
    let processors = processors(context)?;
    let each = load.load_5min.get() / processors as f64;
    let status = above(each, LOAD_WARNING, LOAD_CRITICAL);
    let mut message = format!("the load over 5 minutes is {each:.2} for each of {processors} processors");
    if status > Status::Healthy {
        message += "; `ProcessTop` says who works, and disk pressure who waits";
    }
    let averages = json!({ "load_1min": load.load_1min, "load_5min": load.load_5min, "load_15min": load.load_15min,
        "processors": processors });
    Ok(Finding::new(status, message).with(averages))
}

/// How many processors run.
///
/// # Errors
/// Why that is not known.
pub fn processors(context: &Context) -> Result<usize, Why> {
    let cpu = (context.collector)().collect_cpu(Instant::now()).map_err(told)?;
    Some(cpu.cores_usage.len()).filter(|count| *count > 0).ok_or_else(|| "the kernel lists no processors".to_owned())
}

fn told(failure: CollectFailure) -> Why {
    failure.to_string()
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

fn above(value: f64, warning: f64, critical: f64) -> Status {
    if value >= critical {
        Status::Critical
    } else if value >= warning {
        Status::Warning
    } else {
        Status::Healthy
    }
}

fn below(value: f64, warning: f64, critical: f64) -> Status {
    above(-value, -warning, -critical)
}
