//! `CheckDiskSpace`: how full the file systems are, and whether that is too full.

use infini_protocol::host::SafeCommand;
use infini_protocol::metrics::DiskUsage;
use infini_protocol::{Finite, Percent};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::action::{Action, Context, Read, fields};
use super::outcome::CommandError;

/// From here on a file system is told as `warning`, in percent.
const WARNING: f64 = 80.0;

/// From here on as `critical`.
const CRITICAL: f64 = 90.0;

/// `CheckDiskSpace`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Fields")]
struct CheckDiskSpace(Thresholds);

#[derive(Debug, Deserialize)]
struct Fields {
    warning_threshold: Option<f64>,
    critical_threshold: Option<f64>,
}

/// Makes a `CheckDiskSpace`.
///
/// # Errors
/// `INVALID_PARAMETERS` where the thresholds are not from 0 to 100, or the warning's is above the other.
pub fn parse(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    fields::<CheckDiskSpace>(command)
}

/// How full is too full.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    warning: f64,
    critical: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { warning: WARNING, critical: CRITICAL }
    }
}

/// How a file system stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SpaceStatus {
    /// There is room.
    Ok,
    /// It gets full.
    Warning,
    /// It is about to be full.
    Critical,
}

impl TryFrom<Fields> for CheckDiskSpace {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        let warning = fields.warning_threshold.unwrap_or(WARNING);
        let critical = fields.critical_threshold.unwrap_or_else(|| CRITICAL.max(warning));
        if (0.0..=100.0).contains(&warning) && (warning..=100.0).contains(&critical) {
            return Ok(Self(Thresholds { warning, critical }));
        }
        Err(format!("thresholds are percentages, and warning ({warning}) is not above critical ({critical})"))
    }
}

impl Thresholds {
    /// What a share of used space means.
    #[must_use]
    pub fn judge(self, used_percent: f64) -> SpaceStatus {
        if used_percent >= self.critical {
            SpaceStatus::Critical
        } else if used_percent >= self.warning {
            SpaceStatus::Warning
        } else {
            SpaceStatus::Ok
        }
    }
}

#[derive(Serialize)]
struct Drive<'a> {
    drive_letter: &'a str,
    total_gb: Finite,
    used_gb: Finite,
    available_gb: Finite,
    used_percent: Percent,
    status: SpaceStatus,
}

impl Read for CheckDiskSpace {
    fn read(self: Box<Self>, context: &Context) -> Result<Value, CommandError> {
        let thresholds = self.0;
        let usage = (context.collector)().collect_disk_usage()?.entries;
        let drives: Vec<Drive<'_>> = usage.iter().map(|usage| drive(usage, thresholds)).collect();
        Ok(json!({ "drives": drives }))
    }
}

fn drive(usage: &DiskUsage, thresholds: Thresholds) -> Drive<'_> {
    let used_percent = used_percent(usage);
    Drive {
        drive_letter: &usage.mount_point,
        total_gb: usage.total_gb,
        used_gb: usage.used_gb,
        available_gb: usage.available_gb,
        used_percent,
        status: thresholds.judge(used_percent.get()),
    }
}

/// As `df` has it: of what ordinary users can use, so that 100 is reached when they cannot write any more, whatever is reserved for root.
#[must_use]
pub fn used_percent(usage: &DiskUsage) -> Percent {
    let usable = usage.used_gb.get() + usage.available_gb.get();
    Percent::new(if usable > 0.0 { 100.0 * usage.used_gb.get() / usable } else { 0.0 }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::from_value;

    use super::*;
    use crate::collector::linux::Space;
    use crate::commands::test_machine::TestMachine;
    use crate::commands::testing::assert_golden;

    #[test]
    fn every_file_system_is_judged() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /srv rw - ext4 /dev/sdb1 rw\n";
        let space = Space { total: 100 << 30, free: 20 << 30, available: 15 << 30, inodes: 1000, inodes_free: 900 };
        let machine = TestMachine::healthy(&[("/proc/self/mountinfo", mounts)]).with_space(space);
        let command: CheckDiskSpace = from_value(json!({ "critical_threshold": 95 })).unwrap();
        assert_golden("CheckDiskSpace", &Box::new(command).read(&machine.context()).unwrap());
    }

    #[test]
    fn thresholds_are_percentages_in_order() {
        for (fields, legal) in [
            (json!({}), true),
            (json!({ "warning_threshold": 50, "critical_threshold": null }), true),
            (json!({ "warning_threshold": 95 }), true),
            (json!({ "warning_threshold": 95, "critical_threshold": 94.9 }), false),
            (json!({ "critical_threshold": 79 }), false),
            (json!({ "warning_threshold": -1 }), false),
            (json!({ "critical_threshold": 101 }), false),
            (json!({ "warning_threshold": "80" }), false),
        ] {
            let taken = from_value::<CheckDiskSpace>(fields.clone());
            assert_eq!(taken.is_ok(), legal, "{fields}: {taken:?}");
        }
    }

    #[test]
    fn a_threshold_belongs_to_the_worse_side() {
        let judged = [0.0, 79.9, 80.0, 89.9, 90.0, 100.0].map(|percent| Thresholds::default().judge(percent));
        use SpaceStatus::{Critical, Ok, Warning};
        assert_eq!(judged, [Ok, Ok, Warning, Warning, Critical, Critical]);
    }
}
