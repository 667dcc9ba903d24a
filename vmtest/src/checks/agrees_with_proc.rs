//! A sample against what the guest's own kernel and tools say at the same time.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use infini_protocol::metrics::{DiskUsage, MetricsData, ServiceStatus, StartupType};
use tokio::time::sleep;

use crate::host_side::HostSide;
use crate::report::Figures;
use crate::tolerance::{same, within, within_percent};
use crate::vm::Vm;
use crate::workbench::Workbench;

/// The agent's unit.
const AGENT: &str = "infiniservice";

/// Services are read every few minutes, and again with the next sample where systemd did not answer in time.
const SERVICES_DEADLINE: Duration = Duration::from_secs(60);

/// The guest has no swap of its own.
const SWAP_ON: &str = "dd if=/dev/zero of=/var/tmp/vmtest.swap bs=1M count=32 status=none && chmod 600 /var/tmp/vmtest.swap && \
                       mkswap --quiet /var/tmp/vmtest.swap && swapon /var/tmp/vmtest.swap";
const SWAP_OFF: &str = "swapoff /var/tmp/vmtest.swap && rm /var/tmp/vmtest.swap";

/// How long the processors are watched. The two looks at them are not the agent's two, which are up to half a second apart from them.
const WATCHED: Duration = Duration::from_secs(5);
const PROCESSOR_PERCENT: f64 = 15.0;

/// All that can be compared with a second source.
pub async fn agrees(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let mut host = bench.connect().await?;
    // Each comparison runs, so that one wrong figure does not hide another.
    let mut wrong = Vec::new();
    wrong.extend(services(&mut host, bench).await.err());
    wrong.extend(processor(&mut host, &bench.vm, figures).await.err());
    let earliest = first_number(&bench.vm.run("cat /proc/uptime").await?)?;
    let cards = bench.vm.run("cat /proc/net/dev").await?;
    let sample = host.sample().await?;
    let (data, vm) = (&sample.data, &bench.vm);
    figures.note("processes, ports in a sample", format!("{:?}, {:?}", count(&data.processes), count(&data.ports)));
    for result in [
        times(data, vm, earliest).await,
        memory(data, vm).await,
        disks(data, vm).await,
        names(data, vm).await,
        file_systems(data, vm).await,
        interfaces(data, vm, &cards).await,
        processes(data, bench).await,
    ] {
        wrong.extend(result.err());
    }
    wrong.extend(swap(&mut host, vm).await.err());
    if !data.errors.is_empty() {
        wrong.push(anyhow!("groups that failed on a healthy machine: {:?}", data.errors));
    }
    ensure!(wrong.is_empty(), "{}", wrong.iter().map(|error| format!("{error:#}")).collect::<Vec<_>>().join("\n"));
    Ok(())
}

/// systemd takes its time, and a sample does not wait for it, so the list may come with a later one.
async fn services(host: &mut HostSide, bench: &Workbench) -> anyhow::Result<()> {
    let listed = |data: &MetricsData| data.services.clone().filter(|list| list.iter().any(|unit| &*unit.name == AGENT));
    let (_, list) = host.sample_with("the agent among its services", SERVICES_DEADLINE, listed).await?;
    let unit = list.iter().find(|unit| &*unit.name == AGENT).context("it was there just now")?;
    same("status of the agent's unit", unit.status, ServiceStatus::Running)?;
    same("pid of the agent's unit", unit.pid, Some(bench.agent_pid().await?))?;
    let files = bench.vm.run("systemctl list-unit-files --type=service --no-legend --no-pager").await?;
    // systemctl calls an alias of a masked service masked itself.
    let aliases = bench
        .vm
        .run("find /etc/systemd/system /lib/systemd/system -maxdepth 1 -type l -name '*.service' -printf '%f %l\\n'")
        .await?;
    let aliases: BTreeSet<&str> = aliases
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, target)| *target != "/dev/null" && !target.ends_with(name))
        .map(|(name, _)| name)
        .collect();
    let mut wrong = Vec::new();
    let mut compared = 0;
    for line in files.lines() {
        let mut words = line.split_whitespace();
        let (Some(file), Some(state)) = (words.next(), words.next()) else { continue };
        let name = file.trim_end_matches(".service");
        // Templates are no services, and an alias is another name of one.
        if name.ends_with('@') || state == "alias" || aliases.contains(file) {
            continue;
        }
        compared += 1;
        let told = list.iter().find(|unit| &*unit.name == name).map(|unit| unit.startup_type);
        if told != Some(startup_type(state)) {
            wrong.push(format!("{name} is {state} for systemctl and {told:?} in the sample"));
        }
    }
    ensure!(compared > 20, "systemctl lists only {compared} services: {files}");
    ensure!(wrong.is_empty(), "{} of {compared} services start otherwise: {}", wrong.len(), wrong.join("; "));
    Ok(())
}

/// The protocol's word for what systemctl says of a unit's file.
fn startup_type(state: &str) -> StartupType {
    match state {
        "enabled" | "enabled-runtime" => StartupType::Auto,
        "disabled" | "masked" | "masked-runtime" => StartupType::Disabled,
        "static" | "generated" => StartupType::Static,
        "indirect" | "linked" | "linked-runtime" | "transient" => StartupType::Manual,
        _ => StartupType::Unknown,
    }
}

fn count<T>(list: &Option<Vec<T>>) -> usize {
    list.as_ref().map_or(0, Vec::len)
}

async fn times(data: &MetricsData, vm: &Vm, earliest: f64) -> anyhow::Result<()> {
    let latest = first_number(&vm.run("cat /proc/uptime").await?)?;
    let uptime = data.system.uptime_seconds.context("no uptime")? as f64;
    // Whole seconds are told, rounded down.
    ensure!((earliest - 1.0..=latest).contains(&uptime), "uptime_seconds: {uptime} is not from {earliest} to {latest}");
    let loads = vm.run("cat /proc/loadavg").await?;
    let mut loads = loads.split(' ').map(first_number);
    let told = data.system.load_average.context("no load average")?;
    for (name, told) in [("load_1min", told.load_1min), ("load_5min", told.load_5min), ("load_15min", told.load_15min)]
    {
        within(name, told.get(), loads.next().context("/proc/loadavg is short")??, 0.5)?;
    }
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

/// At the end, because the file takes room on the disk.
async fn swap(host: &mut HostSide, vm: &Vm) -> anyhow::Result<()> {
    vm.run(SWAP_ON).await?;
    let sampled = host.sample().await;
    let total = first_number(&vm.run("sed -n 's/^SwapTotal: *//p' /proc/meminfo").await?);
    let free = first_number(&vm.run("sed -n 's/^SwapFree: *//p' /proc/meminfo").await?);
    vm.run(SWAP_OFF).await?;
    let (sample, total, free) = (sampled?, total?, free?);
    let memory = sample.data.system.memory.as_ref().context("no memory")?;
    ensure!(total > 0.0, "the guest has no swap");
    same("swap_total_kb", memory.swap_total_kb.context("no swap_total_kb")? as f64, total)?;
    within("swap_used_kb", memory.swap_used_kb.context("no swap_used_kb")? as f64, total - free, 1024.0)
}

/// All processors together, while one of the two is kept busy.
async fn processor(host: &mut HostSide, vm: &Vm, figures: &mut Figures) -> anyhow::Result<()> {
    const READ: &str = "head -n 1 /proc/stat";
    let looping = vm.start("sh -c 'echo ready; while :; do :; done'").await?;
    let watched = async {
        host.sample().await?;
        let before = vm.run(READ).await?;
        sleep(WATCHED).await;
        let after = vm.run(READ).await?;
        Ok::<_, anyhow::Error>((before, after, host.sample().await?))
    };
    let watched = watched.await;
    vm.kill(&looping).await?;
    let (before, after, sample) = watched?;
    let told = sample.data.system.cpu.as_ref().context("no cpu")?.usage_percent.get();
    let real = busy_percent(&before, &after)?;
    figures.note("processors: the agent's, /proc/stat's", format!("{told:.1} %, {real:.1} %"));
    within("usage_percent of the processors", told, real, PROCESSOR_PERCENT)
}

/// From two first lines of /proc/stat (proc_stat(5)): user, nice, system, idle, iowait, irq, softirq, steal; what follows is in user.
fn busy_percent(before: &str, after: &str) -> anyhow::Result<f64> {
    let times =
        |line: &str| line.split_whitespace().skip(1).take(8).map(first_number).collect::<anyhow::Result<Vec<_>>>();
    let (before, after) = (times(before)?, times(after)?);
    ensure!(before.len() == 8 && after.len() == 8, "/proc/stat is short");
    let spent: Vec<f64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    let (all, idle) = (spent.iter().sum::<f64>(), spent[3] + spent[4]);
    ensure!(all > 0.0, "no time has passed in /proc/stat");
    Ok((all - idle) * 100.0 / all)
}

/// Partitions, loop devices and the like are no disks.
async fn disks(data: &MetricsData, vm: &Vm) -> anyhow::Result<()> {
    let devices = data.system.disk.as_ref().context("no disk")?.devices.as_ref().context("no devices")?;
    let real = vm.run("ls /sys/block | grep -v -e ^loop -e ^ram").await?;
    same("disks", devices.iter().map(|device| &*device.name).collect(), real.lines().collect::<BTreeSet<_>>())
}

async fn names(data: &MetricsData, vm: &Vm) -> anyhow::Result<()> {
    let info = data.system.info.as_ref().context("no info")?;
    same("hostname", info.hostname.as_deref(), Some(vm.run("cat /proc/sys/kernel/hostname").await?.as_str()))?;
    same("kernel_version", info.kernel_version.as_deref(), Some(vm.run("uname -r").await?.as_str()))?;
    let arch = vm.run("uname -m").await?;
    same("arch", info.arch.as_deref(), Some(arch.as_str()))?;
    let system = vm.run(". /etc/os-release; echo $NAME; echo $VERSION_ID").await?;
    let told = [info.name.as_deref(), info.os_version.as_deref()];
    same("name and version of the system", told, [system.lines().next(), system.lines().nth(1)])
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

/// `earlier` is /proc/net/dev from before the sample: what is counted lies between it and what the file says now.
async fn interfaces(data: &MetricsData, vm: &Vm, earlier: &str) -> anyhow::Result<()> {
    let told = &data.system.network.as_ref().context("no network")?.interfaces;
    let real = vm.run("ls /sys/class/net").await?;
    let without_loopback =
        |names: Vec<&str>| names.into_iter().filter(|name| *name != "lo").map(str::to_owned).collect();
    let told_names: BTreeSet<String> = without_loopback(told.iter().map(|interface| &*interface.name).collect());
    same("interfaces", told_names, without_loopback(real.lines().collect()))?;
    let later = vm.run("cat /proc/net/dev").await?;
    for card in told {
        let (low, high) = (counters(earlier, &card.name)?, counters(&later, &card.name)?);
        let counted = [card.bytes_received, card.packets_received, card.bytes_sent, card.packets_sent];
        let between = counted.iter().zip(low.iter().zip(&high)).all(|(told, (low, high))| (low..=high).contains(&told));
        ensure!(between, "counters of {}: {counted:?} are not from {low:?} to {high:?}", card.name);
        let mac = vm.run(&format!("cat /sys/class/net/{}/address", card.name)).await?;
        same("hardware address", card.mac.as_deref(), Some(mac.as_str()).filter(|_| &*card.name != "lo"))?;
    }
    Ok(())
}

/// Bytes and packets received, bytes and packets sent, of one interface in /proc/net/dev.
fn counters(text: &str, name: &str) -> anyhow::Result<[u64; 4]> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'));
    let fields: Vec<u64> =
        line.context("no such interface")?.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    ensure!(fields.len() == 16, "/proc/net/dev has {} fields for {name}", fields.len());
    Ok([fields[0], fields[1], fields[8], fields[9]])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_what_is_neither_idle_nor_waits() {
        let busy = busy_percent("cpu  100 0 50 800 50 0 0 0 9 9", "cpu  150 10 75 870 70 5 10 10 99 99").unwrap();
        assert_eq!(busy, 110.0 * 100.0 / 200.0);
        assert!(busy_percent("cpu  1 2", "cpu  1 2").is_err());
    }

    #[test]
    fn an_interface_is_found_by_its_whole_name() {
        let text =
            "face |bytes\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\neth01: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n";
        assert_eq!(counters(text, "eth0").unwrap(), [1, 2, 9, 10]);
        assert!(counters(text, "eth").is_err());
    }
}
