//! Commands: what a host may ask the machine to do.

pub mod action;
pub mod disk_space;
pub mod dispatch;
pub mod executor;
pub mod ids;
pub mod outcome;
pub mod package_management;
pub mod policy;
pub mod process_control;
pub mod process_runner;
pub mod service_control;
pub mod stop;
pub mod system_info;
#[cfg(test)]
pub mod testing;
pub mod unsafe_executor;
pub mod validation;

use action::{ActionSpec, Kind};

/// The actions of safe commands, sorted by name. A new action is a row here and a file beside this one.
pub const ACTIONS: &[ActionSpec] = &[
    ActionSpec::windows("AutoFixDefender", Kind::Change),
    ActionSpec::windows("AutoFixWindowsUpdates", Kind::Change),
    ActionSpec::unavailable("AutoOptimizeDisk", Kind::Change),
    ActionSpec::unavailable("CheckApplicationUpdates", Kind::Read),
    ActionSpec::read("CheckDiskSpace", disk_space::parse),
    ActionSpec::unavailable("CheckLinuxSecurity", Kind::Read),
    ActionSpec::unavailable("CheckLinuxUpdates", Kind::Read),
    ActionSpec::unavailable("CheckResourceOptimization", Kind::Read),
    ActionSpec::unavailable("CheckSystemIntegrity", Kind::Read),
    ActionSpec::windows("CheckWindowsDefender", Kind::Read),
    ActionSpec::windows("CheckWindowsUpdates", Kind::Read),
    ActionSpec::unavailable("CleanTemporaryFiles", Kind::Change),
    ActionSpec::unavailable("DiskCleanup", Kind::Change),
    ActionSpec::unavailable("ExecutePowerShellScript", Kind::Raw),
    ActionSpec::windows("GetApplicationDetails", Kind::Read),
    ActionSpec::windows("GetDefenderStatus", Kind::Read),
    ActionSpec::windows("GetInstalledApplicationsWMI", Kind::Read),
    ActionSpec::unavailable("GetPendingUpdates", Kind::Read),
    ActionSpec::windows("GetThreatHistory", Kind::Read),
    ActionSpec::unavailable("GetUpdateHistory", Kind::Read),
    ActionSpec::unavailable("JoinDomain", Kind::Change),
    ActionSpec::read("OsInfo", system_info::os),
    ActionSpec::unavailable("PackageInstall", Kind::Change),
    ActionSpec::unavailable("PackageList", Kind::Read),
    ActionSpec::unavailable("PackageRemove", Kind::Change),
    ActionSpec::unavailable("PackageSearch", Kind::Read),
    ActionSpec::unavailable("PackageUpdate", Kind::Change),
    ActionSpec::unavailable("PrepareGoldenImage", Kind::Change),
    ActionSpec::change("ProcessKill", process_control::kill),
    ActionSpec::read("ProcessList", process_control::list),
    ActionSpec::read("ProcessTop", process_control::top),
    ActionSpec::unavailable("RebootSystem", Kind::Change),
    ActionSpec::change("RestartServices", service_control::restart),
    ActionSpec::unavailable("RunAllHealthChecks", Kind::Read),
    ActionSpec::windows("RunDefenderQuickScan", Kind::Change),
    ActionSpec::unavailable("RunHealthCheck", Kind::Read),
    ActionSpec::unavailable("RunMaintenanceTask", Kind::Change),
    ActionSpec::change("ServiceControl", service_control::control),
    ActionSpec::read("ServiceList", service_control::list),
    ActionSpec::read("SystemInfo", system_info::system),
    ActionSpec::unavailable("UpdateSystemSoftware", Kind::Change),
    ActionSpec::read("UserList", system_info::users),
    ActionSpec::unavailable("ValidateSystemHealth", Kind::Read),
];

/// The row of an action.
#[must_use]
pub fn spec(name: &str) -> Option<&'static ActionSpec> {
    let index = ACTIONS.binary_search_by(|spec| spec.name.cmp(name)).ok()?;
    ACTIONS.get(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_has_no_name_twice() {
        let names: Vec<&str> = ACTIONS.iter().map(|spec| spec.name).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        assert!(ACTIONS.iter().all(|row| spec(row.name).is_some_and(|found| found.name == row.name)));
        assert!(spec("osinfo").is_none() && spec("").is_none());
    }
}
