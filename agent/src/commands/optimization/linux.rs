//! What the machine is like now, for the agent keeps no history.

use super::Optimization;
use crate::commands::action::Context;
use crate::commands::cleanup::linux::{JOURNAL, PACKAGE_CACHES, usage_of};
use crate::commands::disk_space::{SpaceStatus, Thresholds, used_percent};
use crate::commands::health::linux::{FULL_STALL_WARNING, LEAST_AVAILABLE_WARNING, LOAD_WARNING, processors};
use crate::commands::outcome::CommandError;

/// Less load than this for each processor, over a quarter of an hour, and a machine of several could do with fewer.
const IDLE_LOAD: f64 = 0.05;

/// More than this of memory free for programs, in percent, and the machine could do with half of it.
const PLENTY_AVAILABLE: f64 = 75.0;

/// Of swap in percent: programs that sleep are swapped out anyway; from here on those that work are too.
const MUCH_SWAPPED: f64 = 50.0;

/// A journal or a cache of packages that is worth cleaning: journald keeps at most 4 GiB by itself, so this is on its way there.
const WORTH_CLEANING: u64 = 1 << 30;

/// Looks at everything once.
///
/// # Errors
/// Where load or memory cannot be read, or the command has to end.
pub async fn look(context: &Context, days: Option<u32>) -> Result<Optimization, CommandError> {
    let mut found = context.blocking(resources).await?;
    for (folder, advice) in kept_folders(context) {
        let bytes = usage_of(context, folder).await?;
        if bytes >= WORTH_CLEANING {
            found.disk_optimization_available = true;
            found
                .recommendations
                .push(format!("{folder} takes {:.1} GiB: {advice}", bytes as f64 / f64::from(1 << 30)));
        }
    }
    let asked = days.map(|days| format!(" of the {days} days that were asked for")).unwrap_or_default();
    found
        .recommendations
        .push(format!("the agent keeps no history{asked}: this is about the present and the load's last 15 minutes"));
    Ok(found)
}

/// What can be cleaned, and by which command.
fn kept_folders(context: &Context) -> Vec<(&'static str, &'static str)> {
    let caches = PACKAGE_CACHES.iter().map(|(.., folder)| (*folder, "run the maintenance task packages/clean-cache"));
    let all = caches.chain([(JOURNAL, "run the maintenance task journal/vacuum")]);
    all.filter(|(folder, _)| context.roots.file(folder).is_dir()).collect()
}

fn resources(context: &Context) -> Result<Optimization, CommandError> {
    let mut found = Optimization::default();
    processor(context, &mut found)?;
    memory(context, &mut found)?;
    disks(context, &mut found)?;
    Ok(found)
}

fn processor(context: &Context, found: &mut Optimization) -> Result<(), CommandError> {
    let processors = processors(context).map_err(CommandError::failed)?;
    let load = (context.collector)().collect_load_average()?.load_15min.get() / processors as f64;
    let advice = if load >= LOAD_WARNING {
        "give the machine more processors, or find out with `ProcessTop` who needs them"
    } else if load < IDLE_LOAD && processors > 1 {
        "the machine could do with fewer"
    } else {
        return Ok(());
    };
    found.cpu_optimization_available = true;
    found.recommendations.push(format!("the load is {load:.2} for each of {processors} processors: {advice}"));
    Ok(())
}

fn memory(context: &Context, found: &mut Optimization) -> Result<(), CommandError> {
    let mut collector = (context.collector)();
    let memory = collector.collect_memory()?;
    let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 };
    let available = share(memory.available_kb, memory.total_kb);
    let swapped = share(memory.swap_used_kb.unwrap_or(0), memory.swap_total_kb.unwrap_or(0));
    let pressure = collector.collect_pressure().ok().and_then(|pressure| pressure.memory?.full_avg10);
    let stalled = pressure.map_or(0.0, |percent| percent.get());
    let advice = if available < LEAST_AVAILABLE_WARNING || stalled >= FULL_STALL_WARNING {
        format!("{available:.0} % of memory is available: give the machine more")
    } else if swapped >= MUCH_SWAPPED {
        format!("{swapped:.0} % of swap is used: give the machine more memory")
    } else if available >= PLENTY_AVAILABLE && swapped < 1.0 {
        format!("{available:.0} % of memory is available: the machine could do with less")
    } else {
        return Ok(());
    };
    found.memory_optimization_available = true;
    found.recommendations.push(advice);
    Ok(())
}

fn disks(context: &Context, found: &mut Optimization) -> Result<(), CommandError> {
    for usage in (context.collector)().collect_disk_usage()?.entries {
        let used = used_percent(&usage).get();
        if Thresholds::default().judge(used) != SpaceStatus::Ok {
            found.disk_optimization_available = true;
            let advice = "`DiskCleanup` removes what nobody uses, or enlarge the disk";
            found.recommendations.push(format!("{} is {used:.0} % full: {advice}", usage.mount_point));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;
    use crate::collector::linux::Space;
    use crate::commands::health::value;
    use crate::commands::optimization::CheckResourceOptimization;
    use crate::commands::test_machine::TestMachine;
    use crate::commands::testing::assert_golden;

    #[tokio::test]
    async fn a_machine_that_fits_needs_no_advice() {
        let meminfo =
            "MemTotal: 4000000 kB\nMemFree: 9 kB\nMemAvailable: 2000000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n";
        let machine = TestMachine::healthy(&[("/proc/meminfo", meminfo)]);
        let found = look(&machine.context(), None).await.unwrap();
        assert_eq!(found.recommendations.len(), 1, "{found:?}");
        let flags =
            [found.cpu_optimization_available, found.memory_optimization_available, found.disk_optimization_available];
        assert_eq!(flags, [false; 3]);
    }

    #[tokio::test]
    async fn what_is_short_is_told_and_that_it_is_the_present() {
        let machine = TestMachine::healthy(&[
            ("/proc/loadavg", "9.00 9.00 5.00 1/200 4242\n"),
            (
                "/proc/meminfo",
                "MemTotal: 1000 kB\nMemFree: 9 kB\nMemAvailable: 500 kB\nSwapTotal: 100 kB\nSwapFree: 20 kB\n",
            ),
        ])
        .with_space(Space { total: 100 << 30, free: 5 << 30, available: 5 << 30, inodes: 0, inodes_free: 0 });
        let found = look(&machine.context(), Some(7)).await.unwrap();
        assert_golden("CheckResourceOptimization", &value(&found).unwrap());
    }

    #[test]
    fn days_are_from_one_to_a_year() {
        for (days, legal) in
            [(json!(7), true), (json!(null), true), (json!(0), false), (json!(366), false), (json!("7"), false)]
        {
            let taken = from_value::<CheckResourceOptimization>(json!({ "evaluation_window_days": days }));
            assert_eq!(taken.is_ok(), legal, "{days}");
        }
    }
}
