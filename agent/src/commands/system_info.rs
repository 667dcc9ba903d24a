//! `SystemInfo`, `OsInfo`, `UserList`: what the machine is and who may use it.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as platform;

use infini_protocol::ErrorCode;
use infini_protocol::Timestamp;
use infini_protocol::host::SafeCommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::action::{Action, Context, Read, fields};
use super::outcome::CommandError;

/// `SystemInfo`.
#[derive(Debug, Deserialize)]
struct SystemInfo {}

/// `OsInfo`.
#[derive(Debug, Deserialize)]
struct OsInfo {}

/// `UserList`.
#[derive(Debug, Deserialize)]
struct UserList {}

/// Makes a `SystemInfo`.
///
/// # Errors
/// None: it has no fields.
pub fn system(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    fields::<SystemInfo>(command)
}

/// Makes an `OsInfo`.
///
/// # Errors
/// None: it has no fields.
pub fn os(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    fields::<OsInfo>(command)
}

/// Makes a `UserList`.
///
/// # Errors
/// None: it has no fields.
pub fn users(command: &SafeCommand) -> Result<Box<dyn Action>, CommandError> {
    fields::<UserList>(command)
}

/// `data` of `SystemInfo`. What is not known of the required ones is `unknown`.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct System {
    hostname: String,
    os: String,
    os_version: String,
    kernel: String,
    arch: String,
    cpu_model: String,
    cpu_count: usize,
    /// In bytes.
    total_memory: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtualization: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    machine_id: Option<String>,
}

/// `data` of `OsInfo`.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Os {
    name: String,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    build: Option<String>,
    platform: &'static str,
    pretty_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    codename: Option<String>,
    pending_reboot: bool,
}

/// One of `UserList`.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct User {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    full_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    home: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shell: Option<String>,
    /// May become root.
    is_admin: bool,
    /// May log in.
    is_active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_login: Option<Timestamp>,
}

impl Read for SystemInfo {
    fn read(self: Box<Self>, context: &Context) -> Result<Value, CommandError> {
        value(&platform::system(&context.roots)?)
    }
}

impl Read for OsInfo {
    fn read(self: Box<Self>, context: &Context) -> Result<Value, CommandError> {
        value(&platform::os(&context.roots))
    }
}

impl Read for UserList {
    fn read(self: Box<Self>, context: &Context) -> Result<Value, CommandError> {
        let users = platform::users(&context.roots)?;
        Ok(json!({ "count": users.len(), "users": value(&users)? }))
    }
}

fn value(data: &impl Serialize) -> Result<Value, CommandError> {
    serde_json::to_value(data).map_err(|error| CommandError::new(ErrorCode::Internal, error.to_string()))
}

/// For what must be there and is not known.
fn unknown() -> String {
    "unknown".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::test_machine::TestMachine;
    use crate::commands::testing::assert_golden;

    fn machine() -> TestMachine {
        TestMachine::healthy(&[
            (
                "/etc/os-release",
                "NAME=\"Debian GNU/Linux\"\nID=debian\nVERSION_ID=\"12\"\nVERSION=\"12 (bookworm)\"\n\
                 VERSION_CODENAME=bookworm\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
            ),
            ("/etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
            ("/proc/sys/kernel/hostname", "web\n"),
            ("/proc/cpuinfo", "processor\t: 0\nmodel name\t: Some CPU\n\nprocessor\t: 1\nmodel name\t: Some CPU\n"),
            ("/sys/class/dmi/id/sys_vendor", "QEMU\n"),
            (
                "/etc/passwd",
                "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1000:Ann Example,,,:/home/ann:/bin/bash\n\
                 daemon:x:2:2::/:/usr/sbin/nologin\n",
            ),
            ("/etc/group", "sudo:x:27:ann\n"),
        ])
    }

    #[test]
    fn a_machine_its_system_and_its_users_are_told() {
        let machine = machine();
        let context = machine.context();
        let mut system = Box::new(SystemInfo {}).read(&context).unwrap();
        assert_eq!(system["arch"], std::env::consts::ARCH);
        system["arch"] = "x86_64".into();
        assert_golden("SystemInfo", &system);
        assert_golden("OsInfo", &Box::new(OsInfo {}).read(&context).unwrap());
        assert_golden("UserList", &Box::new(UserList {}).read(&context).unwrap());
    }
}
