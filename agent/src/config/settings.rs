//! The one table of what can be set.

use std::str::FromStr;
use std::time::Duration;

use toml::Value;

use super::{Auth, Config};
use crate::collector::{Group, ListLimits};
use crate::commands::audit::{AuditSettings, WhenFull};

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its place in the file, such as `collector.interval`.
    pub key: &'static str,
    /// The environment variable that sets it too.
    pub environment: Option<&'static str>,
    /// Whether a running agent only takes it at its next start.
    pub needs_restart: bool,
    /// What it means, for people.
    pub help: &'static str,
    /// Takes a value, or says in half a sentence why not.
    pub set: fn(&mut Config, &Value) -> Result<(), String>,
    /// The value as TOML; absent where it is not set.
    pub get: fn(&Config) -> Option<String>,
}

/// All of them, in the order in which `--print-config` shows them.
pub const SETTINGS: &[Setting] = &[
    Setting {
        key: "vm_id",
        environment: Some("INFINIBAY_VM_ID"),
        needs_restart: true,
        help: "the machine's id; not set: DMI product_uuid, else machine-id",
        set: |config, value| {
            config.vm_id = Some(vm_id(value)?);
            Ok(())
        },
        get: |config| config.vm_id.as_deref().map(quoted),
    },
    Setting {
        key: "auth",
        environment: None,
        needs_restart: false,
        help: "\"secret\": who has the secret is believed; \"none\": everyone, but only reads run",
        set: |config, value| {
            config.auth = match text(value)? {
                "secret" => Auth::Secret,
                "none" => Auth::None,
                other => return Err(format!("{other:?} is neither \"secret\" nor \"none\"")),
            };
            Ok(())
        },
        get: |config| Some(quoted(if config.auth == Auth::None { "none" } else { "secret" })),
    },
    Setting {
        key: "secret_file",
        environment: Some("INFINISERVICE_SECRET_FILE"),
        needs_restart: false,
        help: "the file that holds the shared secret; only its owner may read it",
        set: |config, value| {
            config.secret_file = text(value)?.into();
            Ok(())
        },
        get: |config| Some(quoted(&config.secret_file.to_string_lossy())),
    },
    Setting {
        key: "state_dir",
        environment: Some("STATE_DIRECTORY"),
        needs_restart: true,
        help: "what the agent remembers over a restart is kept here",
        set: |config, value| {
            config.state_dir = text(value)?.into();
            Ok(())
        },
        get: |config| Some(quoted(&config.state_dir.to_string_lossy())),
    },
    Setting {
        key: "communication.device",
        environment: Some("INFINISERVICE_DEVICE"),
        needs_restart: true,
        help: "a device's path, unix:PATH, unix-listen:PATH or vsock:CID:PORT; not set: the port is looked for",
        set: |config, value| {
            config.communication.device = Some(parsed(value)?);
            Ok(())
        },
        get: |config| config.communication.device.as_ref().map(|device| quoted(&device.to_string())),
    },
    Setting {
        key: "communication.borrow",
        environment: None,
        needs_restart: true,
        help: "whether a port that is not named for this agent may be used",
        set: |config, value| {
            config.communication.borrow = boolean(value)?;
            Ok(())
        },
        get: |config| Some(config.communication.borrow.to_string()),
    },
    Setting {
        key: "collector.interval",
        environment: Some("INFINISERVICE_INTERVAL"),
        needs_restart: false,
        help: "a sample is sent that often",
        set: |config, value| {
            config.collector.interval = at_least_a_second(value)?;
            Ok(())
        },
        get: |config| Some(seconds(config.collector.interval)),
    },
    Setting {
        key: "collector.groups",
        environment: None,
        needs_restart: false,
        help: "what samples hold: cpu, memory, disk_usage, disk_io, network, pressure, load, uptime, info, processes, ports, services",
        set: |config, value| {
            let names = value.as_array().ok_or_else(|| format!("{value} is not a list of names"))?;
            config.collector.settings.groups = names.iter().map(|name| group(text(name)?)).collect::<Result<_, _>>()?;
            Ok(())
        },
        get: |config| {
            let names: Vec<String> =
                config.collector.settings.groups.iter().map(|&group| quoted(&name(group))).collect();
            Some(format!("[{}]", names.join(", ")))
        },
    },
    Setting {
        key: "collector.intervals",
        environment: None,
        needs_restart: false,
        help: "groups that are read less often than a sample is sent, such as { ports = \"2m\" }; the others are read every time",
        set: |config, value| {
            for (name, value) in value.as_table().ok_or_else(|| format!("{value} is not a table"))? {
                let interval = at_most_a_day(value).map_err(|reason| format!("{name}: {reason}"))?;
                config.collector.settings.intervals.insert(group(name)?, interval);
            }
            Ok(())
        },
        get: |config| {
            let intervals = &config.collector.settings.intervals;
            let pair = |(&group, &time): (&Group, &Duration)| format!("{} = {}", name(group), seconds(time));
            Some(format!("{{ {} }}", intervals.iter().map(pair).collect::<Vec<_>>().join(", ")))
        },
    },
    Setting {
        key: "collector.max_processes",
        environment: None,
        needs_restart: false,
        help: "how many processes a sample lists, the heaviest; at most 1000",
        set: |config, value| {
            config.collector.settings.limits.processes = whole_number(value, 0, ListLimits::MOST)?;
            Ok(())
        },
        get: |config| Some(config.collector.settings.limits.processes.to_string()),
    },
    Setting {
        key: "collector.max_ports",
        environment: None,
        needs_restart: false,
        help: "how many ports a sample lists, the listening ones first; at most 1000",
        set: |config, value| {
            config.collector.settings.limits.ports = whole_number(value, 0, ListLimits::MOST)?;
            Ok(())
        },
        get: |config| Some(config.collector.settings.limits.ports.to_string()),
    },
    Setting {
        key: "collector.max_services",
        environment: None,
        needs_restart: false,
        help: "how many services a sample lists; at most 1000",
        set: |config, value| {
            config.collector.settings.limits.services = whole_number(value, 0, ListLimits::MOST)?;
            Ok(())
        },
        get: |config| Some(config.collector.settings.limits.services.to_string()),
    },
    Setting {
        key: "commands.max_concurrent",
        environment: None,
        needs_restart: false,
        help: "how many commands run at once, 1 to 100; 100 more may wait",
        set: |config, value| {
            config.commands.max_concurrent = whole_number(value, 1, 100)?;
            Ok(())
        },
        get: |config| Some(config.commands.max_concurrent.to_string()),
    },
    Setting {
        key: "audit.when_full",
        environment: None,
        needs_restart: false,
        help: "what becomes of commands while the audit cannot be written; \"continue\": they run and are counted; \"stop\": they are refused",
        set: |config, value| {
            config.audit.when_full = match text(value)? {
                "continue" => WhenFull::Continue,
                "stop" => WhenFull::Stop,
                other => return Err(format!("{other:?} is neither \"continue\" nor \"stop\"")),
            };
            Ok(())
        },
        get: |config| {
            Some(quoted(match config.audit.when_full {
                WhenFull::Continue => "continue",
                WhenFull::Stop => "stop",
            }))
        },
    },
    Setting {
        key: "audit.file_bytes",
        environment: None,
        needs_restart: false,
        help: "a file of the audit gets no longer than this, 1 MiB to 1 GiB; then a new one begins",
        set: |config, value| {
            let (least, most) = (AuditSettings::LEAST_FILE_BYTES, AuditSettings::MOST_FILE_BYTES);
            config.audit.file_bytes = whole_number(value, least, most)?;
            Ok(())
        },
        get: |config| Some(config.audit.file_bytes.to_string()),
    },
    Setting {
        key: "audit.files",
        environment: None,
        needs_restart: false,
        help: "how many files of the audit are kept, 2 to 1000; when a new one begins, the oldest goes",
        set: |config, value| {
            config.audit.files = whole_number(value, AuditSettings::LEAST_FILES, AuditSettings::MOST_FILES)?;
            Ok(())
        },
        get: |config| Some(config.audit.files.to_string()),
    },
    Setting {
        key: "limits.max_line_bytes",
        environment: None,
        needs_restart: true,
        help: "the longest line, 64 KiB to 1 MiB",
        set: |config, value| {
            config.limits.max_line_bytes = whole_number(value, 64 << 10, 1 << 20)?;
            Ok(())
        },
        get: |config| Some(config.limits.max_line_bytes.to_string()),
    },
    Setting {
        key: "limits.max_timeout",
        environment: None,
        needs_restart: false,
        help: "the longest time that a host may give a command",
        set: |config, value| {
            config.limits.max_timeout = at_least_a_second(value)?;
            Ok(())
        },
        get: |config| Some(seconds(config.limits.max_timeout)),
    },
    Setting {
        key: "log.level",
        environment: Some("INFINISERVICE_LOG"),
        needs_restart: false,
        help: "error, warn, info, debug or trace",
        set: |config, value| {
            config.log.level = parsed(value).map_err(|_| "it is none of error, warn, info, debug, trace".to_owned())?;
            Ok(())
        },
        get: |config| Some(quoted(&config.log.level.to_string().to_lowercase())),
    },
];

fn text(value: &Value) -> Result<&str, String> {
    match value {
        Value::String(text) if !text.is_empty() => Ok(text),
        Value::String(_) => Err("it is empty".to_owned()),
        other => Err(format!("{other} is not text in quotes")),
    }
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(value: &Value) -> Result<T, String> {
    text(value)?.parse().map_err(|error: T::Err| error.to_string())
}

fn vm_id(value: &Value) -> Result<String, String> {
    let id = text(value)?;
    let legal = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    if id.len() > 128 || !id.bytes().all(legal) {
        return Err("an id is 1 to 128 printable ASCII characters".to_owned());
    }
    Ok(id.to_owned())
}

fn boolean(value: &Value) -> Result<bool, String> {
    match value {
        Value::Boolean(flag) => Ok(*flag),
        other => Err(format!("{other} is neither true nor false")),
    }
}

fn whole_number(value: &Value, least: usize, most: usize) -> Result<usize, String> {
    match value.as_integer().and_then(|number| usize::try_from(number).ok()) {
        Some(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("{value} is not a whole number from {least} to {most}")),
    }
}

/// `"30s"`, `"5m"`, or a whole number of seconds.
fn duration(value: &Value) -> Result<Duration, String> {
    match value {
        Value::Integer(seconds) => {
            u64::try_from(*seconds).map(Duration::from_secs).map_err(|_| format!("{seconds} is a negative time"))
        }
        Value::String(text) => {
            humantime::parse_duration(text).map_err(|error| format!("{text:?} is not a time such as \"30s\" ({error})"))
        }
        other => Err(format!("{other} is not a time such as \"30s\"")),
    }
}

fn at_least_a_second(value: &Value) -> Result<Duration, String> {
    match at_most_a_day(value)? {
        time if time < Duration::from_secs(1) => Err("it is under one second".to_owned()),
        time => Ok(time),
    }
}

/// Longer is a mistake, and the end of it must be a moment that a clock can hold.
fn at_most_a_day(value: &Value) -> Result<Duration, String> {
    match duration(value)? {
        time if time > Duration::from_secs(86_400) => Err("it is over a day".to_owned()),
        time => Ok(time),
    }
}

fn group(name: &str) -> Result<Group, String> {
    Group::ALL.into_iter().find(|&known| self::name(known) == name).ok_or_else(|| {
        let names: Vec<String> = Group::ALL.into_iter().map(self::name).collect();
        format!("{name:?} is none of {}", names.join(", "))
    })
}

/// A group's name in the file: the one that it has in JSON.
fn name(group: Group) -> String {
    serde_json::to_value(group).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

fn seconds(time: Duration) -> String {
    quoted(&humantime::format_duration(time).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documentation is part of the source tree, so it can be held against the table.
    const DOCUMENTATION: &str = include_str!("../../../docs/configuration.md");

    #[test]
    fn every_setting_is_documented_with_its_variable_and_its_restart() {
        for setting in SETTINGS {
            let line = DOCUMENTATION.lines().find(|line| line.starts_with(&format!("| `{}` |", setting.key)));
            let line = line.unwrap_or_else(|| panic!("{} is not documented", setting.key));
            assert_eq!(line.contains("*restart*"), setting.needs_restart, "{line}");
            assert!(setting.environment.is_none_or(|name| line.contains(name)), "{line}");
        }
    }

    #[test]
    fn defaults_read_back_as_themselves() {
        for setting in SETTINGS {
            let Some(text) = (setting.get)(&Config::default()) else { continue };
            let table: toml::Table = toml::from_str(&format!("value = {text}")).unwrap();
            let mut config = Config::default();
            (setting.set)(&mut config, &table["value"]).unwrap_or_else(|error| panic!("{}: {error}", setting.key));
            assert_eq!(config, Config::default(), "{}", setting.key);
        }
    }
}
