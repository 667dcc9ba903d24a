//! infinihost by the name of a machine, for programs: each command's line of JSON, scripts, and Ctrl-C.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::commands::permit_raw;
use crate::qemu::bound_to_us;
use crate::report::Figures;
use crate::tolerance::same;
use crate::workbench::{VM_ID, Workbench, write_private};

const NAME: &str = "guest";

const DEADLINE: Duration = Duration::from_secs(90);

/// How soon a command runs in the guest, and how soon it is gone once it was taken back.
const SOON: Duration = Duration::from_secs(20);

/// A unit that does nothing, to be stopped and started.
const UNIT: &str = "printf '[Service]\\nExecStart=/bin/sleep infinity\\n' >/run/systemd/system/vmtest-named.service && \
                    systemctl daemon-reload && systemctl start vmtest-named";

/// Every command, with `--json`, by a name that the configuration maps to socket, identity and secret.
pub async fn by_name(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let host = Infinihost::configure(bench)?;
    bench.vm.run(UNIT).await?;
    permit_raw(bench, "none", "all").await?;
    let outcome = async {
        reading(bench, &host).await?;
        changing(bench, &host).await?;
        programs(&host).await?;
        scripts(bench, &host).await?;
        let took = taken_back(bench, &host).await?;
        figures.note("Ctrl-C: from SIGINT to infinihost's end", format!("{} ms", took.as_millis()));
        Ok(())
    };
    let outcome = outcome.await;
    permit_raw(bench, "all", "none").await?;
    outcome
}

async fn reading(bench: &Workbench, host: &Infinihost) -> anyhow::Result<()> {
    let pid = bench.agent_pid().await?;
    let services = host.json("services", &[]).await?;
    let agent = find(&services["data"], "name", "infiniservice")?;
    same("pid of the agent's unit", agent["pid"].as_u64(), Some(u64::from(pid)))?;
    let processes = host.json("ps", &[]).await?;
    ensure!(processes["data"].as_array().is_some_and(|list| list.iter().any(|one| one["pid"] == pid)), "{processes}");
    let top = host.json("top", &["--limit", "3", "--sort", "memory"]).await?;
    let memory: Vec<_> =
        top["data"].as_array().context("no list")?.iter().map(|one| one["memory_kb"].as_u64()).collect();
    ensure!(memory.len() == 3 && memory.is_sorted_by(|a, b| a >= b), "not the three largest: {top}");
    let packages = host.json("package", &["list"]).await?;
    find(&packages["data"]["packages"], "name", "systemd")?;
    let os = host.json("run", &[r#"{"action":"OsInfo"}"#]).await?;
    same("action that was run", os["command_type"].as_str(), Some("OsInfo"))?;
    same("id of the system", os["data"]["id"].as_str(), Some("debian"))
}

async fn changing(bench: &Workbench, host: &Infinihost) -> anyhow::Result<()> {
    let is_active = "systemctl is-active vmtest-named || true";
    let stopped = host.json("service", &["stop", "vmtest-named"]).await?;
    same("the unit by its answer", stopped["data"]["status"].as_str(), Some("stopped"))?;
    same("the unit by systemctl", bench.vm.run(is_active).await?.as_str(), "inactive")?;
    let started = host.json("service", &["start", "vmtest-named"]).await?;
    same("the unit by its answer", started["data"]["status"].as_str(), Some("running"))?;
    let pid = started["data"]["pid"].to_string();
    let killed = host.json("kill", &[&pid, "--force"]).await?;
    same("the signal", killed["data"]["signal"].as_str(), Some("SIGKILL"))?;
    same("the unit by systemctl", bench.vm.run(is_active).await?.as_str(), "failed")?;
    let refused = host.fails("package", &["remove", "apache2-"], 64).await?;
    same("why", refused["error_code"].as_str(), Some("INVALID_PARAMETERS")).map(drop)
}

async fn programs(host: &Infinihost) -> anyhow::Result<()> {
    let words = host.json("exec", &["--cwd", "/etc", "--env", "A=b c", "--", "sh", "-c", "pwd; echo \"$A\""]).await?;
    same("what a program printed", words["stdout"].as_str(), Some("/etc\nb c\n"))?;
    let failed = host.fails("sh", &["--user", "nobody", "id -un; exit 9"], 9).await?;
    same("what it printed as another user", failed["stdout"].as_str(), Some("nobody\n"))?;
    same("how it ended", failed["ended"].as_str(), Some("exit")).map(drop)
}

/// Two scripts, of which the first fails: both run, in order.
async fn scripts(bench: &Workbench, host: &Infinihost) -> anyhow::Result<()> {
    let script = |name: &str, text: &str| {
        let path = bench.scratch.join(name);
        std::fs::write(&path, text).map(|()| path.display().to_string())
    };
    let first = script("first.sh", "echo one | tee /run/vmtest-scripts; exit 3\n")?;
    let second = script("second.sh", "echo two | tee -a /run/vmtest-scripts\n")?;
    let output = host.run("scripts", &[&first, &second, "--json"]).await?;
    same("exit code of scripts", output.status.code(), Some(3))?;
    let lines: Vec<Value> = lines(&output)?;
    let told: Vec<_> = lines.iter().map(|line| (line["exit_code"].as_i64(), line["stdout"].as_str())).collect();
    same("ends of the scripts", told, vec![(Some(3), Some("one\n")), (Some(0), Some("two\n"))])?;
    same("what they left", bench.vm.run("cat /run/vmtest-scripts; rm /run/vmtest-scripts").await?.as_str(), "one\ntwo")
}

/// SIGINT to infinihost ends the program in the guest. Gives how long infinihost went on after it.
async fn taken_back(bench: &Workbench, host: &Infinihost) -> anyhow::Result<Duration> {
    let mut command = host.command("sh", &["--timeout", "60", "setsid sleep 98763 & sleep 98763"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("starting infinihost")?;
    let count = |number: &'static str| sleepers(bench, number);
    count("2").await.context("before Ctrl-C")?;
    let interrupted = Instant::now();
    let pid = child.id().context("infinihost has ended")?.to_string();
    same("sending SIGINT", Command::new("kill").args(["-INT", &pid]).status().await?.success(), true)?;
    let output = timeout(SOON, child.wait_with_output()).await.context("infinihost goes on")??;
    let took = interrupted.elapsed();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(130), "infinihost ended with {}: {said}", output.status);
    ensure!(said.contains("COMMAND_CANCELLED"), "infinihost said {said:?}");
    count("0").await.context("after Ctrl-C")?;
    Ok(took)
}

/// Waits until so many of the command's processes are there.
async fn sleepers(bench: &Workbench, count: &str) -> anyhow::Result<()> {
    let until = Instant::now() + SOON;
    loop {
        // The pattern must not match its own text.
        let found = bench.vm.run("pgrep -fc '^slee[p] 98763' || true").await?;
        if found == count {
            return Ok(());
        }
        ensure!(Instant::now() < until, "{found} processes are there, not {count}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// The program with a configuration of its own.
struct Infinihost {
    program: PathBuf,
    config: PathBuf,
}

impl Infinihost {
    fn configure(bench: &Workbench) -> anyhow::Result<Self> {
        let config = bench.scratch.join("infinihost.toml");
        let (socket, secret) = (bench.vm.agent_socket(), &bench.secret_file);
        let text = format!("[vm.{NAME}]\nsocket = {socket:?}\nvm_id = {VM_ID:?}\nsecret_file = {secret:?}\n");
        write_private(&config, &text)?;
        Ok(Self { program: bench.args.host.clone(), config })
    }

    /// A command for the machine with the name. The machine comes first: what stands behind `--` is the guest's.
    fn command(&self, verb: &str, arguments: &[&str]) -> Command {
        // SIGINT reaches infinihost itself and no wrapper: setpriv becomes what it starts.
        let mut command = bound_to_us(&self.program);
        command.arg(verb).arg("--config").arg(&self.config).arg(NAME).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    async fn run(&self, verb: &str, arguments: &[&str]) -> anyhow::Result<Output> {
        let ended = timeout(DEADLINE, self.command(verb, arguments).output()).await;
        ended.with_context(|| format!("infinihost {verb} did not end"))?.context("starting infinihost")
    }

    /// What it prints with `--json`, which is one line, where all went well.
    async fn json(&self, verb: &str, arguments: &[&str]) -> anyhow::Result<Value> {
        let answer = self.fails(verb, arguments, 0).await?;
        ensure!(answer["success"] != false, "infinihost {verb} ended well and said {answer}");
        Ok(answer)
    }

    /// The same where it ends with that code.
    async fn fails(&self, verb: &str, arguments: &[&str], code: i32) -> anyhow::Result<Value> {
        let output = self.run(verb, &[&["--json"], arguments].concat()).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code), "infinihost {verb} ended with {}\n{said}", output.status);
        let mut lines = lines(&output)?;
        ensure!(lines.len() == 1, "infinihost {verb} --json printed {} lines", lines.len());
        Ok(lines.remove(0))
    }
}

fn lines(output: &Output) -> anyhow::Result<Vec<Value>> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))).collect()
}

/// The entry of a list that is called so, with or without the end of a unit's name.
fn find<'a>(list: &'a Value, field: &str, name: &str) -> anyhow::Result<&'a Value> {
    let is_it = |entry: &&Value| entry[field].as_str().is_some_and(|told| told.trim_end_matches(".service") == name);
    list.as_array().and_then(|list| list.iter().find(is_it)).with_context(|| format!("no {name} in the list"))
}
