//! What the host asked for stands in the guest's audit, and nobody changes that unseen.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use infini_protocol::agent::{AgentBody, AgentMessage};
use infini_protocol::host::{Action, HostMessage, SafeCommand};

use crate::host_side::ANSWER_DEADLINE;
use crate::report::Figures;
use crate::tolerance::same;
use crate::workbench::Workbench;

const VERIFY_DEADLINE: Duration = Duration::from_secs(30);

/// Two lines each: at least one tenth line is among them.
const COMMANDS: usize = 10;

/// The heads that the host hears prove the audit, while the agent runs and after its end; a line that is taken out shows.
pub async fn is_proven(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let mut host = bench.connect().await?;
    for number in 0..COMMANDS {
        let command_type = Action { action: "OsInfo".to_owned(), fields: serde_json::Map::new() };
        let id = format!("vmtest-audit-{number}");
        host.send(&HostMessage::SafeCommand(SafeCommand { id, command_type, params: None, timeout: None }))?;
    }
    let tenth = host.wait_for("head of the audit", ANSWER_DEADLINE, |message| head(message, "")).await?;
    let said = verify(bench, &format!("--head {tenth}"), 0).await?;
    ensure!(said.contains("Sound: line"), "{said}");

    bench.restart_agent().await?;
    let last = host.wait_for("last head of the audit", ANSWER_DEADLINE, |message| head(message, "ends here")).await?;
    let said = verify(bench, &format!("--head {last}"), 0).await?;
    figures.note("audit", said.lines().nth(1).unwrap_or_default().trim().to_owned());

    let copy = "/run/vmtest-audit";
    bench
        .vm
        .run(&format!("cp -r /var/lib/infiniservice/audit {copy} && sed -i 5d {copy}/commands.00000001.log"))
        .await?;
    let said = verify(bench, &format!("--dir {copy} --head {last}"), 1).await?;
    ensure!(said.contains("line 5 is missing before this one"), "{said}");
    bench.vm.run(&format!("rm -r {copy}")).await.map(drop)
}

async fn verify(bench: &Workbench, arguments: &str, code: i32) -> anyhow::Result<String> {
    let outcome = bench.vm.try_run_for(VERIFY_DEADLINE, &format!("infiniservice audit verify {arguments}")).await?;
    same("exit code of audit verify", outcome.code, Some(code))
        .with_context(|| format!("{}{}", outcome.stdout, outcome.stderr))?;
    Ok(outcome.stdout)
}

/// The head that an event of the audit carries, as the command line takes it.
fn head(message: &AgentMessage, said: &str) -> Option<String> {
    let AgentBody::AgentEvent(event) = &message.body else { return None };
    let context = event.context.as_ref().filter(|_| event.source == "audit" && event.message.contains(said))?;
    Some(format!("{}:{}", context.get("line")?, context.get("hash")?.as_str()?))
}
