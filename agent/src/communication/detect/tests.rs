use super::*;

fn port(node: &str, name: Option<&str>) -> PortFacts {
    PortFacts {
        path: format!("/dev/{node}").into(),
        exists: true,
        name: name.map(str::to_owned),
        ..PortFacts::default()
    }
}

fn facts(ports: Vec<PortFacts>) -> Facts {
    Facts { driver_loaded: true, ports, ..Facts::default() }
}

fn paths(survey: &Survey) -> Vec<&str> {
    survey.candidates.iter().filter_map(|candidate| candidate.path.to_str()).collect()
}

fn reasons(survey: &Survey) -> Vec<&str> {
    survey.rejected.iter().map(|rejected| rejected.reason.error_type()).collect()
}

fn everything() -> Vec<PortFacts> {
    vec![
        port("vport0p0", None),
        port("vport0p1", None),
        port("vport1p2", Some("com.redhat.spice.0")),
        port("vport1p3", Some("org.qemu.guest_agent.0")),
        port("vport2p1", Some(PORT_NAME)),
    ]
}

#[test]
fn a_port_of_our_own_is_the_only_candidate() {
    for policy in [BorrowPolicy::Allowed, BorrowPolicy::NoSecret, BorrowPolicy::SwitchedOff] {
        let survey = judge(facts(everything()), policy);
        assert_eq!(paths(&survey), ["/dev/vport2p1"], "{survey:?}");
        assert!(!survey.candidates[0].borrowed());
    }
}

#[test]
fn borrowing_goes_in_the_order_of_preference() {
    let mut ports = everything();
    ports.pop();
    let survey = judge(facts(ports), BorrowPolicy::Allowed);
    assert_eq!(paths(&survey), ["/dev/vport1p3", "/dev/vport0p1", "/dev/vport0p0"], "{survey:?}");
    assert!(survey.candidates.iter().all(Candidate::borrowed));
    assert_eq!(reasons(&survey), ["PORT_BELONGS_TO_OTHER"]);
}

#[test]
fn another_services_port_is_never_opened() {
    for name in ["com.redhat.spice.0", "org.libguestfs.channel.0", "org.qemu.guest_agentX", "org.infinibay.agent2"] {
        let survey = judge(facts(vec![port("vport0p1", Some(name))]), BorrowPolicy::Allowed);
        assert_eq!(reasons(&survey), ["PORT_BELONGS_TO_OTHER"], "{name}: {survey:?}");
        assert_eq!(survey.why_none().error_type(), "DEVICE_NOT_FOUND", "ours is missing, whoever else has one");
    }
}

#[test]
fn the_guest_agents_port_is_left_to_an_installed_guest_agent() {
    let ports = vec![port("vport0p1", None), port("vport0p2", Some("org.qemu.guest_agent.0"))];
    let facts = Facts { guest_agent: Some("/usr/sbin/qemu-ga".into()), ..facts(ports) };
    let survey = judge(facts, BorrowPolicy::Allowed);
    assert_eq!(paths(&survey), ["/dev/vport0p1"]);
    assert_eq!(reasons(&survey), ["GUEST_AGENT_INSTALLED"]);
}

#[test]
fn without_a_secret_or_permission_nothing_is_borrowed() {
    for (policy, reason) in
        [(BorrowPolicy::NoSecret, "BORROW_NEEDS_SECRET"), (BorrowPolicy::SwitchedOff, "BORROW_SWITCHED_OFF")]
    {
        let survey = judge(facts(vec![port("vport0p1", None)]), policy);
        assert_eq!(paths(&survey), [""; 0]);
        assert_eq!(survey.why_none().error_type(), reason);
    }
}

#[test]
fn nothing_found_tells_a_missing_driver_from_a_missing_port() {
    let console = |driver: Option<&str>| ConsoleDevice { device: "virtio1".into(), driver: driver.map(str::to_owned) };
    let without = Facts { consoles: vec![console(None)], ..Facts::default() };
    assert_eq!(judge(without, BorrowPolicy::Allowed).why_none().error_type(), "DRIVER_MISSING");
    let with = Facts { consoles: vec![console(Some("virtio_console"))], ..Facts::default() };
    assert_eq!(judge(with, BorrowPolicy::Allowed).why_none().error_type(), "DEVICE_NOT_FOUND");
}

#[test]
fn a_port_without_its_node_is_no_candidate() {
    let ghost = PortFacts { exists: false, ..port("vport0p1", Some(PORT_NAME)) };
    let survey = judge(facts(vec![ghost]), BorrowPolicy::Allowed);
    assert_eq!((paths(&survey).len(), reasons(&survey)), (0, vec!["DEVICE_NOT_FOUND"]));
}
