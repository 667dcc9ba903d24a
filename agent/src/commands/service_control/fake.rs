//! A service manager that answers from a list.

use std::sync::Mutex;

use infini_protocol::metrics::{ServiceInfo, ServiceStatus, StartupType};

use super::manager::{Asked, Change, ServiceError, ServiceManager};
use crate::commands::action::Context;
use crate::commands::outcome::CommandError;
use crate::commands::validation::ServiceName;

/// Every service that is asked for is there but `nothing`; `db` never starts, and `slow` never comes to an end.
pub(crate) struct FakeServices {
    failed: Vec<&'static str>,
    changes: Mutex<Vec<String>>,
}

impl FakeServices {
    /// Beside two in good order these have failed.
    pub(crate) fn with_failed(failed: &[&'static str]) -> Self {
        Self { failed: failed.to_vec(), changes: Mutex::default() }
    }

    /// What was changed so far.
    pub(crate) fn changes(&self) -> Vec<String> {
        self.changes.lock().unwrap().clone()
    }
}

impl Default for FakeServices {
    fn default() -> Self {
        Self::with_failed(&["web", "db"])
    }
}

pub(super) fn service_info(name: &str, status: ServiceStatus, pid: Option<u32>) -> ServiceInfo {
    let is_up = status == ServiceStatus::Running;
    ServiceInfo {
        name: name.into(),
        display_name: name.into(),
        description: pid.map(|_| format!("The {name} server").into()),
        status,
        startup_type: if is_up { StartupType::Auto } else { StartupType::Disabled },
        pid,
        can_start: !is_up,
        can_stop: is_up,
        can_restart: is_up,
    }
}

impl ServiceManager for FakeServices {
    fn list<'a>(&'a self, _: &'a Context) -> Asked<'a, Vec<ServiceInfo>> {
        let mut services = vec![
            service_info("cron", ServiceStatus::Stopped, None),
            service_info("ssh", ServiceStatus::Running, Some(612)),
        ];
        services.extend(self.failed.iter().map(|name| service_info(name, ServiceStatus::Failed, None)));
        Box::pin(async { Ok(services) })
    }

    fn status<'a>(&'a self, name: &'a ServiceName, _: &'a Context) -> Asked<'a, ServiceInfo> {
        Box::pin(async move {
            match name.as_str() {
                "nothing" => Err(ServiceError::not_found(name)),
                "db" => Ok(service_info("db", ServiceStatus::Failed, None)),
                other => Ok(service_info(other, ServiceStatus::Running, Some(612))),
            }
        })
    }

    fn change<'a>(&'a self, change: Change, name: &'a ServiceName, _: &'a Context) -> Asked<'a, ()> {
        self.changes.lock().unwrap().push(format!("{} {name}", change.verb()));
        Box::pin(async move {
            match name.as_str() {
                "nothing" => Err(ServiceError::not_found(name)),
                "db" => {
                    let error = CommandError::failed(format!("cannot {} db: its job failed", change.verb()));
                    Err(ServiceError { error, log: "db[9]: no space left".to_owned() })
                }
                "slow" => std::future::pending().await,
                _ => Ok(()),
            }
        })
    }
}
