//! The actions against recorded answers.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use infini_protocol::ErrorCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use super::manager::Change;
use super::*;
use crate::collector::linux::Roots;
use crate::commands::outcome::Outcome;
use crate::commands::process_runner::Ending;
use crate::commands::stop::{Stop, StopReason};
use crate::commands::testing::{FakePrograms, assert_golden, finished, idle_context, line};
use crate::commands::validation::tests::malicious::{Layer, PACKAGES};

const FORMAT: &str = "-f=${Package}\t${Architecture}\t${db:Status-Status}\t${Version}\t${Installed-Size}\t${Maintainer}\t${binary:Summary}\n";

pub fn recorded(manager: &str, name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded/packages").join(manager).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A machine with these programs and files, and nothing else.
fn machine(programs: &[&str]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for folder in ["etc", "proc/sys/kernel", "run"] {
        fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    programs.iter().for_each(|program| write(&root, program, ""));
    root
}

fn write(root: &TempDir, path: &str, text: &str) {
    let path = root.path().join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn context(root: &TempDir, programs: &Arc<FakePrograms>) -> Context {
    let path = |name: &str| root.path().join(name);
    let roots = Roots { proc: path("proc"), sys: path("sys"), etc: path("etc") };
    Context { roots: Arc::new(roots), programs: Arc::clone(programs) as _, ..idle_context() }
}

async fn run(action: &str, fields: Value, root: &TempDir, programs: &Arc<FakePrograms>) -> Outcome {
    let parse = match action {
        "PackageList" => list,
        "PackageSearch" => search,
        "PackageInstall" => install,
        "PackageRemove" => remove,
        "PackageUpdate" => update,
        "GetPendingUpdates" | "CheckLinuxUpdates" => pending_updates,
        "GetUpdateHistory" => update_history,
        "UpdateSystemSoftware" => update_system,
        "CheckApplicationUpdates" => application_updates,
        other => panic!("{other}"),
    };
    let command = json!({ "id": "1", "command_type": merged(json!({ "action": action }), fields) });
    let action = parse(&serde_json::from_value(command).unwrap()).unwrap();
    action.run(context(root, programs)).await
}

fn merged(mut all: Value, more: Value) -> Value {
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

fn list_line() -> String {
    format!("/usr/bin/dpkg-query -W {FORMAT}")
}

fn named_line(name: &str) -> String {
    format!("/usr/bin/dpkg-query -W {FORMAT} -- {name}")
}

fn apt() -> FakePrograms {
    FakePrograms::default().prints("/usr/bin/dpkg --print-architecture", "amd64\n")
}

const REFRESH: &str = "/usr/bin/apt-get -q -o DPkg::Lock::Timeout=600 update";

fn apt_get(arguments: &str) -> String {
    "/usr/bin/apt-get -y -q -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "
        .to_owned()
        + arguments
}

/// `tree` as the index has it.
const TREE: &str = "Package: tree\nVersion: 2.1.0-1\nArchitecture: amd64\n";
const SHOW_TREE: &str = "/usr/bin/apt-cache show --no-all-versions -- tree";
const INSTALLED_TREE: &str =
    "tree\tamd64\tinstalled\t2.1.0-1\t116\tFlorian Ernst <florian@debian.org>\tdisplays folders\n";

#[tokio::test]
async fn the_list_has_all_three_sources() {
    let root = machine(&["usr/bin/apt-get", "usr/bin/snap", "usr/bin/flatpak"]);
    let packages: String = recorded("apt", "list.txt").lines().take(3).map(|line| format!("{line}\n")).collect();
    let programs = apt()
        .prints(&list_line(), &packages)
        .prints("/usr/bin/snap list --unicode=never --color=never", &recorded("snap", "list.txt"))
        .prints(
            "/usr/bin/flatpak list --app --columns=application,name,version,origin,description",
            &recorded("flatpak", "list.txt"),
        );
    let outcome = run("PackageList", json!({}), &root, &Arc::new(programs)).await;
    assert_golden("PackageList", &outcome.data.unwrap());
}

#[tokio::test]
async fn a_search_tells_what_is_installed() {
    let root = machine(&["usr/bin/zypper"]);
    let search = "/usr/bin/zypper --xmlout --non-interactive --no-refresh search --match-substrings --type package";
    let programs = FakePrograms::default()
        .prints(&format!("{search} --details -- demo"), &recorded("zypper", "search.xml"))
        .prints(&format!("{search} -- demo"), &recorded("zypper", "search-summaries.xml"));
    let outcome = run("PackageSearch", json!({ "query": "demo" }), &root, &Arc::new(programs)).await;
    assert_golden("PackageSearch", &outcome.data.unwrap());
}

#[tokio::test]
async fn an_install_is_told_by_the_database() {
    let root = machine(&["usr/bin/apt-get"]);
    let nothing = finished(Ending::Exit(1), "", "dpkg-query: no packages found matching tree\n");
    let programs = apt()
        .answers(&named_line("tree"), nothing)
        .answers(&named_line("tree"), finished(Ending::Exit(0), INSTALLED_TREE, ""))
        .prints(SHOW_TREE, TREE)
        .fails(REFRESH, 100, "E: no network\n")
        .prints(&apt_get("install -- tree"), "Setting up tree\n");
    let programs = Arc::new(programs);
    let outcome = run("PackageInstall", json!({ "package": "tree" }), &root, &programs).await;
    assert_eq!((outcome.error, outcome.stdout.as_str()), (None, "Setting up tree\n"));
    assert_golden("PackageInstall", &outcome.data.unwrap());
    let install = programs.ran().into_iter().find(|program| line(program).contains(" install ")).unwrap();
    assert!(install.environment.contains(&("DEBIAN_FRONTEND".into(), "noninteractive".into())), "{install:?}");
}

#[tokio::test]
async fn an_update_tells_both_versions() {
    let root = machine(&["usr/bin/apt-get"]);
    let newer = INSTALLED_TREE.replace("2.1.0-1", "2.1.1-1");
    let programs = apt()
        .answers(&named_line("tree"), finished(Ending::Exit(0), INSTALLED_TREE, ""))
        .answers(&named_line("tree"), finished(Ending::Exit(0), &newer, ""))
        .prints(SHOW_TREE, &TREE.replace("2.1.0-1", "2.1.1-1"))
        .prints(REFRESH, "")
        .prints(&apt_get("install --only-upgrade -- tree"), "Setting up tree\n");
    let outcome = run("PackageUpdate", json!({ "package": "tree" }), &root, &Arc::new(programs)).await;
    assert_eq!(outcome.error, None);
    assert_golden("PackageUpdate", &outcome.data.unwrap());
}

#[tokio::test]
async fn updates_of_debian_are_told_with_their_sizes() {
    let root = machine(&["usr/bin/apt-get"]);
    let of_perl = |name: &str| -> String {
        recorded("apt", name).lines().filter(|line| line.contains("perl")).map(|line| format!("{line}\n")).collect()
    };
    let programs = apt()
        .prints("/usr/bin/apt-get -s -q dist-upgrade", &of_perl("updates.txt"))
        .prints("/usr/bin/apt-get --print-uris -qq -y dist-upgrade", &of_perl("sizes.txt"));
    let outcome = run("CheckLinuxUpdates", json!({}), &root, &Arc::new(programs)).await;
    assert_golden("CheckLinuxUpdates", &outcome.data.unwrap());
}

#[tokio::test]
async fn nothing_changes_for_a_name_that_the_index_does_not_have() {
    let root = machine(&["usr/bin/apt-get"]);
    let malicious = PACKAGES.iter().filter(|(layer, _)| *layer == Layer::List).map(|(_, name)| *name);
    for name in malicious.chain(["py.hon3"]) {
        let shown = format!("/usr/bin/apt-cache show --no-all-versions -- {name}");
        let programs = apt().fails(&named_line(name), 1, "").prints(&shown, &recorded("apt", "exists-pattern.txt"));
        let programs = Arc::new(programs);
        let outcome = run("PackageInstall", json!({ "package": name }), &root, &programs).await;
        assert_eq!(outcome.error.unwrap().code, ErrorCode::PackageNotFound, "{name}");
        assert!(programs.lines().iter().all(|line| !line.contains("apt-get")), "{:?}", programs.lines());
    }
}

#[tokio::test]
async fn what_is_settled_already_starts_no_change() {
    let root = machine(&["usr/bin/apt-get"]);
    let installed = Arc::new(apt().prints(&named_line("tree"), INSTALLED_TREE));
    let outcome = run("PackageInstall", json!({ "package": "tree" }), &root, &installed).await;
    assert_eq!((outcome.error, &outcome.data.unwrap()["changed"]), (None, &json!(false)));
    let gone = Arc::new(apt().fails(&named_line("tree"), 1, "").prints(SHOW_TREE, TREE));
    let outcome = run("PackageRemove", json!({ "package": "tree" }), &root, &gone).await;
    assert_golden("PackageRemove", &outcome.data.unwrap());
    let outcome = run("PackageUpdate", json!({ "package": "tree" }), &root, &gone).await;
    assert_eq!(outcome.error.unwrap().code, ErrorCode::PackageNotFound);
    assert!([installed.lines(), gone.lines()].concat().iter().all(|line| !line.contains("apt-get")));
}

#[tokio::test]
async fn a_removal_that_left_the_package_is_a_failure() {
    let root = machine(&["sbin/apk"]);
    let tree = "tree-2.1.1-r0 x86_64 {tree} (GPL) [installed]\n";
    let programs = FakePrograms::default()
        .prints("/sbin/apk list --installed -- tree", tree)
        .prints("/sbin/apk --no-progress del -- tree", "World updated, but the following packages are not removed\n");
    let outcome = run("PackageRemove", json!({ "package": "tree" }), &root, &Arc::new(programs)).await;
    assert_eq!((outcome.error.unwrap().code, outcome.exit_code), (ErrorCode::CommandFailed, 1));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_told_with_the_repair_and_the_next_change_waits_for_it() {
    let root = machine(&["usr/bin/apt-get"]);
    let repair = "/usr/bin/dpkg --force-confdef --force-confold --configure -a";
    let programs = apt()
        .prints(&named_line("tree"), INSTALLED_TREE)
        .answers(&apt_get("remove -- tree"), finished(Ending::Stopped(StopReason::Deadline), "Removing", ""))
        .prints(repair, "");
    let programs = Arc::new(programs);
    let context = context(&root, &programs);
    let remove = || Change::Remove(PackageName::try_from("tree".to_owned()).unwrap());
    let outcome = change::one(context.clone(), remove()).await;
    let error = outcome.error.unwrap();
    assert_eq!(error.code, ErrorCode::CommandTimeout);
    assert!(error.sentence.contains(repair), "{error}");

    let (_order, soon) = Stop::at(Instant::now() + std::time::Duration::from_secs(1));
    let impatient = change::one(context.stopping_at(soon), remove()).await;
    assert!(impatient.error.unwrap().sentence.contains("another change"), "the repair is not over");
    let (_order, patient) = Stop::at(Instant::now() + 2 * manager::GRACE);
    change::one(context.stopping_at(patient), remove()).await;
    let lines = programs.lines();
    let places: Vec<_> = lines.iter().filter(|line| line.contains("remove") || *line == repair).collect();
    assert_eq!(places.len(), 3, "{lines:?}");
    assert_eq!(places[1], repair);
}

#[tokio::test]
async fn pending_updates_and_the_reboot_mark() {
    let root = machine(&["usr/bin/dnf"]);
    write(&root, "run/reboot-required", "");
    let list = "/usr/bin/rpm -qa --qf %{NAME}\\t%{EVR}\\t%{ARCH}\\t%{SIZE}\\t%{VENDOR}\\t%{SUMMARY}\\n";
    let upgrades =
        "/usr/bin/dnf -q repoquery --upgrades --qf %{name}\\t%{evr}\\t%{arch}\\t%{downloadsize}\\t%{summary}\\n";
    let programs = FakePrograms::default()
        .prints(list, &recorded("dnf", "list.txt"))
        .prints(upgrades, &recorded("dnf", "updates.txt"))
        .prints("/usr/bin/dnf -q updateinfo list --updates", &recorded("dnf", "advisories.txt"));
    let programs = Arc::new(programs);
    let outcome = run("GetPendingUpdates", json!({}), &root, &programs).await;
    assert_golden("GetPendingUpdates", &outcome.data.unwrap());
    let outcome = run("CheckApplicationUpdates", json!({}), &root, &programs).await;
    assert_golden("CheckApplicationUpdates", &outcome.data.unwrap());
}

#[tokio::test]
async fn the_past_is_read_where_there_is_one() {
    let root = machine(&["usr/bin/pacman"]);
    write(&root, "var/log/pacman.log", &recorded("pacman", "pacman.log"));
    let programs = Arc::new(FakePrograms::default());
    let outcome = run("GetUpdateHistory", json!({}), &root, &programs).await;
    assert_golden("GetUpdateHistory", &outcome.data.unwrap());
    let apk = machine(&["sbin/apk"]);
    let outcome = run("GetUpdateHistory", json!({ "days": 3 }), &apk, &programs).await;
    assert_eq!(outcome.error.unwrap().code, ErrorCode::UnsupportedPlatform);
}

#[tokio::test]
async fn a_system_update_tells_what_it_brought() {
    let root = machine(&["usr/bin/pacman"]);
    let programs = FakePrograms::default()
        .answers("/usr/bin/pacman -Q", finished(Ending::Exit(0), "htop-demo 3.2.1-1\nopenssl-demo 3.0.7-2\n", ""))
        .answers("/usr/bin/pacman -Q", finished(Ending::Exit(0), &recorded("pacman", "list.txt"), ""))
        .prints("/usr/bin/pacman -Syu --noconfirm --noprogressbar", "done\n");
    let outcome = run("UpdateSystemSoftware", json!({}), &root, &Arc::new(programs)).await;
    assert_golden("UpdateSystemSoftware", &outcome.data.unwrap());
}

#[tokio::test]
async fn a_machine_without_a_manager_says_so() {
    let outcome = run("PackageList", json!({}), &machine(&[]), &Arc::new(FakePrograms::default())).await;
    assert_eq!(outcome.error.unwrap().code, ErrorCode::UnsupportedPlatform);
}
