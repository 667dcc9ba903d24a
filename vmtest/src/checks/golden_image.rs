//! A machine becomes a golden image, and its clones know nobody until they are provisioned.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use infini_protocol::agent::{AgentBody, Handshake};
use infini_protocol::envelope::Key;
use serde_json::json;
use tokio::time::Instant;

use crate::host_side::{HostSide, handshake};
use crate::image::Image;
use crate::qemu::Places;
use crate::report::Figures;
use crate::vm::Vm;
use crate::workbench::Workbench;

const GOLDEN: &str = "vmtest-golden";

const INSTALL_DEADLINE: Duration = Duration::from_secs(100);
const PREPARE_DEADLINE: Duration = Duration::from_secs(120);
const OFF_DEADLINE: Duration = Duration::from_secs(60);
const GREETING_DEADLINE: Duration = Duration::from_secs(60);

/// What is asked with the old key is refused or not heard; this long nobody may answer it.
const SILENCE: Duration = Duration::from_secs(5);

/// What nobody who makes an image of a machine wants in it. The memory of nonces and ids is not looked at here: the clone's own agent has
/// begun a new one by now.
const NOT_IN_AN_IMAGE: &str = "cat /etc/infiniservice/secret /var/lib/infiniservice/audit/* /root/.bash_history 2>/dev/null | wc -c; \
                               grep -c vmtest-golden /etc/infiniservice/config.toml; ls /etc/ssh/ssh_host_* 2>/dev/null | wc -l";

/// Prepares a machine of its own, boots two clones of its disk and provisions one.
pub async fn forgets(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    let started = Instant::now();
    let disk = prepare(bench).await?;
    figures.note("a golden image was made in", format!("{:.0} s", started.elapsed().as_secs_f64()));
    let image = Image { root: disk, is_kept: false, ..bench.image.clone() };
    let (first, second) = tokio::try_join!(clone(bench, &image, "clone-1"), clone(bench, &image, "clone-2"))?;
    ensure!(first.machine_id != second.machine_id, "both clones have the machine-id {}", first.machine_id);
    ensure!(first.greeting.vm_id != second.greeting.vm_id, "both clones call themselves {}", first.greeting.vm_id);
    provision(&first).await
}

/// Makes the image. Gives its disk.
async fn prepare(bench: &Workbench) -> anyhow::Result<PathBuf> {
    let places = places(bench, "golden")?;
    let disk = places.sockets.join("disk.img");
    copy(&bench.image.root, &disk)?;
    let image = Image { root: disk.clone(), is_kept: true, ..bench.image.clone() };
    let vm = Vm::boot(&image, &bench.second_disk, places).await?;
    let script = "cd /opt/vmtest/package && INFINISERVICE_SHARED_SECRET=$(cat ../secret) sh ./install-linux.sh normal";
    vm.run_for(INSTALL_DEADLINE, &format!("{script} {GOLDEN}")).await?;
    let permit = "sed -i 's/^changes = \\[/&\\n    \"PrepareGoldenImage\",/' /etc/infiniservice/config.toml && \
                  systemctl reload infiniservice && mkdir -p /etc/ssh && echo key >/etc/ssh/ssh_host_rsa_key && \
                  echo secret-command >/root/.bash_history";
    vm.run(permit).await?;
    vm.agent_port_opened(GREETING_DEADLINE).await?;
    let mut host = connect(&vm, &bench.key).await?;
    // The machine's memory of what was said must not be in the image either.
    host.sample().await?;
    let command_type = json!({
        "action": "PrepareGoldenImage", "cleanup_level": "standard", "sanitize_user_data": true, "shutdown_after": true,
    });
    host.send(&HostSide::message(json!({ "type": "SafeCommand", "id": "golden", "command_type": command_type }))?)?;
    let response = host.response(PREPARE_DEADLINE).await?;
    let steps = response.data.as_ref().and_then(|data| data.get("steps")).and_then(|steps| steps.as_array());
    let failed: Vec<_> = steps.context("no steps")?.iter().filter(|step| step["success"] != true).collect();
    ensure!(response.success && failed.is_empty(), "{response:?}");
    vm.switched_off(OFF_DEADLINE).await?;
    Ok(disk)
}

/// A machine from the image that nobody has provisioned.
struct Clone {
    vm: Vm,
    machine_id: String,
    greeting: Handshake,
}

async fn clone(bench: &Workbench, image: &Image, name: &str) -> anyhow::Result<Clone> {
    let vm = Vm::boot(image, &bench.second_disk, places(bench, name)?).await?;
    let machine_id = vm.run("cat /etc/machine-id").await?;
    ensure!(machine_id.len() == 32, "{name} has the machine-id {machine_id:?}");
    let left = vm.run(NOT_IN_AN_IMAGE).await?;
    ensure!(left.split_whitespace().all(|count| count == "0"), "left in {name}: {left}");
    vm.agent_port_opened(GREETING_DEADLINE).await?;
    let mut host = connect(&vm, &bench.key).await?;
    let greeting = host.wait_for("handshake", GREETING_DEADLINE, handshake).await?;
    ensure!(greeting.vm_id != GOLDEN, "{name} still calls itself {GOLDEN}");
    let command_type = json!({ "action": "OsInfo" });
    host.send(&HostSide::message(json!({ "type": "SafeCommand", "id": "old", "command_type": command_type }))?)?;
    let answered = host.wait_for("response", SILENCE, |message| match &message.body {
        AgentBody::Response(response) => Some(format!("{response:?}")),
        _ => None,
    });
    if let Ok(response) = answered.await {
        anyhow::bail!("{name} heard the image's key: {response}");
    }
    Ok(Clone { vm, machine_id, greeting })
}

/// A new identity and a new key, and it answers.
async fn provision(clone: &Clone) -> anyhow::Result<()> {
    const SECRET: &str = "00112233445566778899aabbccddeeff";
    let script = format!(
        "cd /opt/vmtest/package && INFINISERVICE_SHARED_SECRET={SECRET} sh ./install-linux.sh normal vmtest-clone"
    );
    clone.vm.run_for(INSTALL_DEADLINE, &script).await?;
    clone.vm.agent_port_opened(GREETING_DEADLINE).await?;
    let key = Key::new(SECRET)?;
    let mut host = connect(&clone.vm, &key).await?;
    let greeting = host.hello().await?;
    ensure!(greeting.vm_id == "vmtest-clone", "a provisioned clone calls itself {}", greeting.vm_id);
    host.sample().await.map(drop)
}

async fn connect(vm: &Vm, key: &Key) -> anyhow::Result<HostSide> {
    HostSide::connect(&vm.agent_socket(), key, Instant::now() + Duration::from_secs(5)).await
}

fn places(bench: &Workbench, name: &str) -> anyhow::Result<Places> {
    let places = Places { sockets: bench.scratch.join(name), logs: bench.logs.join(name) };
    std::fs::create_dir_all(&places.sockets)?;
    std::fs::create_dir_all(&places.logs)?;
    Ok(places)
}

/// Of a sparse file the holes stay holes.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let output = Command::new("cp").arg("--sparse=always").arg(from).arg(to).output().context("starting cp")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
