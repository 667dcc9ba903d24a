//! The checks, in the order in which they run. Each is one file; all run, whatever the others found.

mod agent_memory;
mod agrees_with_proc;
mod audit;
mod beside_qemu_ga;
mod busy_core;
mod clock;
mod commands;
mod diagnose;
mod disk_write;
mod golden_image;
mod handshake;
mod host_commands;
mod host_tools;
mod idle;
mod install;
mod kills;
mod kills_in_guest;
mod kills_of_the_link;
mod kills_on_local_sockets;
mod listener;
mod network_traffic;
mod packages;
mod reboot;
mod replug;
mod resident_process;
mod restarts;
mod stop;
mod uninstall;
mod vsock;
mod wrong_secret;

use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::{Instant, timeout};

use crate::RunArgs;
use crate::image::Image;
use crate::random::Random;
use crate::report::{Figures, Report};
use crate::workbench::Workbench;

type Outcome<'a> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>>;

/// One thing that must hold.
struct Check {
    name: &'static str,
    /// After this it has failed, whatever it waits for.
    deadline: Duration,
    run: for<'a> fn(&'a mut Workbench, &'a mut Figures) -> Outcome<'a>,
}

macro_rules! check {
    ($name:literal, $seconds:literal, $check:path) => {
        Check {
            name: $name,
            deadline: Duration::from_secs($seconds),
            run: |bench, figures| Box::pin($check(bench, figures)),
        }
    };
}

/// Everything needs the agent in the machine, so this comes first whatever was chosen.
const INSTALL: Check = check!("install", 120, install::installs);

const CHECKS: &[Check] = &[
    check!("handshake", 60, handshake::says_who_is_there),
    check!("agrees with /proc", 120, agrees_with_proc::agrees),
    check!("busy core", 60, busy_core::is_seen),
    check!("disk write", 90, disk_write::is_seen),
    check!("resident process", 60, resident_process::is_seen),
    check!("listener", 120, listener::is_seen),
    check!("network traffic", 120, network_traffic::is_seen),
    check!("diagnose", 60, diagnose::finds_what_is_so),
    check!("infinihost metrics", 60, host_tools::metrics),
    check!("infinihost watch", 60, host_tools::watch),
    check!("restart of the host side", 60, restarts::host_side),
    check!("restart of the agent", 60, restarts::agent),
    check!("memory after 100 samples", 180, agent_memory::stays_small),
    check!("typed commands", 240, commands::typed),
    check!("raw commands", 300, commands::raw),
    check!("commands by name", 240, host_commands::by_name),
    check!("beside qemu-ga", 240, beside_qemu_ga::is_measured),
    check!("packages", 400, packages::change),
    check!("update of the agent itself", 240, packages::update_the_agent),
    check!("golden image", 400, golden_image::forgets),
    check!("audit", 120, audit::is_proven),
    check!("clock that is set", 120, clock::is_told),
    check!("wrong secret", 120, wrong_secret::is_refused),
    check!("port unplugged and plugged in", 120, replug::recovers),
    check!("vsock", 120, vsock::dials_out),
    check!("kills in the guest", 600, kills_in_guest::recover),
    check!("kills on local sockets", 500, kills_on_local_sockets::recover),
    check!("kills of the port", 240, kills_of_the_link::port),
    check!("kills of the socket", 240, kills_of_the_link::socket),
    check!("kills of a local socket", 240, kills_of_the_link::local_socket),
    check!("idle while the host is away", 150, idle::wakes_for_nothing),
    check!("reboot", 300, reboot::recovers),
    check!("stop", 60, stop::is_clean),
    check!("install again", 120, install::keeps_the_configuration),
    check!("uninstall", 60, uninstall::leaves_nothing),
];

/// Boots a machine, runs the checks, prints what they found; whether all passed.
pub async fn run(args: &RunArgs, image: &Image) -> anyhow::Result<bool> {
    let chosen = choose(&args.only)?;
    let seed = args.seed.unwrap_or_else(Random::fresh_seed);
    println!("Random choices follow from the seed; to repeat them: --seed {seed}");
    let mut bench = Workbench::set_up(args, image, Random::new(seed)).await?;
    println!("The guest answered {:.1} s after its power was switched on", bench.boot_time.as_secs_f64());
    let mut report = Report::default();
    if one(&INSTALL, &mut bench, &mut report).await {
        for check in chosen {
            one(check, &mut bench, &mut report).await;
        }
    }
    if !report.passed() {
        match timeout(Duration::from_secs(30), bench.save_logs()).await {
            Ok(Ok(())) => println!("The guest's console and journal are in {}", bench.logs.display()),
            _ => println!("The guest's console is in {}; its journal could not be had", bench.logs.display()),
        }
    }
    println!("{}", report.summary());
    Ok(report.passed())
}

fn choose(words: &[String]) -> anyhow::Result<Vec<&'static Check>> {
    let chosen: Vec<_> = CHECKS
        .iter()
        .filter(|check| words.is_empty() || words.iter().any(|word| check.name.contains(word.as_str())))
        .collect();
    if chosen.is_empty() && words != ["install"] {
        let names: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
        bail!("no check has a name with {}; there are: {}", words.join(" or "), names.join(", "));
    }
    Ok(chosen)
}

async fn one(check: &Check, bench: &mut Workbench, report: &mut Report) -> bool {
    let started = Instant::now();
    let mut figures = Figures::default();
    let result = timeout(check.deadline, (check.run)(bench, &mut figures)).await;
    let result =
        result.with_context(|| format!("not over after {} s", check.deadline.as_secs())).and_then(|result| result);
    let passed = result.is_ok();
    report.add(check.name, started.elapsed(), result, figures);
    passed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_a_name_of_its_own() {
        let mut names: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CHECKS.len());
    }

    #[test]
    fn a_word_chooses_and_an_unknown_word_is_an_error() {
        let chosen = choose(&["kills on".to_owned(), "reboot".to_owned()]).unwrap();
        assert_eq!(chosen.len(), 2);
        assert_eq!(choose(&[]).unwrap().len(), CHECKS.len());
        assert!(choose(&["nonsense".to_owned()]).is_err());
    }
}
