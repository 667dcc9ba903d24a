mod fake;

use std::fs;
use std::time::Duration;

use infini_protocol::ErrorCode;
use infini_protocol::metrics::{ServiceStatus, StartupType};
use tokio::time::Instant;

use super::*;
use crate::commands::service_control::until_stopped;
use crate::commands::stop::{Stop, StopOrder, StopReason};
use crate::commands::testing::{FakePrograms, context};
use fake::{Calls, UNITS, fake_systemd};

/// A machine whose systemd knows [`UNITS`] and whose journal holds the given text.
struct Machine {
    root: tempfile::TempDir,
    calls: Calls,
    manager: Systemd,
    context: Context,
    programs: Arc<FakePrograms>,
    _order: StopOrder,
}

impl Machine {
    fn new(journal: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let journalctl = root.path().join("bin/journalctl");
        fs::create_dir(root.path().join("bin")).unwrap();
        fs::write(&journalctl, "").unwrap();
        let options = "--no-pager --quiet --no-hostname --output=short-iso --lines 20";
        let line = format!("{} {options} --unit=broken.service", journalctl.display());
        let programs = Arc::new(FakePrograms::default().prints(&line, journal));
        let (calls, connect) = fake_systemd(UNITS);
        let manager = Systemd { root: root.path().to_owned(), connect };
        let (order, context) = context(Arc::clone(&programs), Arc::new(Systemd::new(root.path())));
        Self { root, calls, manager, context, programs, _order: order }
    }

    async fn change(&self, change: Change, name: &str) -> Result<(), ServiceError> {
        self.manager.change(change, &named(name), &self.context).await
    }

    async fn status(&self, name: &str) -> Result<ServiceInfo, ServiceError> {
        self.manager.status(&named(name), &self.context).await
    }

    /// What was called besides looking.
    fn changes(&self) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|call| !call.starts_with("Get") && !call.starts_with("LoadUnit")).cloned().collect()
    }
}

fn named(name: &str) -> ServiceName {
    ServiceName::try_from(name.to_owned()).unwrap()
}

#[tokio::test]
async fn a_service_has_what_its_unit_says() {
    let machine = Machine::new("");
    let nginx = machine.status("nginx").await.unwrap();
    assert_eq!((&*nginx.name, nginx.description.as_deref()), ("nginx", Some("What nginx.service is")));
    assert_eq!((nginx.status, nginx.startup_type, nginx.pid), (ServiceStatus::Running, StartupType::Auto, Some(612)));
    assert_eq!([nginx.can_start, nginx.can_stop, nginx.can_restart], [false, true, true]);

    let dbus = machine.status("dbus").await.unwrap();
    assert_eq!([dbus.can_start, dbus.can_stop, dbus.can_restart], [false, false, false], "{dbus:?}");
    assert_eq!(&*machine.status("www").await.unwrap().name, "nginx", "another name");
    assert_eq!(machine.changes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_template_is_known_by_its_file() {
    let machine = Machine::new("");
    let getty = machine.status("getty@").await.unwrap();
    assert_eq!((&*getty.name, getty.status, getty.startup_type), ("getty@", ServiceStatus::Stopped, StartupType::Auto));
    assert!(!getty.can_start);
    assert_eq!(machine.status("nothing@").await.unwrap_err().error.code, ErrorCode::ServiceNotFound);
    let refused = machine.change(Change::Start, "getty@").await.unwrap_err();
    assert_eq!(refused.to_string(), "cannot start getty@: it is a template; name an instance, such as getty@1");
    machine.change(Change::Enable, "getty@").await.unwrap();
    assert_eq!(machine.changes(), ["EnableUnitFiles getty@.service", "Reload"]);
}

#[tokio::test]
async fn a_name_without_a_unit_is_not_found() {
    let machine = Machine::new("");
    assert_eq!(machine.status("nothing").await.unwrap_err().error.code, ErrorCode::ServiceNotFound);
    for change in [Change::Start, Change::Stop, Change::Restart, Change::Enable, Change::Disable] {
        let error = machine.change(change, "nothing").await.unwrap_err();
        assert_eq!(
            (error.error.code, error.to_string().as_str()),
            (ErrorCode::ServiceNotFound, "there is no service nothing")
        );
    }
    assert_eq!(machine.changes(), Vec::<String>::new(), "nothing was tried");
}

#[tokio::test]
async fn a_job_is_waited_for_and_others_are_not_mistaken_for_it() {
    let machine = Machine::new("");
    machine.change(Change::Restart, "nginx").await.unwrap();
    machine.change(Change::Stop, "nginx").await.unwrap();
    machine.change(Change::Start, "nginx").await.unwrap();
    let told = |verb: &str| ["Subscribe".to_owned(), format!("{verb} nginx.service replace")];
    assert_eq!(machine.changes(), [told("RestartUnit"), told("StopUnit"), told("StartUnit")].concat());
    assert!(machine.programs.ran().is_empty(), "the journal is for failures");
}

#[tokio::test]
async fn a_failed_job_comes_with_the_last_lines_of_the_journal() {
    let machine = Machine::new("2026-01-31T12:00:00+0000 broken[7]: no such port\n");
    let error = machine.change(Change::Start, "broken").await.unwrap_err();
    assert_eq!(error.error.code, ErrorCode::CommandFailed);
    assert_eq!(error.to_string(), "cannot start broken: its job failed; what it last wrote is in stderr");
    assert_eq!(error.log, "2026-01-31T12:00:00+0000 broken[7]: no such port");
    let program = machine.programs.ran().remove(0);
    assert_eq!(program.path, machine.root.path().join("bin/journalctl"));
    assert!(!program.leaves_daemon);
}

#[tokio::test]
async fn an_endless_journal_is_cut_to_whole_lines() {
    let machine = Machine::new(&"a line of forty bytes, counting its end.\n".repeat(10_000));
    let log = machine.change(Change::Start, "broken").await.unwrap_err().log;
    assert!(log.len() > 8000 && log.len() <= 8192, "{}", log.len());
    assert!(log.lines().all(|line| line == "a line of forty bytes, counting its end."));
}

#[tokio::test]
async fn what_systemd_refuses_is_said_in_a_sentence() {
    let machine = Machine::new("");
    for (change, name, sentence) in [
        (
            Change::Stop,
            "dbus",
            "cannot stop dbus: its unit lets only other units do that (RefuseManualStart=, RefuseManualStop=)",
        ),
        (Change::Start, "cron", "cannot start cron: it is masked; unmask it in the guest first (systemctl unmask)"),
        (Change::Restart, "www", "cannot restart www: that is another name of nginx; use this one"),
        (Change::Disable, "www", "cannot disable www: that is another name of nginx; use this one"),
        (
            Change::Enable,
            "static",
            "cannot enable static: its file has no [Install] section; it is started by what needs it",
        ),
        (Change::Start, "denied", "systemd refuses: Access denied"),
    ] {
        let error = machine.change(change, name).await.unwrap_err();
        assert_eq!((error.error.code, error.to_string().as_str()), (ErrorCode::CommandFailed, sentence));
    }
}

#[tokio::test]
async fn what_starts_with_the_machine_is_linked_and_read_anew() {
    let machine = Machine::new("");
    machine.change(Change::Enable, "nginx").await.unwrap();
    machine.change(Change::Disable, "nginx").await.unwrap();
    let expected = ["EnableUnitFiles nginx.service", "Reload", "DisableUnitFiles nginx.service", "Reload"];
    assert_eq!(machine.changes(), expected);
}

#[tokio::test]
async fn a_bus_that_is_not_there_is_an_error_that_says_so() {
    let mut machine = Machine::new("");
    machine.manager.connect = Arc::new(|| {
        let (ours, _) = std::os::unix::net::UnixStream::pair().unwrap();
        connection::Builder::unix_stream(ours).p2p()
    });
    let error = machine.status("nginx").await.unwrap_err();
    assert!(error.to_string().starts_with("cannot ask systemd over D-Bus: "), "{error}");
}

/// A job that does not end holds up nothing but itself.
#[tokio::test]
async fn a_job_that_hangs_ends_with_its_command() {
    let machine = Machine::new("");
    let (order, stop) = Stop::at(Instant::now() + Duration::from_secs(3600));
    let name = named("hanging");
    let asked = machine.manager.change(Change::Start, &name, &machine.context);
    let started = machine.calls.started("StartUnit hanging.service replace");
    let ended = until_stopped(&stop, asked);
    let (ended, ()) = tokio::join!(ended, async {
        started.await;
        order.give(StopReason::Cancelled);
    });
    assert_eq!(ended.unwrap_err().error.code, ErrorCode::CommandCancelled);
}

#[test]
fn results_of_jobs_have_words() {
    let complaints: Vec<_> = ["done", "skipped", "failed", "timeout", "canceled", "dependency", "invalid"]
        .map(|result| (result, complaint(result)))
        .into_iter()
        .filter(|(_, complaint)| complaint.is_none())
        .collect();
    assert_eq!(complaints, [("done", None), ("skipped", None)]);
}
