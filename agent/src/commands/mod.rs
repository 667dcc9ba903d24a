//! Commands: what a host may ask the machine to do.

pub mod action;
pub mod audit;
pub mod cleanup;
pub mod disk_space;
pub mod dispatch;
pub mod domain;
pub mod executor;
pub mod golden_image;
pub mod health;
pub mod ids;
pub mod intake;
pub mod maintenance;
pub mod optimization;
pub mod outcome;
pub mod package_management;
#[cfg(target_os = "linux")]
pub mod pending_reboot;
pub mod policy;
pub mod power;
pub mod process_control;
pub mod process_runner;
mod safe_executor;
pub mod security;
pub mod service_control;
pub mod stop;
#[cfg(target_os = "linux")]
pub mod system_bus;
pub mod system_info;
#[cfg(test)]
pub(crate) mod test_machine;
#[cfg(test)]
pub mod testing;
#[cfg(target_os = "linux")]
pub mod tools;
pub mod unsafe_executor;
pub mod validation;

use action::{ActionSpec, Kind};

/// The actions of safe commands, sorted by name. A new action is a row here and a file beside this one.
pub const ACTIONS: &[ActionSpec] = &[
    ActionSpec::windows("AutoFixDefender", Kind::Change),
    ActionSpec::windows("AutoFixWindowsUpdates", Kind::Change),
    ActionSpec::change("AutoOptimizeDisk", cleanup::optimize),
    ActionSpec::read("CheckApplicationUpdates", package_management::application_updates),
    ActionSpec::read("CheckDiskSpace", disk_space::parse),
    ActionSpec::read("CheckLinuxSecurity", security::linux_security).linux(),
    ActionSpec::read("CheckLinuxUpdates", package_management::pending_updates).linux(),
    ActionSpec::read("CheckResourceOptimization", optimization::resources),
    ActionSpec::read("CheckSystemIntegrity", health::integrity),
    ActionSpec::windows("CheckWindowsDefender", Kind::Read),
    ActionSpec::windows("CheckWindowsUpdates", Kind::Read),
    ActionSpec::change("CleanTemporaryFiles", cleanup::temporary),
    ActionSpec::change("DiskCleanup", cleanup::disk),
    ActionSpec::raw("ExecutePowerShellScript", unsafe_executor::powershell::execute),
    ActionSpec::windows("GetApplicationDetails", Kind::Read),
    ActionSpec::windows("GetDefenderStatus", Kind::Read),
    ActionSpec::windows("GetInstalledApplicationsWMI", Kind::Read),
    ActionSpec::read("GetPendingUpdates", package_management::pending_updates),
    ActionSpec::windows("GetThreatHistory", Kind::Read),
    ActionSpec::read("GetUpdateHistory", package_management::update_history),
    ActionSpec::change("JoinDomain", domain::join).hiding(&["password"]),
    ActionSpec::read("OsInfo", system_info::os),
    ActionSpec::change("PackageInstall", package_management::install).long(),
    ActionSpec::read("PackageList", package_management::list),
    ActionSpec::change("PackageRemove", package_management::remove).long(),
    ActionSpec::read("PackageSearch", package_management::search),
    ActionSpec::change("PackageUpdate", package_management::update).long(),
    ActionSpec::change("PrepareGoldenImage", golden_image::prepare).long(),
    ActionSpec::change("ProcessKill", process_control::kill),
    ActionSpec::read("ProcessList", process_control::list),
    ActionSpec::read("ProcessTop", process_control::top),
    ActionSpec::change("RebootSystem", power::reboot),
    ActionSpec::change("RestartServices", service_control::restart),
    ActionSpec::read("RunAllHealthChecks", health::all),
    ActionSpec::windows("RunDefenderQuickScan", Kind::Change),
    ActionSpec::read("RunHealthCheck", health::one),
    ActionSpec::change("RunMaintenanceTask", maintenance::run).long(),
    ActionSpec::change("ServiceControl", service_control::control),
    ActionSpec::read("ServiceList", service_control::list),
    ActionSpec::read("SystemInfo", system_info::system),
    ActionSpec::change("UpdateSystemSoftware", package_management::update_system).long(),
    ActionSpec::read("UserList", system_info::users),
    ActionSpec::read("ValidateSystemHealth", health::validate),
];

/// The row of an action.
#[must_use]
pub fn spec(name: &str) -> Option<&'static ActionSpec> {
    let index = ACTIONS.binary_search_by(|spec| spec.name.cmp(name)).ok()?;
    ACTIONS.get(index)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use infini_protocol::host::SafeCommand;
    use serde_json::json;

    use super::action::{Exclusive, Platforms};
    use super::testing::golden_files;
    use super::*;

    #[test]
    fn the_table_is_sorted_and_has_no_name_twice() {
        let names: Vec<&str> = ACTIONS.iter().map(|spec| spec.name).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        assert!(ACTIONS.iter().all(|row| spec(row.name).is_some_and(|found| found.name == row.name)));
        assert!(spec("osinfo").is_none() && spec("").is_none());
    }

    #[test]
    fn packages_are_changed_one_change_at_a_time_and_read_at_any() {
        let maintenance = |kind: &str, name: &str| {
            json!({ "action": "RunMaintenanceTask", "task_type": kind, "task_name": name,
            "validate_before": false, "validate_after": false })
        };
        for (fields, exclusive) in [
            (json!({ "action": "PackageInstall", "package": "htop" }), true),
            (json!({ "action": "PackageRemove", "package": "htop" }), true),
            (json!({ "action": "PackageUpdate", "package": "htop" }), true),
            (json!({ "action": "UpdateSystemSoftware" }), true),
            (maintenance("packages", "fix"), true),
            (maintenance("packages", "clean-cache"), true),
            (maintenance("time", "sync"), false),
            (json!({ "action": "PackageList" }), false),
            (json!({ "action": "OsInfo" }), false),
        ] {
            let command: SafeCommand = serde_json::from_value(json!({ "id": "1", "command_type": fields })).unwrap();
            let action = (spec(&command.command_type.action).unwrap().parse)(&command).unwrap();
            assert_eq!(action.exclusive(), exclusive.then_some(Exclusive::Packages), "{fields}");
        }
    }

    /// The golden files are what other implementations rely on, so each must be there and be what a test has compared.
    #[test]
    fn every_action_of_this_platform_has_a_golden_file_that_a_test_compares() {
        let here = ACTIONS.iter().filter(|spec| spec.platforms != Platforms::Windows);
        let mut expected: Vec<String> = here.map(|spec| format!("{}.json", spec.name)).collect();
        let files = fs::read_dir(golden_files()).unwrap();
        let mut found: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected);

        let tests = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/commands"));
        for action in expected.iter().filter_map(|name| name.strip_suffix(".json")) {
            assert!(
                tests.contains(&format!("assert_golden(\"{action}\"")),
                "no test compares the golden file of {action}"
            );
        }
    }

    #[test]
    fn every_action_has_a_row_in_the_documentation() {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/commands.md")).unwrap();
        let rows: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next()).collect();
        for spec in ACTIONS {
            let names = |row: &&str| row.split('`').any(|word| word.split('{').next() == Some(spec.name));
            assert!(rows.iter().any(names), "docs/commands.md has no row for {}", spec.name);
        }
    }

    fn sources(folder: &Path) -> String {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| if path.is_dir() { sources(&path) } else { fs::read_to_string(path).unwrap() }).collect()
    }
}
