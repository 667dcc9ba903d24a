//! What makes the agent this machine's.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use super::*;
use crate::config::{Layers, Loaded};

async fn done(machine: &TestMachine, own: OwnFiles, step: OwnStep) -> Result<String, CommandError> {
    let (context, _) = context(machine, own);
    platform::perform_own(&context, step).await
}

#[test]
fn the_files_are_those_of_the_configuration() {
    let text = "vm_id = \"a\"\nsecret_file = \"/srv/secret\"\n";
    let layers = |environment: &[(&str, &str)]| Layers {
        file: Some((Path::new("/etc/infiniservice/config.toml"), text)),
        environment: environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
        ..Layers::default()
    };
    let found = OwnFiles::new(&Loaded::from_layers(&layers(&[])).unwrap(), false);
    assert_eq!(found, OwnFiles { secret: "/srv/secret".into(), ..own() });
    let set = [("INFINIBAY_VM_ID", "b"), ("STATE_DIRECTORY", "/srv/state")];
    let found = OwnFiles::new(&Loaded::from_layers(&layers(&set)).unwrap(), true);
    assert_eq!((found.state.as_path(), found.vm_id_variable), (Path::new("/srv/state"), Some("INFINIBAY_VM_ID")));
    assert_eq!(found.secret_variable, Some("INFINISERVICE_SHARED_SECRET"));
    assert_eq!(OwnFiles::new(&Loaded::from_layers(&Layers::default()).unwrap(), false).config, None);
}

#[tokio::test]
async fn the_secrets_bytes_go_before_its_name() {
    let machine = used().file("/etc/credstore/infiniservice.secret", "s3cret");
    // Another name shows what becomes of the bytes.
    fs::hard_link(machine.path("/etc/infiniservice/secret"), machine.path("/other-name")).unwrap();
    let detail = done(&machine, own(), OwnStep::Secret).await.unwrap();
    assert_eq!(detail, "removed /etc/infiniservice/secret, /etc/credstore/infiniservice.secret");
    assert_eq!(fs::read(machine.path("/other-name")).unwrap(), [0; 6]);
    assert_eq!(left(&machine, &["/etc/infiniservice/secret", "/etc/credstore/infiniservice.secret"]), [""; 0]);
}

#[tokio::test]
async fn a_secret_that_a_clone_would_have_again_is_told() {
    let variable = OwnFiles { secret_variable: Some("INFINISERVICE_SHARED_SECRET"), ..own() };
    let error = done(&used(), variable, OwnStep::Secret).await.unwrap_err();
    assert!(error.sentence.contains("variable INFINISERVICE_SHARED_SECRET") && error.sentence.contains("removed /etc"));

    let machine = used().file("/srv/secret", "s3cret");
    let link = machine.path("/etc/infiniservice/secret");
    fs::remove_file(&link).unwrap();
    symlink(machine.path("/srv/secret"), &link).unwrap();
    let error = done(&machine, own(), OwnStep::Secret).await.unwrap_err();
    assert!(error.sentence.contains("the secret is still in") && error.sentence.contains("/srv/secret"), "{error}");
    assert!(!link.is_symlink() && fs::read_to_string(machine.path("/srv/secret")).unwrap() == "s3cret");
}

#[tokio::test]
async fn the_configuration_keeps_all_but_the_id() {
    let machine = used();
    let path = machine.path("/etc/infiniservice/config.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let before = fs::metadata(&path).unwrap();
    assert_eq!(done(&machine, own(), OwnStep::VmId).await.unwrap(), "taken out of /etc/infiniservice/config.toml");
    assert_eq!(fs::read_to_string(&path).unwrap(), CONFIG.replace("vm_id = \"vm-1\"\n", ""));
    let after = fs::metadata(&path).unwrap();
    assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 2, "nothing is left beside it");
    assert_eq!(done(&machine, own(), OwnStep::VmId).await.unwrap(), "no vm_id is configured");

    let variable = OwnFiles { vm_id_variable: Some("INFINIBAY_VM_ID"), ..own() };
    let error = done(&machine, variable, OwnStep::VmId).await.unwrap_err();
    assert!(error.sentence.contains("INFINIBAY_VM_ID"), "{error}");
    let machine = used().file("/etc/infiniservice/config.toml", "vm_id = ");
    assert!(done(&machine, own(), OwnStep::VmId).await.is_err());
}

#[tokio::test]
async fn a_state_folder_that_was_chosen_keeps_what_is_not_the_agents() {
    let names = ["nonces", "nonces.new", "ids", "auth.log", "auth.log.1", "audit/commands.00000007.log"];
    let others = ["data", "idsx", "audit/commands.log", "audit/notes"];
    let state = OwnFiles { state: "/srv".into(), ..own() };
    let files = names.iter().chain(&others);
    let machine = files.fold(TestMachine::healthy(&[]), |machine, name| machine.file(&format!("/srv/{name}"), "x"));
    let detail = done(&machine, state.clone(), OwnStep::State).await.unwrap();
    assert!(names.iter().all(|name| detail.contains(&format!("/srv/{name}"))), "{detail}");
    let is_left = |name: &&&str| machine.path(&format!("/srv/{name}")).exists();
    assert_eq!((names.iter().filter(is_left).count(), others.iter().filter(is_left).count()), (0, others.len()));

    let machine = TestMachine::healthy(&[("/srv/audit/commands.00000001.log", "x")]);
    assert!(done(&machine, state, OwnStep::State).await.unwrap().ends_with("/srv/audit"), "an empty folder goes");
}

#[tokio::test]
async fn the_agents_own_state_folder_is_emptied() {
    let machine = used().file("/var/lib/infiniservice/later/version", "x");
    let detail = done(&machine, own(), OwnStep::State).await.unwrap();
    assert!(detail.contains("/var/lib/infiniservice/later"), "{detail}");
    assert_eq!(fs::read_dir(machine.path("/var/lib/infiniservice")).unwrap().count(), 0);
}
