//! The host side changes packages: with apt, from a repository in the guest, up to the agent's own package.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use infini_protocol::ErrorCode;
use infini_protocol::agent::Response;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::commands::prints;
use crate::host_side::HostSide;
use crate::report::Figures;
use crate::tolerance::same;
use crate::workbench::{UNIT, Workbench};

/// apt takes its time under emulation.
const DEADLINE: Duration = Duration::from_secs(120);

/// Functions of a shell that make packages and a repository of them, which is the only one that apt knows. A package is its name, its
/// version and what its postinst does; what lies in `/srv/files/NAME` is in it.
const REPOSITORY: &str = r#"
set -e
mkdir -p /srv/repository /srv/files
rm -f /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/srv/repository ./' >/etc/apt/sources.list
pack() {
    tree=/srv/tree-$1
    rm -rf "$tree"; mkdir -p "$tree/DEBIAN" "/srv/files/$1"
    cp -a "/srv/files/$1/." "$tree/"; chmod 755 "$tree" "$tree/DEBIAN"
    printf 'Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: vmtest <vmtest@example.org>\nDescription: made by the test\n' \
        "$1" "$2" >"$tree/DEBIAN/control"
    printf '#!/bin/sh\n%s\n' "$3" >"$tree/DEBIAN/postinst"; chmod 755 "$tree/DEBIAN/postinst"
    dpkg-deb -Znone --build "$tree" "/srv/repository/$1_$2.deb" >/dev/null
}
publish() {
    cd /srv/repository
    for file in *.deb; do
        dpkg-deb --field "$file"
        printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$file" "$(stat -c %s "$file")" "$(sha256sum "$file" | cut -d' ' -f1)"
    done >Packages
}
"#;

/// Installs, updates and removes a package, two at once, and one that takes too long.
pub async fn change(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    shell(
        bench,
        "pack vmtest-a 1.0 'cat /proc/self/cgroup >/run/vmtest-a'; pack vmtest-b 1.0 :; pack vmtest-c 1.0 :; \
         pack vmtest-slow 1.0 'if [ ! -e /run/was-slow ]; then touch /run/was-slow; sleep 98764; fi'; publish; apt-get -q update",
    )
    .await?;
    let mut host = bench.connect().await?;

    let started = Instant::now();
    let installed = change_one(&mut host, "install", "PackageInstall", "vmtest-a").await?;
    figures.note("installing a package with apt", format!("{:.1} s", started.elapsed().as_secs_f64()));
    same("what was installed", installed.pointer("/version_after"), Some(&json!("1.0")))?;
    let group = bench.vm.run("cat /run/vmtest-a").await?;
    ensure!(
        group.contains("infiniservice-packages-") && !group.contains(UNIT),
        "its script ran in the control group {group}, not in a unit of its own"
    );

    shell(bench, "pack vmtest-a 2.0 :; publish").await?;
    let updated = change_one(&mut host, "update", "PackageUpdate", "vmtest-a").await?;
    same(
        "versions",
        (updated.get("version_before"), updated.get("version_after")),
        (Some(&json!("1.0")), Some(&json!("2.0"))),
    )?;

    host.send(&command("two-b", "PackageInstall", "vmtest-b", 110)?)?;
    host.send(&command("two-c", "PackageInstall", "vmtest-c", 110)?)?;
    for _ in 0..2 {
        let response = host.response(DEADLINE).await?;
        ensure!(response.success && response.id.starts_with("two-"), "of two at once: {response:?}");
    }
    same("both", bench.vm.run("dpkg-query -W -f='${Version} ' vmtest-b vmtest-c").await?.as_str(), "1.0 1.0 ")?;

    takes_too_long(bench, &mut host, figures).await?;
    let removed = change_one(&mut host, "remove", "PackageRemove", "vmtest-a").await?;
    same("what is left", removed.get("version_after"), None)?;
    drop(host);
    by_hand(bench).await?;
    let left = bench.vm.run("systemctl list-units --all --plain --no-legend 'infiniservice-packages-*'").await?;
    same("units that changes left", left.as_str(), "")
}

/// As a person does it, with infinihost.
async fn by_hand(bench: &Workbench) -> anyhow::Result<()> {
    let version = "dpkg-query -W -f='${db:Status-Status} ${Version}' vmtest-a || true";
    prints(bench, "package", &["search", "vmtest-a"], 0, "made by the test").await?;
    prints(bench, "package", &["install", "vmtest-a"], 0, "2.0").await?;
    same("what infinihost has installed", bench.vm.run(version).await?.as_str(), "installed 2.0")?;
    shell(bench, "pack vmtest-a 3.0 :; publish").await?;
    prints(bench, "package", &["update", "vmtest-a"], 0, "3.0").await?;
    bench.vm.run("rm /run/vmtest-a && dpkg --unpack /srv/repository/vmtest-a_1.0.deb").await?;
    let fix = r#"{"action":"RunMaintenanceTask","task_type":"packages","task_name":"fix","validate_before":false,"validate_after":false}"#;
    prints(bench, "run", &[fix], 0, "Setting up vmtest-a (1.0)").await?;
    same("what was left half done", bench.vm.run(version).await?.as_str(), "installed 1.0")?;
    let group = bench.vm.run("cat /run/vmtest-a").await?;
    ensure!(group.contains("infiniservice-packages-"), "the repair ran in the control group {group}");
    prints(bench, "package", &["remove", "vmtest-a"], 0, "vmtest-a").await?;
    let left = bench.vm.run(version).await?;
    ensure!(!left.starts_with("installed"), "after its removal vmtest-a is {left:?}");
    Ok(())
}

/// The answer comes in time, the manager gets its minute, and the next change finds a database in order.
async fn takes_too_long(bench: &Workbench, host: &mut HostSide, figures: &mut Figures) -> anyhow::Result<()> {
    const TIME: u64 = 20;
    let started = Instant::now();
    host.send(&command("slow", "PackageInstall", "vmtest-slow", TIME)?)?;
    let response = host.response(DEADLINE).await?;
    let took = started.elapsed();
    figures.note("an install of 20 s that takes longer is answered after", format!("{:.2} s", took.as_secs_f64()));
    same("code", response.error_code, Some(ErrorCode::CommandTimeout))?;
    ensure!(took < Duration::from_secs(TIME), "the answer came after {took:?}");
    ensure!(response.stdout.contains("vmtest-slow"), "apt's output so far is not in {response:?}");
    let removed = change_one(host, "remove-slow", "PackageRemove", "vmtest-slow").await?;
    same("the repaired version", removed.get("version_before"), Some(&json!("1.0")))?;
    let left = bench.vm.run("pgrep -af 'slee[p] 98764' || true").await?;
    same("processes that the slow install left", left.as_str(), "")
}

/// The agent's own package: the answer comes from the agent that the update has started.
pub async fn update_the_agent(bench: &mut Workbench, figures: &mut Figures) -> anyhow::Result<()> {
    const FILES: &str = "mkdir -p /srv/files/infiniservice/usr/local/bin; \
                         cp /opt/vmtest/package/infiniservice /srv/files/infiniservice/usr/local/bin/";
    const POSTINST: &str = "if [ -n \"$2\" ]; then systemctl restart infiniservice; fi";
    shell(
        bench,
        &format!("{FILES}; pack infiniservice 1.0 '{POSTINST}'; dpkg --install /srv/repository/infiniservice_1.0.deb"),
    )
    .await?;
    shell(bench, &format!("pack infiniservice 2.0 '{POSTINST}'; publish")).await?;
    let before = bench.agent_pid().await?;
    let mut host = bench.connect().await?;
    let session = host.hello().await?.session_id;
    let update = command("upgrade", "PackageUpdate", "infiniservice", 110)?;
    let started = Instant::now();
    host.send(&update)?;
    let response = host.response(DEADLINE).await?;
    figures.note("the agent updates itself", format!("{:.1} s", started.elapsed().as_secs_f64()));
    ensure!(response.success, "{response:?}");
    let data = response.data.context("no data")?;
    same(
        "versions",
        (data.get("version_before"), data.get("version_after")),
        (Some(&json!("1.0")), Some(&json!("2.0"))),
    )?;
    ensure!(bench.agent_pid().await? != before, "the agent was not restarted");
    ensure!(host.hello().await?.session_id != session, "the agent that answers is the old one");
    host.send(&update)?;
    let again = host.response(DEADLINE).await?;
    ensure!(again.duplicate && again.success, "sent once more: {again:?}");
    // The package owns the binary now, and dpkg takes the folder away with it where nothing else is in there. What the install script has
    // put there is to be there again.
    let keep = "set -e; cp /usr/local/bin/infiniservice /run/kept; dpkg --purge infiniservice >/dev/null; mkdir -p /usr/local/bin; \
                install -m 755 /run/kept /usr/local/bin/infiniservice; \
                rm -r /run/kept /srv/files/infiniservice /srv/tree-infiniservice /srv/repository/infiniservice_*; rm -rf /var/lib/apt/lists/*";
    bench.vm.run_for(DEADLINE, keep).await.map(drop)
}

/// Changes one package, which must work, and gives the `data`.
async fn change_one(host: &mut HostSide, id: &str, action: &str, package: &str) -> anyhow::Result<Value> {
    host.send(&command(id, action, package, 110)?)?;
    let response: Response = host.response(DEADLINE).await?;
    ensure!(response.success && response.id == id, "{action} {package}: {response:?}");
    response.data.context("no data")
}

fn command(id: &str, action: &str, package: &str, timeout: u64) -> anyhow::Result<infini_protocol::host::HostMessage> {
    let command_type = json!({ "action": action, "package": package });
    HostSide::message(json!({ "type": "SafeCommand", "id": id, "command_type": command_type, "timeout": timeout }))
}

async fn shell(bench: &Workbench, lines: &str) -> anyhow::Result<()> {
    bench.vm.run_for(DEADLINE, &format!("{REPOSITORY}{lines}")).await.map(drop)
}
