//! Commands: what a host may ask the machine to do.

pub mod action;
pub mod audit;
pub mod executor;
pub mod outcome;
pub mod process_runner;
pub mod stop;
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
