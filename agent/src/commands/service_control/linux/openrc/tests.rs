use std::fs;
use std::sync::Arc;

use infini_protocol::ErrorCode;
use infini_protocol::metrics::{ServiceStatus, StartupType};

use super::*;
use crate::commands::stop::{StopOrder, StopReason};
use crate::commands::testing::{FakePrograms, context, finished};

/// As Alpine prints it, trimmed.
const STATES: &str = "\
acpid =  started 02:17:41 (0)
bootmisc =  started 1 day(s) 02:17:43 (0)
killprocs =  stopped 
local = starting 
nginx =  crashed 
sshd =  started 02:17:40 (0)
wpa_supplicant = inactive 
";

/// The same of `rc-update`; columns are as wide as the runlevels' names.
const LEVELS: &str = "                acpid |      default                  
             bootmisc | boot                           
            killprocs |                        shutdown
                 sshd |      default nonetwork         
";

/// An Alpine whose programs answer as they are told.
struct Alpine {
    root: tempfile::TempDir,
    programs: Arc<FakePrograms>,
    manager: OpenRc,
    context: Context,
    _order: StopOrder,
}

impl Alpine {
    fn new(answer: impl FnOnce(FakePrograms, &str) -> FakePrograms) -> Self {
        let root = tempfile::tempdir().unwrap();
        for program in ["sbin/rc-service", "sbin/rc-update", "bin/rc-status"] {
            let path = root.path().join(program);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let prefix = root.path().to_str().unwrap();
        let programs = FakePrograms::default()
            .prints(&format!("{prefix}/bin/rc-status --nocolor --format ini --servicelist"), STATES)
            .prints(&format!("{prefix}/sbin/rc-update --nocolor show"), LEVELS);
        let programs = Arc::new(answer(programs, prefix));
        let manager = OpenRc::find(root.path()).unwrap();
        let (order, context) = context(Arc::clone(&programs), super::super::find(root.path()));
        Self { root, programs, manager, context, _order: order }
    }

    async fn change(&self, change: Change, name: &str) -> Result<(), ServiceError> {
        let name = ServiceName::try_from(name.to_owned()).unwrap();
        self.manager.change(change, &name, &self.context).await
    }

    /// What was run besides looking, and whether what it starts stays.
    fn changes(&self) -> Vec<(String, bool)> {
        let programs = self.programs.ran().into_iter().zip(self.programs.lines());
        let changes = programs.filter(|(_, line)| line.contains(" -- "));
        let root = self.root.path().to_str().unwrap();
        changes.map(|(program, line)| (line.replace(root, ""), program.leaves_daemon)).collect()
    }
}

#[tokio::test]
async fn states_and_runlevels_become_the_protocols_words() {
    use ServiceStatus::{Failed, Running, Starting, Stopped};
    use StartupType::{Auto, Disabled};
    let alpine = Alpine::new(|programs, _| programs);
    let services = alpine.context.services.list(&alpine.context).await.unwrap();
    let found: Vec<_> = services
        .iter()
        .map(|it| (&*it.name, it.status, it.startup_type, [it.can_start, it.can_stop, it.can_restart]))
        .collect();
    assert_eq!(
        found,
        [
            ("acpid", Running, Auto, [false, true, true]),
            ("bootmisc", Running, Auto, [false, true, true]),
            ("killprocs", Stopped, Disabled, [true, false, false]),
            ("local", Starting, Disabled, [false, true, true]),
            ("nginx", Failed, Disabled, [false, true, true]),
            ("sshd", Running, Auto, [false, true, true]),
            ("wpa_supplicant", Starting, Disabled, [false, true, true]),
        ]
    );
}

#[tokio::test]
async fn what_is_started_stays() {
    let alpine = Alpine::new(|programs, prefix| {
        ["start", "stop", "restart"].iter().fold(programs, |programs, verb| {
            programs.prints(&format!("{prefix}/sbin/rc-service --nocolor -- sshd {verb}"), " * ...\n")
        })
    });
    for change in [Change::Start, Change::Stop, Change::Restart] {
        alpine.change(change, "sshd").await.unwrap();
    }
    let line = |verb: &str| format!("/sbin/rc-service --nocolor -- sshd {verb}");
    assert_eq!(alpine.changes(), [(line("start"), true), (line("stop"), false), (line("restart"), true)]);
}

#[tokio::test]
async fn runlevels_are_changed_only_where_that_is_needed() {
    let alpine = Alpine::new(|programs, prefix| {
        programs
            .prints(&format!("{prefix}/sbin/rc-update --nocolor -- add nginx default"), "")
            .prints(&format!("{prefix}/sbin/rc-update --nocolor -- del sshd default nonetwork"), "")
    });
    alpine.change(Change::Enable, "nginx").await.unwrap();
    alpine.change(Change::Enable, "bootmisc").await.unwrap();
    alpine.change(Change::Disable, "nginx").await.unwrap();
    alpine.change(Change::Disable, "sshd").await.unwrap();
    let expected = ["add nginx default", "del sshd default nonetwork"]
        .map(|operands| (format!("/sbin/rc-update --nocolor -- {operands}"), false));
    assert_eq!(alpine.changes(), expected, "bootmisc is enabled and nginx disabled already");
}

#[tokio::test]
async fn a_name_without_a_script_is_not_found_and_starts_nothing() {
    let alpine = Alpine::new(|programs, _| programs);
    for name in ["nothing", "SSHD", "ssh", "ssh\\x64"] {
        for change in [Change::Start, Change::Stop, Change::Restart, Change::Enable, Change::Disable] {
            let error = alpine.change(change, name).await.unwrap_err();
            assert_eq!(error.error.code, ErrorCode::ServiceNotFound, "{name}: {error}");
        }
    }
    assert_eq!(alpine.changes(), []);
}

#[tokio::test]
async fn what_a_failed_script_wrote_comes_along() {
    let alpine = Alpine::new(|programs, prefix| {
        let ended = finished(Ending::Exit(1), " * Starting nginx ...\n", " * start-stop-daemon: failed\n [ !! ]\n");
        programs.answers(&format!("{prefix}/sbin/rc-service --nocolor -- nginx start"), ended)
    });
    let error = alpine.change(Change::Start, "nginx").await.unwrap_err();
    let sentence = "cannot start nginx: its program ended with exit code 1; what it last wrote is in stderr";
    assert_eq!((error.error.code, error.to_string().as_str()), (ErrorCode::CommandFailed, sentence));
    assert_eq!(error.log, "* Starting nginx ...\n * start-stop-daemon: failed\n [ !! ]");
}

#[tokio::test]
async fn a_script_that_had_to_end_is_no_failure_of_its_own() {
    let alpine = Alpine::new(|programs, prefix| {
        let ended = finished(Ending::Stopped(StopReason::Deadline), "", "");
        programs.answers(&format!("{prefix}/sbin/rc-service --nocolor -- sshd restart"), ended)
    });
    let error = alpine.change(Change::Restart, "sshd").await.unwrap_err();
    assert_eq!(error.error.code, ErrorCode::CommandTimeout, "{error}");
}

#[test]
fn an_openrc_without_all_its_programs_is_none() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("sbin")).unwrap();
    fs::write(root.path().join("sbin/rc-service"), "").unwrap();
    assert!(OpenRc::find(root.path()).is_none());
}
