//! Commands: what a host may ask the machine to do.

pub mod action;
pub mod cleanup;
pub mod disk_space;
pub mod dispatch;
pub mod executor;
pub mod health;
pub mod ids;
pub mod maintenance;
pub mod optimization;
pub mod outcome;
pub mod power;
pub mod process_control;
pub mod process_runner;
pub mod security;
pub mod stop;
#[cfg(target_os = "linux")]
pub mod system_bus;
pub mod system_info;
#[cfg(test)]
pub(crate) mod test_machine;
#[cfg(target_os = "linux")]
pub mod tools;
pub mod validation;

/// The actions of safe commands, by name, sorted.
pub const ACTIONS: &[&str] = &[
    "AutoFixDefender",
    "AutoFixWindowsUpdates",
    "AutoOptimizeDisk",
    "CheckApplicationUpdates",
    "CheckDiskSpace",
    "CheckLinuxSecurity",
    "CheckLinuxUpdates",
    "CheckResourceOptimization",
    "CheckSystemIntegrity",
    "CheckWindowsDefender",
    "CheckWindowsUpdates",
    "CleanTemporaryFiles",
    "DiskCleanup",
    "ExecutePowerShellScript",
    "GetApplicationDetails",
    "GetDefenderStatus",
    "GetInstalledApplicationsWMI",
    "GetPendingUpdates",
    "GetThreatHistory",
    "GetUpdateHistory",
    "JoinDomain",
    "OsInfo",
    "PackageInstall",
    "PackageList",
    "PackageRemove",
    "PackageSearch",
    "PackageUpdate",
    "PrepareGoldenImage",
    "ProcessKill",
    "ProcessList",
    "ProcessTop",
    "RebootSystem",
    "RestartServices",
    "RunAllHealthChecks",
    "RunDefenderQuickScan",
    "RunHealthCheck",
    "RunMaintenanceTask",
    "ServiceControl",
    "ServiceList",
    "SystemInfo",
    "UpdateSystemSoftware",
    "UserList",
    "ValidateSystemHealth",
];
