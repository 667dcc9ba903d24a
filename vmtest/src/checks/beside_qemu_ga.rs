//! The agent and qemu-guest-agent side by side in one guest, each asked for the same, in turns. Beside both is a program that does the
//! bare work and nothing else: nobody can be faster than that.

use std::path::Path;

use anyhow::ensure;
use infini_protocol::agent::{AgentBody, Response};
use infini_protocol::host::{HostMessage, KeepAliveRequest};
use serde_json::json;
use tokio::time::Instant;

use crate::guest::bare;
use crate::host_side::{ANSWER_DEADLINE, HostSide};
use crate::peers::{Bare, Qga};
use crate::report::Figures;
use crate::stats::Durations;
use crate::workbench::{UNIT, Workbench};

/// How often each is asked for each thing.
const ROUNDS: usize = 50;

/// The no-op as often in each round: the first after a program has run finds the processor's caches full of that.
const PINGS: usize = 5;

/// What is wanted, as parts of qemu-guest-agent's time, and in MB/s.
const PING_GOAL: f64 = 0.8;
const PROGRAM_GOAL: f64 = 0.25;
const OUTPUT_GOAL: f64 = 8.0;

/// What must hold on any machine, beside qemu-guest-agent in the same run: two of the goals are below what emulation lets anybody reach
/// (docs/benchmarks.md).
const PING_LIMIT: f64 = 2.0;
const PROGRAM_LIMIT: f64 = 1.5;
const OUTPUT_LIMIT: f64 = 1.5;

/// How much the program with much output prints.
const OUTPUT_BYTES: usize = 900 << 10;

/// Lines as programs print them, whose ends a JSON string has to escape.
const OUTPUT_FILE: &str = "/run/vmtest-output";

/// The program is run directly, as qemu-guest-agent runs it: by a rule, without a shell.
const RULES: &str = r#"
[[permissions.raw_rule]]
name = "vmtest true"
program = "/bin/true"

[[permissions.raw_rule]]
name = "vmtest cat"
program = "/bin/cat"
arguments = ["/run/vmtest-output"]
"#;

const CONFIG: &str = "/etc/infiniservice/config.toml";
const KEPT: &str = "/run/vmtest-config";

/// Plugs in the two others' ports, permits the two programs, and measures.
pub async fn is_measured(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    bench.vm.run(&prepare()).await?;
    let qga_port = bench.vm.plug_port("qga", Qga::PORT_NAME).await?;
    let bare_port = bench.vm.plug_port("bare", bare::PORT_NAME).await?;
    let measured = measure(bench, &qga_port.socket, &bare_port.socket).await;
    bench.vm.unplug_port(qga_port).await?;
    bench.vm.unplug_port(bare_port).await?;
    bench.vm.run(&format!("mv {KEPT} {CONFIG} && rm {OUTPUT_FILE} && systemctl reload {UNIT}")).await?;
    measured?.judge(figures)
}

/// The output to be printed, and the permission to print it.
fn prepare() -> String {
    let line = "x".repeat(63);
    format!(
        "set -e\n\
         yes {line} | head -c {OUTPUT_BYTES} >{OUTPUT_FILE}\n\
         cp -p {CONFIG} {KEPT}\n\
         sed -i 's/^raw = \"none\"/raw = \"rules\"/' {CONFIG}\n\
         cat >>{CONFIG} <<'RULES'\n{RULES}RULES\n\
         systemctl reload {UNIT}"
    )
}

async fn measure(bench: &Workbench, qga: &Path, bare: &Path) -> anyhow::Result<Measured> {
    let (mut bare, host) = (Bare::connect(bare).await?, bench.connect().await?);
    let program = bench.vm.start("vmtest guest bare").await?;
    let mut agent = Agent { host, asked: 0 };
    let mut qga = Qga::connect(qga).await?;
    agent.host.sample().await?;
    let mut measured = Measured::default();
    for _ in 0..ROUNDS {
        for _ in 0..PINGS {
            let Three { agent: ours, qga: theirs, bare: least } = &mut measured.ping;
            timed(ours, agent.ping()).await?;
            timed(theirs, qga.ping()).await?;
            timed(least, bare.ping()).await?;
        }
        let Three { agent: ours, qga: theirs, bare: least } = &mut measured.program;
        timed(ours, agent.run("/bin/true")).await?;
        timed(theirs, qga.run("/bin/true", &[])).await?;
        timed(least, bare.run("/bin/true")).await?;
        let Three { agent: ours, qga: theirs, bare: least } = &mut measured.output;
        let printed = timed(ours, agent.run(&format!("/bin/cat {OUTPUT_FILE}"))).await?;
        ensure!(printed.stdout.len() == OUTPUT_BYTES, "the agent gave {} bytes", printed.stdout.len());
        let printed = timed(theirs, qga.run("/bin/cat", &[OUTPUT_FILE])).await?;
        ensure!(printed.len() == OUTPUT_BYTES.div_ceil(3) * 4, "qemu-guest-agent gave {} in base64", printed.len());
        let printed = timed(least, bare.run(&format!("/bin/cat {OUTPUT_FILE}"))).await?;
        ensure!(printed.len() == OUTPUT_BYTES, "the bare program gave {} bytes", printed.len());
    }
    bench.vm.kill(&program).await?;
    Ok(measured)
}

async fn timed<T>(into: &mut Durations, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let started = Instant::now();
    let result = work.await?;
    into.push(started.elapsed());
    Ok(result)
}

/// The agent under test, asked one thing after another.
struct Agent {
    host: HostSide,
    asked: u64,
}

impl Agent {
    async fn ping(&mut self) -> anyhow::Result<()> {
        self.asked += 1;
        let sequence_number = self.asked;
        self.host.send(&HostMessage::KeepAliveRequest(KeepAliveRequest { sequence_number }))?;
        let answer = self.host.wait_for("keep_alive", ANSWER_DEADLINE, |message| match &message.body {
            AgentBody::KeepAlive(answer) if answer.sequence_number == sequence_number => Some(()),
            _ => None,
        });
        answer.await
    }

    async fn run(&mut self, line: &str) -> anyhow::Result<Response> {
        self.asked += 1;
        let id = format!("vmtest-beside-{}", self.asked);
        self.host.send(&HostSide::message(json!({ "type": "UnsafeCommand", "id": id, "raw_command": line }))?)?;
        let response = self.host.response(ANSWER_DEADLINE).await?;
        ensure!(response.id == id && response.success, "{line}: {response:?}");
        Ok(response)
    }
}

/// How long each of the three took for one thing.
#[derive(Debug, Default)]
struct Three {
    agent: Durations,
    qga: Durations,
    bare: Durations,
}

impl Three {
    fn medians(&self) -> [f64; 3] {
        [&self.agent, &self.qga, &self.bare].map(|times| times.percentile(50).as_secs_f64())
    }
}

#[derive(Debug, Default)]
struct Measured {
    ping: Three,
    program: Three,
    output: Three,
}

impl Measured {
    /// Prints everything beside its goal, and fails on what an emulated machine gives with a margin. docs/benchmarks.md has the reasons.
    fn judge(&self, figures: &mut Figures) -> anyhow::Result<()> {
        let ping = ratio("signed no-op", &self.ping, PING_GOAL, figures);
        let program = ratio("/bin/true with its end", &self.program, PROGRAM_GOAL, figures);
        let megabytes = self.output.medians().map(|seconds| OUTPUT_BYTES as f64 / seconds / 1e6);
        let [agent, qga, bare] = megabytes;
        figures.note(
            "900 KiB of output: agent, qemu-ga, bare",
            format!("{agent:.1}, {qga:.1}, {bare:.1} MB/s; goal {OUTPUT_GOAL} MB/s, {}", verdict(agent >= OUTPUT_GOAL)),
        );
        ensure!(ping <= PING_LIMIT, "a signed no-op takes {ping:.2} times as long as guest-ping");
        ensure!(program <= PROGRAM_LIMIT, "/bin/true takes {program:.2} times as long as with qemu-guest-agent");
        let output = agent / qga;
        ensure!(output >= OUTPUT_LIMIT, "output comes {output:.2} times as fast as from qemu-guest-agent");
        Ok(())
    }
}

/// How much of qemu-guest-agent's time the agent takes.
fn ratio(what: &str, times: &Three, goal: f64, figures: &mut Figures) -> f64 {
    let [agent, qga, bare] = times.medians().map(|seconds| seconds * 1e3);
    let ratio = agent / qga;
    figures.note(
        format!("{what}: agent, qemu-ga, bare"),
        format!("{agent:.2}, {qga:.2}, {bare:.2} ms: {ratio:.2}; goal {goal}, {}", verdict(ratio <= goal)),
    );
    ratio
}

const fn verdict(reached: bool) -> &'static str {
    if reached { "reached" } else { "missed" }
}
