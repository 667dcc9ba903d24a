//! Runs packaging/linux/install-linux.sh against a throw-away root, with a stand-in for the agent and one for systemctl.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const SECRET: &str = "canary-5f2c9b0d%s\\n $HOME";
const PROGRAM: &str = "usr/local/bin/infiniservice";
const UNIT: &str = "etc/systemd/system/infiniservice.service";
const WANTED: &str = "etc/systemd/system/multi-user.target.wants/infiniservice.service";
const CONFIG: &str = "etc/infiniservice/config.toml";
const SECRET_FILE: &str = "etc/infiniservice/secret";

/// Writes down what it was given and who called it, so that a test can look for what must not be there.
const WITNESS: &str = r#"#!/bin/sh
{ echo "$0 $*"; env; tr '\0' ' ' <"/proc/$PPID/cmdline"; } >>"$TEST_DIR/witness"
"#;

const AGENT: &str = r#"
case $1 in
--version) echo "infiniservice 1.0" ;;
--check-config) if grep broken "$3" >/dev/null; then echo "line 1: broken"; exit 78; fi ;;
--diagnose) echo "the port is absent" ;;
esac
"#;

const SYSTEMCTL: &str = r#"
case $1 in
restart) touch "$TEST_DIR/active"; [ ! -e "$TEST_DIR/start-fails" ] ;;
stop) rm -f "$TEST_DIR/active" ;;
is-active) [ -e "$TEST_DIR/active" ] ;;
esac
"#;

/// A folder with the files that provisioning copies, a root to install into and the stand-ins.
struct Bed {
    dir: TempDir,
    shell: Vec<&'static str>,
}

impl Bed {
    fn new(shell: &[&'static str]) -> Self {
        let bed = Self { dir: tempfile::tempdir().unwrap(), shell: shell.to_vec() };
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/linux");
        for folder in ["package", "bin", "root/run/systemd/system"] {
            fs::create_dir_all(bed.path(folder)).unwrap();
        }
        for file in ["install-linux.sh", "infiniservice.service"] {
            fs::copy(packaging.join(file), bed.path("package").join(file)).unwrap();
        }
        bed.write_script("package/infiniservice", AGENT);
        bed.write_script("bin/systemctl", SYSTEMCTL);
        bed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn root(&self, name: &str) -> PathBuf {
        self.path("root").join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.root(name)).unwrap()
    }

    fn write_script(&self, name: &str, body: &str) {
        fs::write(self.path(name), format!("{WITNESS}{body}")).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn witness(&self) -> String {
        fs::read_to_string(self.path("witness")).unwrap_or_default()
    }

    fn run(&self, arguments: &[&str], secret: Option<&str>) -> Run {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(self.shell[0]);
        command.args(&self.shell[1..]).arg(self.path("package/install-linux.sh")).args(arguments);
        command.env("PATH", path).env("INSTALL_ROOT", self.path("root")).env("TEST_DIR", self.dir.path());
        // A variable of the script's own, already in the environment: it must not carry the secret to a child.
        command.env("secret", "exported").env_remove("INFINISERVICE_SHARED_SECRET").stdin(Stdio::null());
        if let Some(secret) = secret {
            command.env("INFINISERVICE_SHARED_SECRET", secret);
        }
        Run(command.output().unwrap())
    }

    fn install(&self) {
        self.run(&["normal", "vm-1"], Some(SECRET)).succeeds();
    }

    /// Every file and link below the root with its mode, and the content of the files.
    fn tree(&self) -> Vec<(String, u32, String)> {
        let mut found = Vec::new();
        let mut folders = vec![self.path("root")];
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir().unwrap().map(Result::unwrap) {
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    folders.push(entry.path());
                    continue;
                }
                let name = entry.path().strip_prefix(self.path("root")).unwrap().display().to_string();
                let content = if kind.is_file() { fs::read_to_string(entry.path()).unwrap() } else { String::new() };
                found.push((name, entry.metadata().unwrap().permissions().mode() & 0o7777, content));
            }
        }
        found.sort();
        found
    }

    fn modes(&self) -> Vec<(String, u32)> {
        self.tree().into_iter().map(|(name, mode, _)| (name, mode)).collect()
    }
}

struct Run(Output);

impl Run {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned() + &String::from_utf8_lossy(&self.0.stderr)
    }

    fn succeeds(self) -> String {
        assert!(self.0.status.success(), "{}: {}", self.0.status, self.text());
        self.text()
    }

    fn fails(self) -> String {
        assert!(!self.0.status.success(), "succeeded: {}", self.text());
        self.text()
    }
}

/// A bed for the system's shell and, where it is installed, one for busybox.
fn beds() -> Vec<Bed> {
    let busybox = Command::new("busybox").arg("true").status().is_ok_and(|status| status.success());
    let shells: &[&[&str]] = if busybox { &[&["sh"], &["busybox", "sh"]] } else { &[&["sh"]] };
    shells.iter().map(|shell| Bed::new(shell)).collect()
}

#[test]
fn installs_each_file_with_its_mode_and_starts_the_service() {
    for bed in beds() {
        let told = bed.run(&["normal", "vm-1"], Some(SECRET)).succeeds();
        let expected = [(CONFIG, 0o644), (SECRET_FILE, 0o600), (UNIT, 0o644), (PROGRAM, 0o755)];
        assert_eq!(bed.modes(), expected.map(|(name, mode)| (name.to_owned(), mode)), "{told}");
        assert_eq!(bed.read(SECRET_FILE), SECRET);
        let config = bed.read(CONFIG);
        assert!(config.contains("\nvm_id = \"vm-1\"\n") && config.contains("\nraw = \"none\"\n"), "{config}");
        assert!(told.contains("[permissions]") && told.contains("raw = \"none\""), "{told}");
        let witness = bed.witness();
        for action in ["daemon-reload", "enable --quiet infiniservice.service", "restart infiniservice.service"] {
            assert!(witness.contains(&format!("systemctl {action}\n")), "no {action} in {witness}");
        }
    }
}

#[test]
fn the_unit_starts_the_installed_program() {
    let bed = Bed::new(&["sh"]);
    bed.install();
    assert!(bed.read(UNIT).contains(&format!("\nExecStart=/{PROGRAM}\n")));
}

#[test]
fn the_secret_is_in_its_file_and_nowhere_else() {
    // Traced, and with every assignment exported: the worst that a caller can do.
    for shell in [&["sh"][..], &["sh", "-ax"]] {
        let bed = Bed::new(shell);
        let mut told = bed.run(&["normal", "vm-1"], Some(SECRET)).succeeds();
        told += &bed.run(&["normal", "vm-1"], Some(SECRET)).succeeds();
        fs::write(bed.path("start-fails"), "").unwrap();
        told += &bed.run(&["normal", "vm-1"], Some(SECRET)).fails();
        assert!(!told.contains("canary"), "{told}");
        assert!(!bed.witness().contains("canary"), "{}", bed.witness());
        let holders: Vec<_> = bed.tree().into_iter().filter(|(_, _, content)| content.contains("canary")).collect();
        assert_eq!(holders, [(SECRET_FILE.to_owned(), 0o600, SECRET.to_owned())]);
    }
}

#[test]
fn an_upgrade_replaces_the_program_and_keeps_configuration_and_secret() {
    for bed in beds() {
        bed.install();
        let edited = format!("# mine\n{}[collector]\ninterval = \"5s\"\n", bed.read(CONFIG));
        fs::write(bed.root(CONFIG), &edited).unwrap();
        bed.write_script("package/infiniservice", &AGENT.replace("1.0", "2.0"));
        let told = bed.run(&["normal", "vm-1"], None).succeeds();
        assert!(told.contains("infiniservice 2.0") && told.contains("config.toml (kept)"), "{told}");
        assert_eq!(bed.read(CONFIG), edited);
        assert_eq!(bed.read(SECRET_FILE), SECRET);
        assert!(bed.read(PROGRAM).contains("2.0"));
    }
}

#[test]
fn another_vm_id_and_secret_replace_the_installed_ones_and_nothing_else() {
    for bed in beds() {
        bed.install();
        let other = "[other]\nvm_id = \"not mine\"\n";
        let edited = format!("{}{other}", bed.read(CONFIG));
        fs::write(bed.root(CONFIG), &edited).unwrap();
        fs::set_permissions(bed.root(CONFIG), fs::Permissions::from_mode(0o640)).unwrap();
        let told = bed.run(&["normal", "vm-2"], Some("another")).succeeds();
        assert!(told.contains("vm_id is now \"vm-2\" (was vm-1)") && told.contains("secret (replaced)"), "{told}");
        assert_eq!(bed.read(CONFIG), edited.replace("vm_id = \"vm-1\"", "vm_id = \"vm-2\""));
        assert_eq!(bed.read(SECRET_FILE), "another");
        assert!(bed.modes().contains(&(CONFIG.to_owned(), 0o640)), "{:?}", bed.modes());
    }
}

#[test]
fn a_configuration_without_vm_id_gets_one_before_its_first_table() {
    for bed in beds() {
        fs::create_dir_all(bed.root("etc/infiniservice")).unwrap();
        fs::write(bed.root(CONFIG), "[collector]\nvm_id = \"a key of another table\"\n").unwrap();
        let told = bed.run(&["normal", "vm-1"], None).succeeds();
        assert_eq!(bed.read(CONFIG), "vm_id = \"vm-1\"\n[collector]\nvm_id = \"a key of another table\"\n");
        assert!(told.contains("no [permissions] section") && told.contains("secret (none: "), "{told}");
    }
}

#[test]
fn uninstall_leaves_nothing() {
    for bed in beds() {
        bed.install();
        for file in ["var/lib/infiniservice/nonces", "etc/systemd/system/infiniservice.service.d/override.conf"] {
            fs::create_dir_all(bed.root(file).parent().unwrap()).unwrap();
            fs::write(bed.root(file), "x").unwrap();
        }
        bed.run(&["--uninstall"], None).succeeds();
        assert_eq!(bed.modes(), []);
        let folders = ["etc/infiniservice", "var/lib/infiniservice", "etc/systemd/system/infiniservice.service.d"];
        assert_eq!(folders.map(|folder| bed.root(folder).exists()), [false; 3]);
        assert!(!bed.path("active").exists(), "the service still runs: {}", bed.witness());
        bed.run(&["--uninstall"], None).succeeds();
    }
}

#[test]
fn uninstall_names_what_the_configuration_put_elsewhere_and_leaves_it() {
    for bed in beds() {
        bed.install();
        let (state, secret) = (bed.path("state"), bed.path("secret"));
        fs::create_dir(&state).unwrap();
        fs::write(state.join("auth.log"), "the system's").unwrap();
        fs::write(&secret, "a key of another program").unwrap();
        fs::write(bed.root(CONFIG), format!("state_dir = {state:?}\nsecret_file = {secret:?}\n")).unwrap();
        let told = bed.run(&["--uninstall"], None).succeeds();
        for (key, path) in [("state_dir", state.join("auth.log")), ("secret_file", secret)] {
            assert!(path.exists(), "{key}: {} is gone", path.display());
            assert!(told.contains(&format!("({key}): {}", bed.path("").display())), "{told}");
        }
        assert_eq!(bed.modes(), []);
    }
}

#[test]
fn bad_input_is_refused_before_anything_is_written() {
    let long = "x".repeat(129);
    let cases: [(&[&str], Option<&str>, &str); 8] = [
        (&[], None, "install-linux.sh normal VM_ID"),
        (&["golden", "vm-1"], None, "The modes are: normal"),
        (&["normal"], None, "use: install-linux.sh normal VM_ID"),
        (&["normal", ""], None, "VM_ID is empty"),
        (&["normal", "vm\"1"], None, "VM_ID may hold"),
        (&["normal", "-vm"], None, "starts with a letter or digit"),
        (&["normal", &long], None, "129 characters"),
        (&["normal", "vm-1"], Some("two\nlines"), "control character"),
    ];
    for bed in beds() {
        for (arguments, secret, expected) in cases {
            let told = bed.run(arguments, secret).fails();
            assert!(told.contains(expected), "{arguments:?}: {told}");
            assert_eq!(bed.modes(), [], "{arguments:?}");
        }
    }
}

#[test]
fn a_program_for_another_machine_is_refused_unrun() {
    for bed in beds() {
        let mut header = fs::read("/bin/sh").unwrap();
        header.truncate(64);
        header[18] ^= 0xff;
        // A shell that took the file for a script would reach this line.
        header.extend(format!("\ntouch {}\n", bed.path("ran").display()).bytes());
        fs::write(bed.path("package/infiniservice"), header).unwrap();
        let told = bed.run(&["normal", "vm-1"], None).fails();
        assert!(told.contains("another kind of machine"), "{told}");
        assert!(!bed.path("ran").exists());
        assert_eq!(bed.modes(), []);
    }
}

#[test]
fn a_configuration_that_the_new_program_refuses_stops_the_upgrade() {
    for bed in beds() {
        bed.install();
        fs::write(bed.root(CONFIG), "vm_id = \"vm-1\"\nbroken\n").unwrap();
        let before = bed.tree();
        bed.write_script("package/infiniservice", &AGENT.replace("1.0", "2.0"));
        let told = bed.run(&["normal", "vm-1"], Some("another")).fails();
        assert!(told.contains("line 1: broken") && told.contains("nothing was changed"), "{told}");
        assert_eq!(bed.tree(), before);
    }
}

#[test]
fn a_secret_that_the_configuration_would_not_read_is_refused() {
    let bed = Bed::new(&["sh"]);
    fs::create_dir_all(bed.root("etc/infiniservice")).unwrap();
    fs::write(bed.root(CONFIG), "secret_file = \"/srv/secret\"\n").unwrap();
    let told = bed.run(&["normal", "vm-1"], Some(SECRET)).fails();
    assert!(told.contains("another secret_file"), "{told}");
}

#[test]
fn a_failed_start_shows_what_the_agent_makes_of_it() {
    for bed in beds() {
        fs::write(bed.path("start-fails"), "").unwrap();
        let told = bed.run(&["normal", "vm-1"], Some(SECRET)).fails();
        assert!(told.contains("the port is absent") && told.contains("the service did not start"), "{told}");
    }
}

#[test]
fn without_a_running_systemd_the_service_waits_for_the_next_boot() {
    for bed in beds() {
        fs::remove_dir_all(bed.root("run")).unwrap();
        let told = bed.run(&["normal", "vm-1"], Some(SECRET)).succeeds();
        assert_eq!(fs::read_link(bed.root(WANTED)).unwrap(), Path::new("/").join(UNIT));
        assert!(told.contains("systemd does not run here"), "{told}");
        assert!(!bed.witness().contains("systemctl"), "{}", bed.witness());
        bed.run(&["--uninstall"], None).succeeds();
        assert_eq!(bed.modes(), []);
    }
}
