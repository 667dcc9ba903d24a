//! What a command costs between host and agent, and what an agent does between commands: over a Unix socket, both on this machine.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[cfg(target_os = "linux")]
#[path = "../tests/soak/agent.rs"]
mod agent;

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;
    use std::fs;
    use std::process::ExitCode;
    use std::time::{Duration, Instant};

    use infini_protocol::host::{Action, UnsafeCommand};
    use infinihost::vm::{Command, Endpoint, Vm};

    use super::agent::{Agent, key};

    const LIMIT: Duration = Duration::from_secs(60);

    /// The most that the median round trip of `OsInfo` may take.
    const BUDGET_MS: f64 = 1.0;

    /// Set to anything: a missed budget is a failure. `cargo xtask bench` does so.
    const ENFORCE: &str = "BENCH_ENFORCE_BUDGETS";

    /// A raw command that does nothing, beside a read.
    const RAW: &str = "sh -c true";

    /// No tick falls into the time in which the agent is watched: whatever wakes it then is something that polls.
    const CONFIGURATION: &str = "[collector]\ninterval = \"1h\"\n[permissions]\nreads = \"all\"\nraw = \"all\"\n";

    /// How often each is done, and how long an agent with nothing to do is watched. Without `--bench`, as in `cargo test --benches`, only
    /// that it works is to be seen.
    fn extent() -> (usize, Duration) {
        let measures = std::env::args().any(|argument| argument == "--bench");
        if measures { (1001, Duration::from_secs(60)) } else { (11, Duration::from_secs(1)) }
    }

    #[tokio::main(flavor = "current_thread")]
    pub async fn main() -> ExitCode {
        let mut is_missed = false;
        let (rounds, idle) = extent();
        let agent = Agent::start(CONFIGURATION);
        let vm = Vm::follow(Endpoint::new(agent.socket()).with_key(key()));
        vm.sample().await.unwrap();
        println!("round trip, {rounds} each{:>20}{:>14}{:>16}", "lower quartile", "median", "upper quartile");
        for name in ["OsInfo", RAW] {
            let [lower, median, upper] = quartiles(&vm, rounds, name).await.map(|time| time.as_secs_f64() * 1e3);
            let is_over = name == "OsInfo" && median > BUDGET_MS;
            is_missed |= is_over;
            let missed = if is_over { "  MISSED" } else { "" };
            println!("  {name:<24}{lower:>14.3} ms{median:>11.3} ms{upper:>13.3} ms{missed}");
        }
        is_missed |= !sleeps(&agent, idle).await;
        if is_missed && std::env::var_os(ENFORCE).is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    /// Whether no thread of the agent was woken, and none ended, in this time.
    async fn sleeps(agent: &Agent, idle: Duration) -> bool {
        // What the last command leaves to be done.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = switches(agent);
        tokio::time::sleep(idle).await;
        let after = switches(agent);
        let gone = before.keys().filter(|thread| !after.contains_key(*thread)).count();
        let woken: Vec<String> = after
            .iter()
            .map(|(thread, times)| (&thread.1, times - before.get(thread).copied().unwrap_or(0)))
            .filter(|(_, times)| *times > 0)
            .map(|(name, times)| format!("{name} {times}"))
            .collect();
        let is_asleep = gone == 0 && woken.is_empty();
        let missed = if is_asleep { String::new() } else { format!("  MISSED: {gone} gone, {woken:?}") };
        println!(
            "wake-ups of {} threads in {} s without a command or a tick: {}{missed}",
            after.len(),
            idle.as_secs(),
            woken.len()
        );
        is_asleep
    }

    /// How often each thread gave its processor up by itself, that is, waited for something.
    fn switches(agent: &Agent) -> BTreeMap<(String, String), u64> {
        let threads = fs::read_dir(agent.proc().join("task")).unwrap().map(|thread| thread.unwrap().path());
        threads
            .filter_map(|thread| {
                let status = fs::read_to_string(thread.join("status")).ok()?;
                let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                let times = field("voluntary_ctxt_switches:")?.parse().ok()?;
                Some(((field("Pid:")?.to_owned(), field("Name:")?.to_owned()), times))
            })
            .collect()
    }

    async fn quartiles(vm: &Vm, rounds: usize, name: &str) -> [Duration; 3] {
        let mut times = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let command = if name == RAW { raw() } else { read(name) };
            let begin = Instant::now();
            let response = vm.run(command).await.unwrap();
            times.push(begin.elapsed());
            assert!(response.success, "{response:?}");
        }
        times.sort_unstable();
        [rounds / 4, rounds / 2, rounds * 3 / 4].map(|index| times[index])
    }

    fn read(action: &str) -> Command {
        let action = Action { action: action.to_owned(), fields: serde_json::Map::new() };
        Command::safe(action, Some(LIMIT)).unwrap()
    }

    fn raw() -> Command {
        let command = UnsafeCommand {
            id: String::new(),
            raw_command: "true".to_owned(),
            shell: None,
            timeout: None,
            working_dir: None,
            env_vars: None,
            run_as: None,
        };
        Command::raw(command, Some(LIMIT)).unwrap()
    }
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {}
