//! The agent's configuration: defaults < file < environment < command line, and for every value where it came from.
//!
//! [`settings`] is the one table of what can be set; this file holds the values and puts the layers on top of each other.

mod edit;
mod error;
mod permissions;
pub mod settings;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use infini_protocol::limits::MAX_LINE_BYTES;
use toml::Value;

use crate::collector::CollectorSettings;
use crate::commands::audit::AuditSettings;
use crate::commands::policy::Permissions;
use crate::communication::Endpoint;
pub use edit::without;
pub use error::ConfigError;
use permissions::PERMISSIONS;
use settings::{SETTINGS, Setting};

/// Where the configuration is looked for when nobody names a file.
pub const DEFAULT_FILE: &str = "/etc/infiniservice/config.toml";

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The machine's id; absent: what the machine says of itself.
    pub vm_id: Option<String>,
    /// Whom the agent believes.
    pub auth: Auth,
    /// The file that holds the shared secret.
    pub secret_file: PathBuf,
    /// What the agent remembers over a restart is kept here.
    pub state_dir: PathBuf,
    /// The link to the host.
    pub communication: Communication,
    /// What is measured and how often.
    pub collector: Collector,
    /// Commands.
    pub commands: Commands,
    /// What is written down of commands.
    pub audit: AuditSettings,
    /// Bounds.
    pub limits: Limits,
    /// The log.
    pub log: Log,
    /// What the host may have done; absent: it may read.
    pub permissions: Option<Permissions>,
}

/// Whom the agent believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Who has the secret.
    Secret,
    /// Everyone, and then only reads run.
    None,
}

/// The link to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Communication {
    /// The port; absent: it is looked for.
    pub device: Option<Endpoint>,
    /// Whether a port that is not named for this agent may be used.
    pub borrow: bool,
}

/// What is measured and how often.
#[derive(Clone, Debug, PartialEq)]
pub struct Collector {
    /// A sample is sent that often.
    pub interval: Duration,
    /// Groups, their own intervals, list limits.
    pub settings: CollectorSettings,
}

/// Commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commands {
    /// How many run at once.
    pub max_concurrent: usize,
}

/// Bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest line, in bytes.
    pub max_line_bytes: usize,
    /// The longest time that a host may give a command.
    pub max_timeout: Duration,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// What is worth a line.
    pub level: tracing::Level,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vm_id: None,
            auth: Auth::Secret,
            secret_file: "/etc/infiniservice/secret".into(),
            state_dir: "/var/lib/infiniservice".into(),
            communication: Communication { device: None, borrow: true },
            collector: Collector { interval: Duration::from_secs(30), settings: CollectorSettings::default() },
            commands: Commands { max_concurrent: 10 },
            audit: AuditSettings::default(),
            limits: Limits { max_line_bytes: MAX_LINE_BYTES, max_timeout: Duration::from_secs(3600) },
            log: Log { level: tracing::Level::INFO },
            permissions: None,
        }
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// This line of the file.
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// This environment variable.
    Environment(&'static str),
    /// This option of the command line.
    CommandLine(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::CommandLine(option) => write!(f, "command line {option}"),
        }
    }
}

/// A configuration that can be used, where its values came from and what was odd about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// Keys that nobody knows. They do no harm, but somebody meant something by them.
    pub warnings: Vec<String>,
    origins: BTreeMap<&'static str, Origin>,
}

/// The layers above the defaults.
#[derive(Clone, Debug, Default)]
pub struct Layers<'a> {
    /// The file's path and text.
    pub file: Option<(&'a Path, &'a str)>,
    /// Environment variables, by name.
    pub environment: BTreeMap<String, String>,
    /// Options of the command line: the setting's key, the option's name, its value.
    pub command_line: Vec<(&'static str, &'static str, String)>,
}

impl Loaded {
    /// Puts the layers on top of each other.
    ///
    /// # Errors
    /// Where the file is not TOML or a value makes no sense; all such values are named at once.
    pub fn from_layers(layers: &Layers<'_>) -> Result<Self, ConfigError> {
        let mut loaded = Self {
            config: Config::default(),
            file: layers.file.map(|(path, _)| path.to_owned()),
            warnings: Vec::new(),
            origins: BTreeMap::new(),
        };
        let mut wrong = Vec::new();
        if let Some((path, text)) = layers.file {
            loaded.take_file(path, text, &mut wrong)?;
        }
        for setting in SETTINGS {
            let Some(name) = setting.environment else { continue };
            // Set to nothing means not set, as `Environment=NAME=` of a unit does.
            if let Some(text) = layers.environment.get(name).filter(|text| !text.is_empty()) {
                loaded.take(setting, &Value::String(text.clone()), Origin::Environment(name), &mut wrong);
            }
        }
        for (key, option, text) in &layers.command_line {
            let Some(setting) = SETTINGS.iter().find(|setting| setting.key == *key) else { continue };
            loaded.take(setting, &Value::String(text.clone()), Origin::CommandLine(option), &mut wrong);
        }
        if wrong.is_empty() { Ok(loaded) } else { Err(ConfigError::Values(wrong)) }
    }

    fn take(&mut self, setting: &Setting, value: &Value, origin: Origin, wrong: &mut Vec<String>) {
        match (setting.set)(&mut self.config, value) {
            Ok(()) => {
                self.origins.insert(setting.key, origin);
            }
            Err(reason) => wrong.push(format!("{origin}: {}: {reason}", setting.key)),
        }
    }

    fn take_file(&mut self, path: &Path, text: &str, wrong: &mut Vec<String>) -> Result<(), ConfigError> {
        let syntax = |error: toml::de::Error| ConfigError::Syntax { path: path.to_owned(), reason: error.to_string() };
        let values: toml::Table = toml::from_str(text).map_err(syntax)?;
        let places = toml::de::DeTable::parse(text).map_err(syntax)?;
        let mut keys = Vec::new();
        flatten("", places.get_ref(), &mut keys);
        let origin_at = |offset: usize| {
            let line = 1 + text[..offset].bytes().filter(|&byte| byte == b'\n').count();
            Origin::File { path: path.to_owned(), line }
        };
        if let Some((name, _)) = places.get_ref().get_key_value(PERMISSIONS) {
            self.take_permissions(text, name.span().start, origin_at, wrong);
        }
        for (key, offset) in keys {
            let origin = origin_at(offset);
            match SETTINGS.iter().find(|setting| setting.key == key) {
                Some(setting) => {
                    if let Some(value) = lookup(&values, &key) {
                        self.take(setting, value, origin, wrong);
                    }
                }
                None => self.warnings.push(format!("{origin}: nothing is called {key}{}", suggestion(&key))),
            }
        }
        Ok(())
    }

    /// Every setting, its value and where it came from, as a file that could be used.
    #[must_use]
    pub fn print(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for setting in SETTINGS {
            let (table, name) = setting.key.rsplit_once('.').unwrap_or(("", setting.key));
            if table != section {
                text.push_str(&format!("\n[{table}]\n"));
                section = table;
            }
            let origin = self.origin(setting.key);
            match (setting.get)(&self.config) {
                Some(value) => text.push_str(&format!("{name} = {value}  # {origin}\n")),
                None => text.push_str(&format!("# {name} is not set\n")),
            }
        }
        text.push_str(&self.print_permissions());
        text
    }

    /// Where a setting's value came from.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// The settings that differ from an earlier configuration and only count after a restart of the agent.
    #[must_use]
    pub fn needs_restart(&self, before: &Self) -> Vec<&'static str> {
        let differs = |setting: &&Setting| (setting.get)(&self.config) != (setting.get)(&before.config);
        SETTINGS.iter().filter(|setting| setting.needs_restart).filter(differs).map(|setting| setting.key).collect()
    }
}

/// The dotted keys of all values and where in the text they stand.
fn flatten(prefix: &str, table: &toml::de::DeTable<'_>, keys: &mut Vec<(String, usize)>) {
    // The permissions are read by themselves.
    let others = table.iter().filter(|(name, _)| !(prefix.is_empty() && name.get_ref() == PERMISSIONS));
    for (name, value) in others {
        let key = if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
        match value.get_ref() {
            // An empty section holds no key that could be unknown, so its own name must be known.
            toml::de::DeValue::Table(inner) if !is_setting(&key) && (is_section(&key) || !inner.is_empty()) => {
                flatten(&key, inner, keys);
            }
            _ => keys.push((key, name.span().start)),
        }
    }
}

/// Some settings are tables themselves.
fn is_setting(key: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.key == key)
}

/// Settings stand in it.
fn is_section(key: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.key.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

fn lookup<'a>(table: &'a toml::Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((head, rest)) => lookup(table.get(head)?.as_table()?, rest),
    }
}

/// A known key that ends like the unknown one: most mistakes are a wrong section.
fn suggestion(key: &str) -> String {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    match SETTINGS.iter().find(|setting| last(setting.key) == last(key)) {
        Some(setting) => format!("; did you mean {}?", setting.key),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Loaded, ConfigError> {
        Loaded::from_layers(&Layers { file: Some((Path::new("/c.toml"), text)), ..Layers::default() })
    }

    #[test]
    fn every_layer_goes_before_the_one_below_and_says_so() {
        let layers = |environment: &[(&str, &str)], command_line| Layers {
            file: Some((Path::new("/c.toml"), "\nvm_id = \"from-file\"\n")),
            environment: environment.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect(),
            command_line,
        };
        let loaded = Loaded::from_layers(&layers(&[], vec![])).unwrap();
        assert_eq!(loaded.config.vm_id.as_deref(), Some("from-file"));
        assert_eq!(loaded.origin("vm_id").to_string(), "/c.toml:2");

        let environment = [("INFINIBAY_VM_ID", "from-environment"), ("INFINISERVICE_DEVICE", "/dev/vport1p1")];
        let option = ("communication.device", "--device", "unix:/run/x.sock".to_owned());
        let loaded = Loaded::from_layers(&layers(&environment, vec![option])).unwrap();
        assert_eq!(loaded.config.vm_id.as_deref(), Some("from-environment"));
        assert_eq!(loaded.origin("vm_id"), Origin::Environment("INFINIBAY_VM_ID"));
        assert_eq!(loaded.config.communication.device, Some(Endpoint::Unix("/run/x.sock".into())));
        assert_eq!(loaded.origin("log.level"), Origin::Default);
    }

    #[test]
    fn a_variable_that_is_set_to_nothing_is_not_set() {
        let environment = [("INFINIBAY_VM_ID".to_owned(), String::new())].into();
        let loaded = Loaded::from_layers(&Layers { environment, ..Layers::default() }).unwrap();
        assert_eq!((loaded.config.vm_id.as_ref(), loaded.origin("vm_id")), (None, Origin::Default));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let loaded =
            load("vm_id = \"a\"\n[collector]\nintervall = \"1s\"\n[communication]\ninterval = \"1s\"\n").unwrap();
        assert_eq!(
            loaded.warnings,
            [
                "/c.toml:3: nothing is called collector.intervall",
                "/c.toml:5: nothing is called communication.interval; did you mean collector.interval?",
            ]
        );
    }

    #[test]
    fn an_unknown_section_is_named_even_where_it_is_empty() {
        let loaded = load("[collector]\n[colector]\n[limits]\n").unwrap();
        assert_eq!(loaded.warnings, ["/c.toml:2: nothing is called colector"]);
    }

    #[test]
    fn all_wrong_values_are_named_at_once() {
        let error =
            load("auth = \"maybe\"\n[collector]\ninterval = \"soon\"\n[limits]\nmax_line_bytes = -1\n").unwrap_err();
        let text = error.to_string();
        for part in ["/c.toml:1: auth:", "/c.toml:3: collector.interval:", "/c.toml:5: limits.max_line_bytes:"] {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
    }

    #[test]
    fn groups_have_intervals_of_their_own() {
        let loaded = load("[collector.intervals]\nports = \"2m\"\n").unwrap();
        let settings = &loaded.config.collector.settings;
        assert_eq!(settings.interval(crate::collector::Group::Ports), Duration::from_secs(120));
        let error = load("[collector.intervals]\nports = 9223372036854775807\n").unwrap_err().to_string();
        assert!(error.contains("ports: it is over a day"), "{error}");
        let error = load("[collector]\nintervals = { port = 5 }\n").unwrap_err().to_string();
        assert!(error.contains("/c.toml:2") && error.contains("\"port\" is none of cpu,"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_toml_says_where() {
        let error = load("vm_id = \n").unwrap_err().to_string();
        assert!(error.contains("/c.toml") && error.contains("line 1"), "{error}");
    }

    #[test]
    fn what_is_printed_can_be_read_back() {
        let loaded = load("vm_id = \"quote\\\" and # hash\"\n[collector]\ninterval = 5\n").unwrap();
        let again = load(&loaded.print()).unwrap_or_else(|error| panic!("{error}\n{}", loaded.print()));
        assert_eq!(again.config, loaded.config, "{}", loaded.print());
        assert_eq!(again.warnings, Vec::<String>::new());
    }

    #[test]
    fn a_reload_says_what_waits_for_a_restart() {
        let before = load("").unwrap();
        let after = load("vm_id = \"other\"\n[collector]\ninterval = \"5s\"\n[log]\nlevel = \"debug\"\n").unwrap();
        assert_eq!(after.needs_restart(&before), ["vm_id"]);
    }
}
