//! The host side acts in the guest: infinihost's commands, as a person types them.

use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::time::{Instant, sleep, timeout};

use super::agent_memory;
use crate::qemu::bound_to_us;
use crate::report::Figures;
use crate::tolerance::{same, within_percent};
use crate::workbench::{UNIT, Workbench};

/// A GiB takes its time under emulation.
const DEADLINE: Duration = Duration::from_secs(150);

/// Nothing of a command may be left so long after its end.
const GONE: Duration = Duration::from_secs(4);

/// A unit that runs until it is stopped, and one that cannot start.
const UNITS: &str = "printf '[Service]\\nExecStart=/bin/sleep infinity\\n' >/run/systemd/system/vmtest-runs.service && \
                     printf '[Service]\\nType=oneshot\\nExecStart=/bin/false\\n' >/run/systemd/system/vmtest-fails.service && \
                     systemctl daemon-reload";

/// What may be asked of a guest whose policy permits the typed changes and nothing raw, as installed.
pub async fn typed(bench: &mut Workbench, _figures: &mut Figures) -> anyhow::Result<()> {
    bench.vm.run(UNITS).await?;
    let refused = infinihost(bench, "sh", &["id"]).await?;
    same("exit code of a raw command that is not permitted", refused.status.code(), Some(77))?;
    prints(bench, "run", &[r#"{"action":"OsInfo"}"#], 0, "Debian").await?;
    prints(bench, "services", &[], 0, "infiniservice").await?;
    prints(bench, "service", &["restart", "vmtest-runs"], 0, "running").await?;
    same("the unit", bench.vm.run("systemctl is-active vmtest-runs").await?.as_str(), "active")?;
    prints(bench, "service", &["start", "vmtest-fails"], 1, "COMMAND_FAILED").await?;
    prints(bench, "service", &["restart", "vmtest-has-no-such"], 1, "SERVICE_NOT_FOUND").await?;
    prints(bench, "service", &["stop", "infiniservice"], 77, "PERMISSION_DENIED").await?;
    prints(bench, "ps", &[], 0, "infiniservice").await?;
    prints(bench, "top", &["--limit", "3"], 0, "PID").await?;
    let pid = bench.vm.run("systemctl show --property=MainPID --value vmtest-runs").await?;
    prints(bench, "kill", &[&pid], 0, "SIGTERM").await?;
    prints(bench, "kill", &["1"], 77, "PERMISSION_DENIED").await?;
    prints(bench, "package", &["list"], 0, "systemd").await?;
    prints(bench, "package", &["install", "apache2-"], 64, "INVALID_PARAMETERS").await?;
    prints(bench, "package", &["install", "vmtest-has-no-such"], 1, "PACKAGE_NOT_FOUND").await?;
    prints(bench, "run", &[r#"{"action":"RunAllHealthChecks"}"#], 0, "overall_health").await
}

/// Raw commands: whole, bounded, and nothing of them left.
pub async fn raw(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    permit_raw(bench, "none", "all").await?;
    let outcome = raw_commands(bench, figures).await;
    permit_raw(bench, "all", "none").await?;
    outcome
}

async fn raw_commands(bench: &Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    figures.note("agent's memory before raw commands", agent_memory::of_the_agent(bench).await?);
    prints(bench, "exec", &["--", "printf", "%s|", "two words", "$HOME;"], 0, "two words|$HOME;|").await?;
    prints(bench, "sh", &["echo to stderr >&2; exit 7"], 7, "to stderr").await?;
    limits(bench, figures).await?;

    prints(bench, "sh", &["--timeout", "1", "setsid sleep 98765 & sleep 98765"], 124, "COMMAND_TIMEOUT").await?;
    nothing_left(bench, "slee[p] 98765").await?;

    prints(bench, "sh", &["--timeout", "30", "tail /dev/zero"], 137, "memory").await?;
    let bomb = "bomb() { bomb | bomb & }; bomb; sleep 98765";
    prints(bench, "sh", &["--timeout", "3", bomb], 124, "COMMAND_TIMEOUT").await?;
    nothing_left(bench, "bom[b]").await?;

    let output = infinihost(bench, "sh", &["--timeout", "140", "head -c 1G /dev/zero"]).await?;
    same("exit code after much output", output.status.code(), Some(0))?;
    // In JSON a zero byte takes six, and the line has room for close to a mebibyte.
    ensure!((150_000..180_000).contains(&output.stdout.len()), "{} bytes were kept", output.stdout.len());
    let memory = agent_memory::of_the_agent(bench).await?;
    figures.note("agent's memory after a memory hog, a fork bomb and 1 GiB of output", &memory);
    memory.judge()?;
    memory.judge_peak()?;
    let left = bench.vm.run(&format!("ls -d /sys/fs/cgroup/system.slice/{UNIT}/cmd-* 2>/dev/null | wc -l")).await?;
    same("control groups that commands left", left.as_str(), "0")
}

/// A command finds its own limits: half of the memory, 512 tasks, and the processor without one.
async fn limits(bench: &Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let look = "group=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup); echo $group; \
                cat $group/memory.max $group/pids.max; cut -d' ' -f1 $group/cpu.max; grep MemTotal /proc/meminfo";
    let output = infinihost(bench, "sh", &[look]).await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().collect();
    let [group, memory, tasks, processor, total] = lines[..] else { bail!("not five lines: {text}") };
    ensure!(group.contains("infiniservice.service/cmd-"), "the command's group is {group}");
    same("pids.max, cpu.max", (tasks, processor), ("512", "max"))?;
    let total: f64 = total.split_whitespace().nth(1).context("no MemTotal")?.parse()?;
    within_percent("memory.max", memory.parse()?, total * 1024.0 / 2.0, 1.0)?;
    figures.note("a command's memory.max, pids.max, cpu.max", format!("{memory}, {tasks}, {processor}"));
    Ok(())
}

/// Waits until nothing is left, and not for longer than it may take. The pattern must not match its own text.
async fn nothing_left(bench: &Workbench, pattern: &str) -> anyhow::Result<()> {
    let until = Instant::now() + GONE;
    loop {
        let left = bench.vm.run(&format!("pgrep -af '{pattern}' || true")).await?;
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < until, "a command left processes: {left}");
        sleep(Duration::from_millis(200)).await;
    }
}

/// As the administrator does it.
pub async fn permit_raw(bench: &Workbench, from: &str, to: &str) -> anyhow::Result<()> {
    let file = "/etc/infiniservice/config.toml";
    let line = format!("sed -i 's/^raw = \"{from}\"/raw = \"{to}\"/' {file} && grep -q '^raw = \"{to}\"' {file}");
    bench.vm.run(&line).await?;
    bench.vm.run(&format!("systemctl reload {UNIT}")).await.map(drop)
}

/// The program must end with that code and say that, on either stream.
/// Runs infinihost, which must end with that code and print that text.
pub(super) async fn prints(
    bench: &Workbench,
    verb: &str,
    arguments: &[&str],
    code: i32,
    text: &str,
) -> anyhow::Result<()> {
    let output = infinihost(bench, verb, arguments).await?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let said = stdout.contains(text) || stderr.contains(text);
    ensure!(
        output.status.code() == Some(code) && said,
        "infinihost {verb} {arguments:?} ended with {}, not with code {code} and {text:?}\n{stdout}{stderr}",
        output.status
    );
    Ok(())
}

async fn infinihost(bench: &Workbench, verb: &str, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = bound_to_us(&bench.args.host);
    command.arg(verb).arg(bench.vm.agent_socket()).arg("--secret-file").arg(&bench.secret_file).args(arguments);
    timeout(DEADLINE, command.output())
        .await
        .with_context(|| format!("infinihost {verb} {arguments:?} did not end"))?
        .context("starting infinihost")
}
