//! What each mode of the command line does.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use infini_protocol::agent::{AgentBody, AgentMessage, Metrics};
use infini_protocol::encode::agent_line;
use zeroize::Zeroizing;

use super::{
    Arguments, AuditQuestion, EXIT_CONFIG, EXIT_FAILURE, EXIT_OK, EXIT_UNREADABLE, EXIT_USAGE, Question, Task, explain,
    verify,
};
use crate::auth::audit::AuditFile;
use crate::auth::replay::{self, NonceJournal};
use crate::auth::secret::{self, Found, SecretError};
use crate::auth::{Authenticator, Trust};
use crate::clock;
use crate::collector::DataCollector;
use crate::collector::linux::{LinuxCollector, Roots};
use crate::commands::action::{Context, Origin};
use crate::commands::audit::{self, Audit, Head};
use crate::commands::executor::{CommandExecutor, CommandLimits};
use crate::commands::golden_image::OwnFiles;
use crate::commands::ids::{self, Ids};
use crate::commands::intake::{self, Intake};
use crate::commands::package_management::{self, Packages, TransientRunner};
use crate::commands::policy::{Asking, Judge, Policy};
use crate::commands::process_runner::Runner;
use crate::commands::service_control;
use crate::commands::stop::Stop;
use crate::communication::{BorrowPolicy, LinkSettings, Receipt, VirtioSerial};
use crate::config::settings::SETTINGS;
use crate::config::{Auth, Config, ConfigError, DEFAULT_FILE, Layers, Loaded};
use crate::diagnose;
use crate::heap;
use crate::identity::Identity;
use crate::identity::linux::machine_facts;
use crate::logging;
use crate::panics;
use crate::service::state::Machine;
use crate::service::{InfiniService, Parts, Reloaded, ScriptsMark};
use crate::supervisor::Supervisor;

/// What the process was started with. The secret is no longer in its environment.
struct Start {
    file: Option<PathBuf>,
    environment: BTreeMap<String, String>,
    command_line: Vec<(&'static str, &'static str, String)>,
    secret: Option<Zeroizing<Vec<u8>>>,
    credentials: Option<PathBuf>,
}

/// Runs one mode and gives the process's exit code.
pub(super) fn run(arguments: &Arguments) -> u8 {
    let secret = secret::take_from_environment();
    let start = match secret {
        Ok(secret) => Start::new(arguments, secret),
        Err(error) => {
            eprintln!("infiniservice: cannot take the secret out of the environment: {error}");
            return EXIT_FAILURE;
        }
    };
    // A folder that is named needs no configuration: it may be a copy, on another machine.
    if let Some(Task::Audit { question: AuditQuestion::Verify { head, dir: Some(dir), json } }) = &arguments.task {
        return verify_audit(dir, dir, head.clone(), *json);
    }
    let loaded = match start.load() {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("infiniservice: the configuration cannot be used:\n{error}");
            return EXIT_CONFIG;
        }
    };
    if let Some(Task::Audit { question: AuditQuestion::Verify { head, json, .. } }) = &arguments.task {
        let state_dir = &loaded.config.state_dir;
        return verify_audit(&audit::folder(state_dir), state_dir, head.clone(), *json);
    }
    if let Some(Task::Policy { question: Question::Explain { command } }) = &arguments.task {
        return explain_policy(&start, &loaded, command);
    }
    if arguments.print_config {
        return print(&loaded.print());
    }
    if arguments.check_config {
        return check_config(&start, &loaded);
    }
    if arguments.diagnose {
        let report = diagnose::examine(&loaded, &start.find_secret(&loaded.config), &Roots::default());
        let text = if arguments.json { report.to_json() } else { report.to_string() };
        return print(&text).max(if report.is_healthy() { EXIT_OK } else { EXIT_FAILURE });
    }
    if arguments.once {
        return once(&loaded);
    }
    serve(start, loaded)
}

impl Start {
    fn new(arguments: &Arguments, secret: Option<Zeroizing<Vec<u8>>>) -> Self {
        let variable = |name: &'static str| Some((name.to_owned(), std::env::var(name).ok()?));
        let mut command_line = Vec::new();
        if let Some(device) = &arguments.device {
            command_line.push(("communication.device", "--device", device.clone()));
        }
        if arguments.debug {
            command_line.push(("log.level", "--debug", "debug".to_owned()));
        }
        Self {
            file: arguments.config.clone(),
            environment: SETTINGS.iter().filter_map(|setting| variable(setting.environment?)).collect(),
            command_line,
            secret,
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
        }
    }

    /// Reads the configuration, as at the start so at every reload.
    fn load(&self) -> Result<Loaded, ConfigError> {
        let text = match &self.file {
            Some(path) => Some((path.clone(), read(path)?)),
            None => read_if_there(Path::new(DEFAULT_FILE))?.map(|text| (DEFAULT_FILE.into(), text)),
        };
        Loaded::from_layers(&Layers {
            file: text.as_ref().map(|(path, text)| (path.as_path(), text.as_str())),
            environment: self.environment.clone(),
            command_line: self.command_line.clone(),
        })
    }

    fn find_secret(&self, config: &Config) -> Result<Option<Found>, SecretError> {
        secret::find(self.secret.clone(), self.credentials.as_deref(), &config.secret_file)
    }

    /// Where the agent keeps what is its own under that configuration.
    fn own_files(&self, loaded: &Loaded) -> OwnFiles {
        OwnFiles::new(loaded, self.secret.is_some())
    }

    fn trust(&self, config: &Config) -> Trust {
        if config.auth == Auth::None {
            tracing::warn!("auth is \"none\": whoever reaches the port is believed");
            return Trust::Everyone;
        }
        match self.find_secret(config) {
            Ok(Some(found)) => {
                tracing::info!(origin = found.origin, "the host is believed by its shared secret");
                Trust::Secret(found.key)
            }
            Ok(None) => {
                tracing::warn!("there is no shared secret: samples are sent, nothing is taken from the host");
                Trust::Locked
            }
            Err(error) => {
                tracing::error!(%error, "the shared secret is not used: samples are sent, nothing is taken from the host");
                Trust::Locked
            }
        }
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// A file that is there and cannot be read is no reason for the defaults: what it says would silently not count.
fn read_if_there(path: &Path) -> Result<Option<String>, ConfigError> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn print(text: &str) -> u8 {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => EXIT_OK,
        Err(_) => EXIT_FAILURE,
    }
}

fn explain_policy(start: &Start, loaded: &Loaded, command: &str) -> u8 {
    let permissions = loaded.config.permissions.as_ref();
    let asking = Asking::from(&start.trust(&loaded.config));
    match explain::explain(asking, permissions, command, &Roots::default().proc) {
        (sentence, EXIT_USAGE) => {
            eprintln!("infiniservice: {sentence}");
            EXIT_USAGE
        }
        (text, code) => print(&text).max(code),
    }
}

fn verify_audit(folder: &Path, must_exist: &Path, head: Option<Head>, json: bool) -> u8 {
    match verify::verified(folder, must_exist, head, json, &Roots::default().proc) {
        (sentence, EXIT_UNREADABLE) => {
            eprintln!("infiniservice: the audit cannot be read: {sentence}");
            EXIT_UNREADABLE
        }
        (text, code) => print(&text).max(code),
    }
}

fn check_config(start: &Start, loaded: &Loaded) -> u8 {
    let mut problems = loaded.warnings.clone();
    if let Err(error) = start.find_secret(&loaded.config) {
        problems.push(error.to_string());
    }
    for problem in &problems {
        eprintln!("{problem}");
    }
    if !problems.is_empty() {
        return EXIT_CONFIG;
    }
    match &loaded.file {
        Some(path) => print(&format!("{} is in order\n", path.display())),
        None => print("there is no configuration file; the defaults are in order\n"),
    }
}

fn once(loaded: &Loaded) -> u8 {
    let mut settings = loaded.config.collector.settings.clone();
    // There is no later sample for what would be late in this one.
    settings.first_after.clear();
    settings.deadlines.clear();
    let sample = runtime().map(|runtime| {
        runtime.block_on(async {
            let mut collector = DataCollector::spawn(|| LinuxCollector::new(Roots::default()), settings);
            collector.request();
            collector.next_sample().await
        })
    });
    let body = match sample {
        Ok(data) => AgentBody::Metrics(Box::new(Metrics { data })),
        Err(error) => {
            eprintln!("infiniservice: cannot start: {error}");
            return EXIT_FAILURE;
        }
    };
    match agent_line(AgentMessage { timestamp: clock::now(), body }, loaded.config.limits.max_line_bytes) {
        Ok(line) => print(&String::from_utf8_lossy(&line)),
        Err(error) => {
            eprintln!("infiniservice: {error}");
            EXIT_FAILURE
        }
    }
}

fn serve(start: Start, loaded: Loaded) -> u8 {
    panics::end_the_process_otherwise();
    heap::keep_small();
    let log_level = logging::start(loaded.config.log.level);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let result = run_to_its_end(async {
        let reload_level = move |loaded: &Loaded| log_level.set(loaded.config.log.level);
        InfiniService::new(assemble(start, loaded, reload_level)?).run().await;
        Ok(())
    });
    match result {
        Ok(()) => EXIT_OK,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            EXIT_FAILURE
        }
    }
}

/// How long the agent waits at its end for threads that still read something.
const LAST_THREADS: Duration = Duration::from_millis(500);

/// Runs the agent. What still reads a disk or a network file system that does not answer has no part in its end.
fn run_to_its_end(agent: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let runtime = runtime()?;
    let result = runtime.block_on(agent);
    runtime.shutdown_timeout(LAST_THREADS);
    result
}

/// Starts the parts of the agent.
fn assemble(start: Start, loaded: Loaded, reload_level: impl Fn(&Loaded) + Send + Sync + 'static) -> io::Result<Parts> {
    let config = &loaded.config;
    let identity = Identity::new(config.vm_id.as_deref(), machine_facts(&Roots::default()));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        vm_id = identity.vm_id,
        origin = identity.vm_id_origin,
        session_id = identity.session_id,
        "started"
    );
    let trust = start.trust(config);
    let policy = Policy::new(&trust, config.permissions.clone());
    let mut machine = Machine::new(identity, config.collector.interval, Instant::now());
    machine.permit_raw(policy.may_run_raw());
    let ids = ids(&config.state_dir, machine.boot_id());
    let audit = Audit::open(&audit::folder(&config.state_dir), config.audit);
    let borrow = borrow_policy(config, &trust);
    let (intake, requests) = intake::channel();
    let link = LinkSettings {
        endpoint: config.communication.device.clone(),
        borrow,
        max_line_bytes: config.limits.max_line_bytes,
        ..LinkSettings::default()
    };
    let context = context(config, machine.boot_id(), intake, start.own_files(&loaded));
    let unanswered = package_management::adopt(&context);
    let mut command_executor = CommandExecutor::new(CommandLimits::of(config), policy, ids, audit, context);
    if let Some(unanswered) = unanswered {
        command_executor.adopt(unanswered);
    }
    Ok(Parts {
        collector: DataCollector::spawn(|| LinuxCollector::new(Roots::default()), config.collector.settings.clone()),
        communication: VirtioSerial::spawn(link),
        authenticator: Authenticator::new(trust, journal(&config.state_dir)),
        audit: AuditFile::new(config.state_dir.join(crate::auth::audit::FILES[0])),
        command_executor,
        scripts_mark: ScriptsMark::open(&config.state_dir.join("scripts"), machine.boot_id()),
        intake: requests,
        machine,
        supervisor: Supervisor::connect()?,
        reload: Arc::new(move || {
            let loaded = start.load().map_err(|error| error.to_string())?;
            reload_level(&loaded);
            for warning in &loaded.warnings {
                tracing::warn!("{warning}");
            }
            let trust = start.trust(&loaded.config);
            if loaded.config.communication.borrow && borrow_policy(&loaded.config, &trust) != borrow {
                tracing::warn!(
                    "whether a port that is not named for this agent is borrowed changes with the secret from the next start on"
                );
            }
            Ok(Reloaded { own: start.own_files(&loaded), loaded, trust })
        }),
        loaded,
    })
}

/// A host on a port that is not named for this agent can only prove itself by a secret.
pub(crate) fn borrow_policy(config: &Config, trust: &Trust) -> BorrowPolicy {
    match trust {
        _ if !config.communication.borrow => BorrowPolicy::SwitchedOff,
        Trust::Secret(_) => BorrowPolicy::Allowed,
        Trust::Locked | Trust::Everyone => BorrowPolicy::NoSecret,
    }
}

/// What commands work with on this machine.
fn context(config: &Config, boot_id: &str, intake: Intake, own: OwnFiles) -> Context {
    let binary = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    let changes = TransientRunner::new(config.state_dir.join("change"), boot_id, binary);
    Context {
        origin: Arc::new(Origin::nobody()),
        receipt: Receipt::default(),
        stop: Stop::never(),
        programs: Arc::new(Runner::new()),
        packages: Arc::new(Packages::new(Arc::new(changes))),
        roots: Arc::new(Roots::default()),
        collector: Arc::new(|| Box::new(LinuxCollector::passing(Roots::default()))),
        services: service_control::find(Path::new("/")),
        judge: Judge::default(),
        intake,
        own: Arc::new(own),
    }
}

fn ids(state_dir: &Path, boot_id: &str) -> Ids {
    let path = state_dir.join(ids::FILE);
    Ids::open(&path, boot_id).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "a restart of the agent will forget which commands have run");
        Ids::in_memory()
    })
}

fn journal(state_dir: &Path) -> NonceJournal {
    let path = state_dir.join(replay::FILES[0]);
    NonceJournal::open(&path).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "a restart of the agent will forget which commands it has seen");
        NonceJournal::in_memory()
    })
}

/// A thread for what may block ends with it: one that waited for more would wake up later only to end.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().thread_keep_alive(Duration::ZERO).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_hangs_does_not_keep_the_agent_from_ending() {
        let (let_go, hangs) = std::sync::mpsc::channel::<()>();
        let (ended, end) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let agent = async {
                tokio::task::spawn_blocking(move || hangs.recv());
                Ok(())
            };
            ended.send(run_to_its_end(agent).is_ok()).unwrap();
        });
        assert_eq!(end.recv_timeout(LAST_THREADS * 40), Ok(true), "it waits for a thread that hangs");
        drop(let_go);
    }

    #[test]
    fn only_a_file_that_is_not_there_means_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        assert!(matches!(read_if_there(&path), Ok(None)), "{:?}", read_if_there(&path));
        assert!(matches!(read_if_there(&folder.path().join("none/config.toml")), Ok(None)));

        // Root may read everything, so what cannot be looked at even by root stands in for what is forbidden.
        std::os::unix::fs::symlink(&path, &path).unwrap();
        let error = read_if_there(&path).unwrap_err().to_string();
        assert!(error.contains("config.toml") && error.contains("--config"), "{error}");
    }
}
