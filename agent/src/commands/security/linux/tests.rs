use super::*;
use crate::commands::health::value;
use crate::commands::security::Firewall;
use crate::commands::test_machine::{FakeBus, TestMachine};
use crate::commands::testing::assert_golden;

fn ssh(files: &[(&str, &str)]) -> (Option<bool>, Option<String>) {
    let ssh = sshd::read(&TestMachine::new(files).context().roots);
    (ssh.password_authentication, ssh.root_login)
}

#[test]
fn the_first_value_that_is_for_everybody_counts() {
    const MAIN: &str = "/etc/ssh/sshd_config";
    let words = |password, root: &str| (Some(password), Some(root.to_owned()));
    assert_eq!(ssh(&[]), (None, None));
    assert_eq!(ssh(&[(MAIN, "# PasswordAuthentication no\n")]), words(true, "prohibit-password"));
    let text = "permitrootlogin=yes\nPermitRootLogin no\nMatch User a\nPasswordAuthentication no\n";
    assert_eq!(ssh(&[(MAIN, text)]), words(true, "yes"));
    let included = [
        (MAIN, "Include /etc/ssh/sshd_config.d/*.conf\nPasswordAuthentication yes\nPermitRootLogin without-password\n"),
        ("/etc/ssh/sshd_config.d/20-b.conf", "PasswordAuthentication yes\n"),
        ("/etc/ssh/sshd_config.d/10-a.conf", "PasswordAuthentication \"no\" # cloud\nMatch all\nPermitRootLogin yes\n"),
        ("/etc/ssh/sshd_config.d/00.conf.bak", "PasswordAuthentication yes\n"),
    ];
    assert_eq!(ssh(&included), words(false, "prohibit-password"));
    assert_eq!(ssh(&[("/usr/etc/ssh/sshd_config", "PermitRootLogin no\n")]), words(true, "no"));
}

#[tokio::test]
async fn whoever_manages_the_rules_is_named() {
    const NFT: &str = "nft list ruleset";
    const IPTABLES: &str = "iptables -S INPUT";
    let chain = |rest: &str| {
        format!("table inet filter {{\n\tchain input {{\n\t\ttype filter hook input priority 0; {rest}\n\t}}\n}}\n")
    };
    let bus = FakeBus { owners: vec!["org.fedoraproject.FirewallD1"], ..FakeBus::systemd() };
    let none = FakeBus::default();
    let active = |backend| (Some(true), Some(backend));
    for (machine, bus, expected) in [
        (TestMachine::new(&[]), &bus, active("firewalld")),
        (TestMachine::new(&[("/etc/ufw/ufw.conf", "ENABLED=yes\n")]).prints("ufw", ""), &none, active("ufw")),
        (TestMachine::new(&[]).prints(NFT, &chain("policy drop;")), &none, active("nftables")),
        (TestMachine::new(&[]).prints(NFT, &chain("policy accept;\n\t\ttcp dport 23 drop")), &none, active("nftables")),
        (TestMachine::new(&[]).prints(NFT, &chain("policy accept;")), &none, (Some(false), None)),
        (TestMachine::new(&[]).prints(NFT, "").prints(IPTABLES, "-P INPUT DROP\n"), &none, active("iptables")),
        (TestMachine::new(&[]).prints(IPTABLES, "-P INPUT ACCEPT\n"), &none, (Some(false), None)),
        (TestMachine::new(&[]).fails(NFT, 1, "Operation not permitted"), &none, (None, None)),
    ] {
        let Firewall { active, backend } = firewall::find(&machine.context(), bus).await.unwrap();
        assert_eq!((active, backend), expected, "{:?}", machine.ran());
    }
}

#[test]
fn mandatory_access_has_one_word_for_both_systems() {
    let apparmor = ("/sys/module/apparmor/parameters/enabled", "Y\n");
    let profiles = "/sys/kernel/security/apparmor/profiles";
    for (files, expected) in [
        (vec![("/sys/fs/selinux/enforce", "1")], ("selinux", "enforcing")),
        (vec![("/sys/fs/selinux/enforce", "0")], ("selinux", "permissive")),
        (vec![apparmor, (profiles, "a (complain)\nb (enforce)\n")], ("apparmor", "enforcing")),
        (vec![apparmor, (profiles, "a (complain)\n")], ("apparmor", "permissive")),
        (vec![apparmor, (profiles, "")], ("apparmor", "disabled")),
        (vec![apparmor], ("apparmor", "unknown")),
        (vec![], ("none", "disabled")),
    ] {
        let access = mandatory_access(&TestMachine::new(&files).context().roots);
        assert_eq!((access.system, access.mode), expected, "{files:?}");
    }
}

#[tokio::test]
async fn advice_follows_from_what_was_found() {
    let machine = TestMachine::new(&[
        ("/etc/ssh/sshd_config", "PermitRootLogin yes\n"),
        (
            "/var/lib/update-notifier/updates-available",
            "\n12 updates can be applied immediately.\n3 of these updates are standard security updates.\n",
        ),
    ])
    .prints("nft list ruleset", "");
    let security = examine(&machine.context(), &FakeBus::systemd(), pending_security_updates).await.unwrap();
    assert_golden("CheckLinuxSecurity", &value(&security).unwrap());
    assert_eq!(pending_security_updates(&TestMachine::new(&[]).context().roots), None);
}
