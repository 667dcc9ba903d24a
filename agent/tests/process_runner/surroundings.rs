//! What a program finds around it, and as whom it runs.

use infiniservice::commands::process_runner::{Account, SCRIPT_PATH};
use infiniservice::commands::validation::UserName;

use crate::ways::ways;

#[tokio::test]
async fn the_environment_holds_what_was_said_and_nothing_else() {
    for way in ways() {
        let mut program = way.program("/usr/bin/env", &[]);
        program.environment.push(("MINE".into(), "a b".into()));
        let printed = way.printed(program).await;
        let mut lines: Vec<&str> =
            printed.lines().filter(|line| !line.starts_with("INFINISERVICE_TEST_MARK=")).collect();
        lines.sort_unstable();
        let user = if rustix::process::geteuid().is_root() { "root" } else { "" };
        assert_eq!(lines.len(), 5, "{}: {printed}", way.name);
        assert!(
            lines[0].starts_with("HOME=/") && lines[4].starts_with(&format!("USER={user}")),
            "{}: {printed}",
            way.name
        );
        assert_eq!(lines[1..4], ["LANG=C.UTF-8", "MINE=a b", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "{}", way.name);
    }
}

#[tokio::test]
async fn no_descriptor_is_inherited() {
    // As if the agent had been started with an open file that it knows nothing about: exec would keep this one.
    let _foreign = rustix::io::dup(std::fs::File::open("/dev/zero").unwrap()).unwrap();
    for way in ways() {
        // The last one is the folder that ls itself reads.
        let printed = way.printed(way.program("/bin/ls", &["/proc/self/fd"])).await;
        assert_eq!(printed, "0\n1\n2\n3\n", "{}", way.name);
    }
}

#[tokio::test]
async fn a_program_has_a_session_and_the_usual_limits_and_signals() {
    let line = "read pid name state parent group session rest < /proc/self/stat; echo $((pid == $$)) $((session == $$)) $((group == $$)); \
                umask; ulimit -S -n; cat /proc/self/oom_score_adj; pwd; cat /proc/self/status";
    for way in ways() {
        let printed = way.printed(way.shell(line)).await;
        let lines: Vec<&str> = printed.lines().collect();
        assert_eq!(lines[..5], ["1 1 1", "0022", "1024", "0", "/"], "{}: {printed}", way.name);
        let signals: Vec<&str> =
            lines.into_iter().filter(|line| line.starts_with("Sig") && !line.starts_with("SigQ")).collect();
        let none = ["SigPnd", "SigBlk", "SigIgn", "SigCgt"].map(|name| format!("{name}:\t0000000000000000"));
        assert_eq!(signals, none, "{}: {printed}", way.name);
    }
}

#[tokio::test]
async fn below_a_supervisor_each_process_may_have_half_of_the_memory() {
    let way = &ways()[0];
    let total = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total: u64 = total.lines().next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    let limit: u64 = way.printed(way.shell("ulimit -d")).await.trim().parse().unwrap();
    assert!(limit.abs_diff(total / 2) <= 4, "{limit} KiB of {total} KiB");

    let mut daemon = way.shell("ulimit -d");
    daemon.leaves_daemon = true;
    let as_the_agent = way.printed(daemon).await;
    assert_ne!(as_the_agent.trim(), limit.to_string(), "a daemon was limited too");
}

#[tokio::test]
async fn as_another_user_it_has_that_users_rights_and_no_others() {
    if !rustix::process::geteuid().is_root() {
        println!("only root can try this");
        return;
    }
    let name = UserName::try_from("nobody".to_owned()).unwrap();
    let nobody = Account::look_up(&name).await.unwrap().unwrap();
    for way in ways() {
        let line = "id -u; id -ru; id -g; id -G; echo $USER $HOME; grep ^CapEff /proc/self/status";
        let mut program = way.shell(line);
        program.run_as = Some(nobody.clone());
        let groups: Vec<String> = nobody.groups.iter().map(u32::to_string).collect();
        let expected = format!(
            "{0}\n{0}\n{1}\n{2}\nnobody {3}\nCapEff:\t0000000000000000\n",
            nobody.uid,
            nobody.gid,
            groups.join(" "),
            nobody.home.display()
        );
        assert_eq!(way.printed(program).await, expected, "{}", way.name);

        let mut program = way.program("/bin/sh", &[SCRIPT_PATH]);
        program.run_as = Some(nobody.clone());
        program.script = Some(b"echo read".to_vec());
        assert_eq!(way.printed(program).await, "read\n", "{}", way.name);

        let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(way.folder.path(), closed).unwrap();
        let mut program = way.shell("true");
        program.run_as = Some(nobody.clone());
        program.working_dir = Some(way.folder.path().to_owned());
        let refused = way.try_run(program).await.unwrap_err();
        assert_eq!(refused.source.kind(), std::io::ErrorKind::PermissionDenied, "{}: {refused}", way.name);
    }
}
