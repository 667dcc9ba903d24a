//! A sample against what the guest's own kernel and tools say at the same time.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use infini_protocol::metrics::{DiskUsage, MetricsData, ServiceStatus};

use crate::host_side::HostSide;
use crate::report::Figures;
use crate::tolerance::{same, within, within_percent};
use crate::vm::Vm;
use crate::workbench::Workbench;

/// Services are read every few minutes, and again with the next sample where systemd did not answer in time.
const SERVICES_DEADLINE: Duration = Duration::from_secs(60);

/// All that can be compared with a second source.
pub async fn agrees(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let mut host = bench.connect().await?;
    // Each comparison runs, so that one wrong figure does not hide another.
    let mut wrong = Vec::new();
    wrong.extend(services(&mut host, bench).await.err());
    let earliest = first_number(&bench.vm.run("cat /proc/uptime").await?)?;
    let sample = host.sample().await?;
    let (data, vm) = (&sample.data, &bench.vm);
    figures.note("processes, ports in a sample", format!("{:?}, {:?}", count(&data.processes), count(&data.ports)));
    for result in [
        times(data, vm, earliest).await,
        memory(data, vm).await,
        names(data, vm).await,
        file_systems(data, vm).await,
        interfaces(data, vm).await,
        processes(data, bench).await,
    ] {
        wrong.extend(result.err());
    }
    if !data.errors.is_empty() {
        wrong.push(anyhow!("groups that failed on a healthy machine: {:?}", data.errors));
    }
    ensure!(wrong.is_empty(), "{}", wrong.iter().map(|error| format!("{error:#}")).collect::<Vec<_>>().join("\n"));
    Ok(())
}

/// systemd takes its time, and a sample does not wait for it, so the list may come with a later one.
async fn services(host: &mut HostSide, bench: &Workbench) -> anyhow::Result<()> {
    let unit = |data: &MetricsData| data.services.as_ref()?.iter().find(|unit| &*unit.name == "infiniservice").cloned();
    let (_, unit) = host.sample_with("the agent among its services", SERVICES_DEADLINE, unit).await?;
    same("status of the agent's unit", unit.status, ServiceStatus::Running)?;
    same("pid of the agent's unit", unit.pid, Some(bench.agent_pid().await?))
}

fn count<T>(list: &Option<Vec<T>>) -> usize {
    list.as_ref().map_or(0, Vec::len)
}

async fn times(data: &MetricsData, vm: &Vm, earliest: f64) -> anyhow::Result<()> {
    let latest = first_number(&vm.run("cat /proc/uptime").await?)?;
    let uptime = data.system.uptime_seconds.context("no uptime")? as f64;
    // Whole seconds are told, rounded down.
    ensure!((earliest - 1.0..=latest).contains(&uptime), "uptime_seconds: {uptime} is not from {earliest} to {latest}");
    let load: f64 = first_number(&vm.run("cat /proc/loadavg").await?)?;
    let told = data.system.load_average.context("no load average")?.load_1min.get();
    within("load_1min", told, load, 0.5)?;
    let boot: f64 = first_number(&vm.run("sed -n 's/^btime //p' /proc/stat").await?)?;
    let info = data.system.info.as_ref().context("no info")?;
    within("boot_time", info.boot_time.context("no boot time")?.unix_ms() as f64 / 1000.0, boot, 2.0)?;
    let cores: usize = vm.run("nproc").await?.parse()?;
    same("cores", data.system.cpu.as_ref().context("no cpu")?.cores_usage.len(), cores)
}

async fn memory(data: &MetricsData, vm: &Vm) -> anyhow::Result<()> {
    let memory = data.system.memory.as_ref().context("no memory")?;
    let total: f64 = first_number(&vm.run("sed -n 's/^MemTotal: *//p' /proc/meminfo").await?)?;
    let available: f64 = first_number(&vm.run("sed -n 's/^MemAvailable: *//p' /proc/meminfo").await?)?;
    same("total_kb", memory.total_kb as f64, total)?;
    same("used_kb", memory.used_kb, memory.total_kb - memory.available_kb)?;
    within_percent("available_kb", memory.available_kb as f64, available, 5.0).map(drop)
}

async fn names(data: &MetricsData, vm: &Vm) -> anyhow::Result<()> {
    let info = data.system.info.as_ref().context("no info")?;
    same("hostname", info.hostname.as_deref(), Some(vm.run("cat /proc/sys/kernel/hostname").await?.as_str()))?;
    same("kernel_version", info.kernel_version.as_deref(), Some(vm.run("uname -r").await?.as_str()))?;
    let system = vm.run(". /etc/os-release; echo $NAME").await?;
    same("name of the system", info.name.as_deref(), Some(system.as_str()))
}

async fn file_systems(data: &MetricsData, vm: &Vm) -> anyhow::Result<()> {
    let told = &data.system.disk.as_ref().context("no disk")?.usage_stats;
    // Bytes, so that nothing is rounded but by the agent.
    let df = vm.run("df -B1 -x tmpfs -x devtmpfs --output=target,fstype,size,used,avail | tail -n +2").await?;
    let mounts: BTreeSet<&str> = df.lines().filter_map(|line| line.split_whitespace().next()).collect();
    same("mount points", told.iter().map(|disk| &*disk.mount_point).collect(), mounts)?;
    for line in df.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let disk = told.iter().find(|disk| words.first() == Some(&&*disk.mount_point)).context("no such mount")?;
        one_file_system(disk, &words)?;
    }
    Ok(())
}

fn one_file_system(disk: &DiskUsage, df: &[&str]) -> anyhow::Result<()> {
    let gib = |index: usize| {
        Ok::<_, anyhow::Error>(first_number(df.get(index).context("df is short")?)? / f64::from(1 << 30))
    };
    let what = |field| format!("{field} of {}", disk.mount_point);
    same(&what("filesystem"), Some(&*disk.filesystem), df.get(1).copied())?;
    // A journal may grow between the two looks.
    within(&what("total_gb"), disk.total_gb.get(), gib(2)?, 0.002)?;
    within(&what("used_gb"), disk.used_gb.get(), gib(3)?, 0.02)?;
    within(&what("available_gb"), disk.available_gb.get(), gib(4)?, 0.02)
}

async fn interfaces(data: &MetricsData, vm: &Vm) -> anyhow::Result<()> {
    let told = &data.system.network.as_ref().context("no network")?.interfaces;
    let real = vm.run("ls /sys/class/net").await?;
    let without_loopback =
        |names: Vec<&str>| names.into_iter().filter(|name| *name != "lo").map(str::to_owned).collect();
    let told_names: BTreeSet<String> = without_loopback(told.iter().map(|interface| &*interface.name).collect());
    same("interfaces", told_names, without_loopback(real.lines().collect()))
}

async fn processes(data: &MetricsData, bench: &Workbench) -> anyhow::Result<()> {
    let list = data.processes.as_ref().context("no processes")?;
    let pid = bench.agent_pid().await?;
    let agent = list.iter().find(|process| process.pid == pid).context("the agent is not among the processes")?;
    same("name of the agent's process", &*agent.name, "infiniservice")?;
    same("user of the agent's process", agent.user.as_deref(), Some("root"))?;
    let first = list.iter().find(|process| process.pid == 1).context("process 1 is not among the processes")?;
    same("name of process 1", &*first.name, "systemd")?;
    let real: f64 = first_number(&bench.vm.run("ls -d /proc/[0-9]* | wc -l").await?)?;
    within("number of processes", list.len() as f64, real, 8.0)
}

fn first_number(text: &str) -> anyhow::Result<f64> {
    text.split_whitespace().next().and_then(|word| word.parse().ok()).with_context(|| format!("no number in {text:?}"))
}
