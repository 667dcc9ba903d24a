mod agent;
mod homes;
mod system;

use std::fs;
use std::os::unix::fs::chown;
use std::sync::Mutex;

use infini_protocol::ErrorCode;
use infini_protocol::metrics::ServiceInfo;
use serde_json::{Value, from_value};

use super::*;
use crate::commands::intake::{self, Request};
use crate::commands::service_control::{Asked, Change, ServiceError, ServiceManager};
use crate::commands::stop::{Stop, StopReason};
use crate::commands::test_machine::{FakeBus, TestMachine};
use crate::commands::testing::assert_golden;
use crate::commands::validation::ServiceName;
use crate::communication::Delivery;

const CONFIG: &str = "# A comment.\nvm_id = \"vm-1\"\nauth = \"secret\"\n[permissions]\nreads = \"all\"\n";

/// Who is Ann here: a folder can only be given to somebody else by root.
fn ann() -> u32 {
    let own = rustix::process::getuid().as_raw();
    if own == 0 { 1000 } else { own }
}

/// A machine that has run for a while.
fn used() -> TestMachine {
    let passwd = format!("root:x:0:0::/root:/bin/sh\nann:x:{}:100::/home/ann:/bin/sh\n", ann());
    let machine = TestMachine::healthy(&[
        ("/etc/passwd", &passwd),
        ("/run/systemd/system/x", ""),
        ("/etc/infiniservice/config.toml", CONFIG),
        ("/etc/infiniservice/secret", "s3cret"),
        ("/var/lib/infiniservice/nonces", "x"),
        ("/var/lib/infiniservice/ids", "x"),
        ("/var/lib/infiniservice/auth.log", "x"),
        ("/var/lib/infiniservice/audit/commands.00000001.log", "x"),
        ("/etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("/var/lib/dbus/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("/etc/ssh/sshd_config", "Port 22\n"),
        ("/etc/ssh/ssh_host_ed25519_key", "key"),
        ("/etc/ssh/ssh_host_ed25519_key.pub", "key"),
        ("/var/log/syslog", "line\n"),
        ("/var/log/syslog.1", "line\n"),
        ("/var/log/journal/0123/system.journal", "lines"),
        ("/root/.bash_history", "ls\n"),
        ("/home/ann/.bash_history", "ls\n"),
        ("/home/ann/letter", "Dear Bob\n"),
        ("/home/ann/.cache/thumbnail", "x"),
        ("/tmp/draft", "x"),
        ("/var/crash/dump", "x"),
        ("/var/lib/dhcp/dhclient.eth0.leases", "lease"),
        ("/var/lib/systemd/random-seed", "seed"),
        ("/var/lib/systemd/credential.secret", "key"),
    ]);
    chown(machine.path("/home/ann"), Some(ann()), None).unwrap();
    ["cloud-init clean --logs", "apt-get clean", "journalctl --relinquish-var"]
        .iter()
        .fold(machine, |machine, line| machine.prints(line, ""))
        .prints("fstrim -v /", "/: 1.2 GiB (1288490188 bytes) trimmed\n")
}

fn own() -> OwnFiles {
    OwnFiles {
        config: Some("/etc/infiniservice/config.toml".into()),
        secret: "/etc/infiniservice/secret".into(),
        state: "/var/lib/infiniservice".into(),
        ..OwnFiles::default()
    }
}

fn left<'p>(machine: &TestMachine, paths: &[&'p str]) -> Vec<&'p str> {
    paths.iter().copied().filter(|path| machine.path(path).symlink_metadata().is_ok()).collect()
}

/// Writes down what was asked of the loop and of the service manager, each with what of the secret was there at that time.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Knows one service, which can be stopped.
struct SeedService(Heard);

impl ServiceManager for SeedService {
    fn list<'a>(&'a self, _: &'a Context) -> Asked<'a, Vec<ServiceInfo>> {
        unreachable!("nobody lists services")
    }

    fn status<'a>(&'a self, _: &'a ServiceName, _: &'a Context) -> Asked<'a, ServiceInfo> {
        unreachable!("nobody asks for a service")
    }

    fn change<'a>(&'a self, change: Change, name: &'a ServiceName, context: &'a Context) -> Asked<'a, ()> {
        Box::pin(async move {
            if name.as_str() != "systemd-random-seed" {
                return Err(ServiceError::not_found(name));
            }
            let seed = context.roots.file("/var/lib/systemd/random-seed").exists();
            self.0.note(format!("{change:?} {name}, seed there: {seed}"));
            Ok(())
        })
    }
}

/// A context with a loop that agrees to everything.
fn context(machine: &TestMachine, own: OwnFiles) -> (Context, Heard) {
    let (handle, mut requests) = intake::channel();
    let heard = Heard::default();
    let services = Arc::new(SeedService(heard.clone()));
    let context = Context { intake: handle.clone(), own: Arc::new(own), services, ..machine.context() };
    let (record, secret) = (heard.clone(), machine.path("/etc/infiniservice/secret"));
    tokio::spawn(async move {
        loop {
            let note = |what: &str| record.note(format!("{what}, secret there: {}", secret.exists()));
            match requests.next().await {
                Request::Close(asking) => {
                    note("close");
                    asking.send(Ok(handle.closed())).unwrap();
                }
                Request::Open => note("open"),
                Request::Forget(done) => {
                    note("forget");
                    done.send(()).unwrap();
                }
            }
        }
    });
    (context, heard)
}

fn command(level: &str, sanitize: bool, shutdown: bool) -> PrepareGoldenImage {
    let fields = json!({ "cleanup_level": level, "sanitize_user_data": sanitize, "shutdown_after": shutdown });
    from_value(fields).unwrap()
}

/// The steps of an answer: name, whether it went well, and its detail.
fn steps(data: &Value) -> Vec<(&str, bool, &str)> {
    let all = data["steps"].as_array().unwrap().iter();
    all.map(|one| (one["name"].as_str().unwrap(), one["success"].as_bool().unwrap(), one["detail"].as_str().unwrap()))
        .collect()
}

/// What came of one step.
fn detail<'d>(data: &'d Value, name: &str) -> (bool, &'d str) {
    let found = steps(data).into_iter().find(|step| step.0 == name);
    found.map(|(_, success, detail)| (success, detail)).unwrap_or_else(|| panic!("no {name} in {data:#}"))
}

async fn prepared(machine: &TestMachine, own: OwnFiles, command: PrepareGoldenImage) -> Outcome {
    let (context, _) = context(machine, own);
    prepare_image(&context, Arc::new(FakeBus::systemd()), command).await.unwrap()
}

#[test]
fn fields_are_of_the_table() {
    for (fields, legal) in [
        (json!({ "cleanup_level": "minimal", "sanitize_user_data": false, "shutdown_after": true }), true),
        (json!({ "cleanup_level": "Deep", "sanitize_user_data": false, "shutdown_after": true }), false),
        (json!({ "cleanup_level": "all", "sanitize_user_data": false, "shutdown_after": true }), false),
        (json!({ "cleanup_level": 3, "sanitize_user_data": false, "shutdown_after": true }), false),
        (json!({ "cleanup_level": "deep", "sanitize_user_data": "no", "shutdown_after": true }), false),
        (json!({ "cleanup_level": "deep", "sanitize_user_data": false, "shutdown_after": 1 }), false),
        (json!({ "cleanup_level": "deep", "sanitize_user_data": false }), false),
        (json!({ "cleanup_level": "deep", "shutdown_after": true }), false),
        (json!({ "sanitize_user_data": false, "shutdown_after": true }), false),
    ] {
        assert_eq!(from_value::<PrepareGoldenImage>(fields.clone()).is_ok(), legal, "{fields}");
    }
}

#[test]
fn each_level_has_its_steps() {
    let names = |level, sanitize| command(level, sanitize, false).steps().map(|(_, name)| name).collect::<Vec<_>>();
    let minimal =
        ["cloud_init", "shell_history", "package_cache", "ssh_host_keys", "journal", "logs", "machine_id"].to_vec();
    assert_eq!(names("minimal", false), minimal);
    let more = |with: &[&'static str]| {
        let all = STEPS.into_iter().map(|(_, name, _)| name);
        all.filter(|name| minimal.contains(name) || with.contains(name)).collect::<Vec<_>>()
    };
    let standard = ["temp_files", "crash_dumps", "dhcp_leases", "random_seed"];
    assert_eq!(names("standard", false), more(&standard));
    let deep = [&standard[..], &["user_caches", "host_secret", "trim"]].concat();
    assert_eq!(names("deep", false), more(&deep));
    for (level, with) in [("minimal", &[][..]), ("standard", &standard), ("deep", &deep)] {
        assert_eq!(names(level, true), more(&[with, &["user_data"]].concat()), "{level}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_used_machine_becomes_an_image() {
    let machine = used();
    let (context, heard) = context(&machine, own());
    let (bus, delivery) = (FakeBus::systemd(), Delivery::default());
    let context = Context { receipt: delivery.receipt(), ..context };
    let outcome = prepare_image(&context, Arc::new(bus.clone()), command("deep", true, true)).await.unwrap();
    assert_eq!(outcome.error, None, "{outcome:#?}");
    assert_golden("PrepareGoldenImage", &outcome.data.unwrap());

    let all = |path: &str| fs::read_dir(machine.path(path)).unwrap().count();
    assert_eq!([all("/home/ann"), all("/tmp"), all("/var/lib/infiniservice"), all("/var/log/journal")], [0; 4]);
    let goes = [
        "/etc/infiniservice/secret",
        "/var/lib/dbus/machine-id",
        "/etc/ssh/ssh_host_ed25519_key",
        "/var/log/syslog.1",
        "/root/.bash_history",
        "/var/crash/dump",
        "/var/lib/dhcp/dhclient.eth0.leases",
        "/var/lib/systemd/random-seed",
        "/var/lib/systemd/credential.secret",
    ];
    assert_eq!(left(&machine, &goes), [""; 0]);
    assert_eq!(fs::read_to_string(machine.path("/etc/machine-id")).unwrap(), "");
    assert_eq!(fs::read_to_string(machine.path("/var/log/syslog")).unwrap(), "");
    assert_eq!(fs::read_to_string(machine.path("/etc/ssh/sshd_config")).unwrap(), "Port 22\n");
    let config = fs::read_to_string(machine.path("/etc/infiniservice/config.toml")).unwrap();
    assert_eq!(config, CONFIG.replace("vm_id = \"vm-1\"\n", ""));

    let expected =
        ["close, secret there: true", "Stop systemd-random-seed, seed there: true", "forget, secret there: true"];
    assert_eq!(heard.all(), expected, "the agent forgets before its files go");
    tokio::time::sleep(power::LATEST / 2).await;
    assert!(bus.called().is_empty(), "the answer comes first");
    delivery.written();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(bus.called(), ["PowerOff"]);
    assert_eq!(heard.all().last().map(String::as_str), Some("open, secret there: false"), "which the loop passes over");
}

#[tokio::test(start_paused = true)]
async fn without_a_shutdown_the_machine_stays_up() {
    let machine = used();
    let (context, _) = context(&machine, own());
    let bus = FakeBus::systemd();
    let outcome = prepare_image(&context, Arc::new(bus.clone()), command("minimal", false, false)).await.unwrap();
    let data = outcome.data.unwrap();
    assert_eq!(data.get("shutdown_in_seconds"), None, "{data:#}");
    assert!(detail(&data, "intake").1.contains("until the agent is started again"), "{data:#}");
    tokio::time::sleep(power::LATEST * 2).await;
    assert!(bus.called().is_empty());
    let stays = ["/home/ann/letter", "/tmp/draft", "/var/crash/dump", "/var/lib/systemd/random-seed"];
    assert_eq!(left(&machine, &stays), stays);
}

#[tokio::test]
async fn a_machine_with_nothing_to_remove_is_one_already() {
    let machine = TestMachine::healthy(&[("/run/systemd/system/x", "")]).prints("fstrim -v /", "done\n");
    let outcome = prepared(&machine, own(), command("deep", true, false)).await;
    assert_eq!(outcome.error, None, "{outcome:#?}");
    let data = outcome.data.unwrap();
    for (name, detail) in [
        ("cloud_init", "cloud-init is not installed"),
        ("shell_history", "there was nothing"),
        ("user_data", "there was nothing"),
        ("ssh_host_keys", "there was nothing"),
        ("journal", "no journal is kept on the disk"),
        ("logs", "there was nothing"),
        ("machine_id", "/etc/machine-id: not there; /var/lib/dbus/machine-id: not there"),
        ("agent_secret", "there was no secret in a file"),
        ("agent_vm_id", "no vm_id is configured"),
        ("agent_state", "there was nothing"),
    ] {
        assert_eq!(super::tests::detail(&data, name), (true, detail), "{data:#}");
    }
}

#[tokio::test]
async fn a_step_that_fails_does_not_stop_the_others() {
    let machine = used()
        .fails("cloud-init clean --logs", 1, "cannot\n")
        .fails("apt-get clean", 100, "E: Could not get lock\n")
        .file("/proc/filesystems", "nodev\tproc\n");
    fs::remove_file(machine.path("/etc/machine-id")).unwrap();
    fs::create_dir(machine.path("/etc/machine-id")).unwrap();
    let outcome = prepared(&machine, own(), command("minimal", false, false)).await;
    let (error, data) = (outcome.error.unwrap(), outcome.data.unwrap());
    assert_eq!((error.code, outcome.exit_code), (ErrorCode::CommandFailed, 1));
    assert!(error.sentence.starts_with("3 of 12 steps failed (cloud_init, package_cache, machine_id)"), "{error}");
    assert_eq!(detail(&data, "cloud_init"), (false, "cloud-init ended with exit code 1: cannot"));
    assert!(detail(&data, "machine_id").1.contains("machine-id: Is a directory"), "{data:#}");
    assert!(detail(&data, "agent_secret").0 && left(&machine, &["/etc/infiniservice/secret"]).is_empty());
}

#[tokio::test]
async fn a_command_that_has_to_end_leaves_the_agent_as_it_was() {
    for reason in [StopReason::Cancelled, StopReason::Deadline, StopReason::ShuttingDown] {
        let machine = used();
        let (context, heard) = context(&machine, own());
        let (order, stop) = Stop::at(Instant::now() + Duration::from_secs(60));
        order.give(reason);
        let stopped = context.stopping_at(stop);
        let result = prepare_image(&stopped, Arc::new(FakeBus::systemd()), command("deep", true, true)).await;
        assert_eq!(result.unwrap_err().code, CommandError::from(reason).code);
        tokio::task::yield_now().await;
        assert_eq!(heard.all(), ["close, secret there: true", "open, secret there: true"]);
        assert!(fs::read_to_string(machine.path("/etc/infiniservice/config.toml")).unwrap() == CONFIG);
    }
}

#[tokio::test]
async fn a_machine_that_cannot_be_switched_off_is_not_touched() {
    let machine = TestMachine::healthy(&[("/etc/infiniservice/secret", "s3cret")]);
    let (context, heard) = context(&machine, own());
    let result = prepare_image(&context, Arc::new(FakeBus::default()), command("minimal", false, true)).await;
    assert!(result.unwrap_err().sentence.contains("poweroff"));
    assert!(heard.all().is_empty() && machine.path("/etc/infiniservice/secret").exists());
}

#[tokio::test(start_paused = true)]
async fn a_step_that_hangs_costs_its_own_time() {
    let (_order, stop) = Stop::at(Instant::now() + LONGEST_STEP * 2);
    let context = TestMachine::new(&[]).context().stopping_at(stop);
    let begun = Instant::now();
    let error = within_its_time(&context, std::future::pending()).await.unwrap_err();
    assert_eq!((error.code, begun.elapsed()), (ErrorCode::CommandFailed, LONGEST_STEP));
    assert!(go_on(&context).is_ok());
    within_its_time(&context, std::future::pending()).await.unwrap_err();
    assert_eq!(go_on(&context).unwrap_err().code, ErrorCode::CommandTimeout);
}
