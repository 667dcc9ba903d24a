//! The link over device nodes: a made-up `/dev` and `/sys` whose ports are links to ptys.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use infiniservice::communication::detect::{self, Rank};
use infiniservice::communication::{
    BorrowPolicy, DeviceRoots, Endpoint, Lane, LinkError, LinkEvent, LinkSettings, NotSent, VirtioSerial,
};
use rustix::pty::OpenptFlags;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// The host's end of a tty.
struct Pty {
    master: fs::File,
    slave: PathBuf,
}

impl Pty {
    fn new() -> Self {
        let master: OwnedFd = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        let slave = PathBuf::from(std::ffi::OsStr::from_bytes(name.as_bytes()));
        Self { master: master.into(), slave }
    }

    async fn read(&self, count: usize) -> Vec<u8> {
        let mut master = self.master.try_clone().unwrap();
        let reading = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; count];
            master.read_exact(&mut bytes).map(|()| bytes)
        });
        reading.await.unwrap().unwrap()
    }
}

/// A machine made of folders.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap() };
        for folder in ["dev", "sys/class/virtio-ports", "proc"] {
            fs::create_dir_all(machine.folder.path().join(folder)).unwrap();
        }
        machine
    }

    fn roots(&self) -> DeviceRoots {
        let root = self.folder.path();
        DeviceRoots { dev: root.join("dev"), sys: root.join("sys"), proc: root.join("proc"), root: root.to_owned() }
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn name(&self, node: &str, name: &str) {
        self.write(&format!("sys/class/virtio-ports/{node}/name"), &format!("{name}\n"));
    }

    fn node(&self, node: &str, target: &Path) -> PathBuf {
        let path = self.folder.path().join("dev").join(node);
        symlink(target, &path).unwrap();
        path
    }

    fn link(&self, borrow: BorrowPolicy) -> VirtioSerial {
        VirtioSerial::spawn(LinkSettings { borrow, roots: self.roots(), ..LinkSettings::default() })
    }
}

async fn next(link: &mut VirtioSerial) -> LinkEvent {
    tokio::time::timeout(PATIENCE, link.next_event()).await.expect("no event came")
}

async fn opened(link: &mut VirtioSerial) -> (PathBuf, bool) {
    loop {
        match next(link).await {
            LinkEvent::Opened { port } => return (port.path(), port.borrowed),
            LinkEvent::Unavailable { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn attached(link: &mut VirtioSerial) {
    let event = next(link).await;
    assert!(matches!(event, LinkEvent::HostAttached), "{event:?}");
}

fn device(path: &Path) -> VirtioSerial {
    VirtioSerial::spawn(LinkSettings { endpoint: Some(Endpoint::Device(path.to_owned())), ..LinkSettings::default() })
}

#[tokio::test]
async fn a_tty_is_raw_and_exclusive_and_its_end_is_told() {
    let mut host = Pty::new();
    let mut link = device(&host.slave);
    opened(&mut link).await;
    attached(&mut link).await;
    // Cooked, a tty would act on ^C and ^D, echo, and turn line ends around.
    host.master.write_all(b"\x03\x04\x7f\r\n").unwrap();
    let event = next(&mut link).await;
    assert!(matches!(&event, LinkEvent::Line { line, .. } if line == b"\x03\x04\x7f"), "{event:?}");
    link.send(Lane::Answer, b"a\tb\n".to_vec()).unwrap();
    assert_eq!(host.read(4).await, b"a\tb\n");

    let mut second = device(&host.slave);
    let busy = next(&mut second).await;
    match &busy {
        LinkEvent::Unavailable { error: LinkError::Busy { holders, .. }, first: true, .. } => {
            assert!(holders.iter().any(|holder| holder.pid == std::process::id()), "{busy:?}");
        }
        other => panic!("{other:?}"),
    }
    drop(host);
    let closed = next(&mut link).await;
    assert!(matches!(closed, LinkEvent::Closed { error: LinkError::Gone { .. } }), "{closed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_configured_device_is_taken_when_its_folder_appears() {
    let (machine, host) = (Machine::new(), Pty::new());
    let folder = machine.folder.path().join("dev/virtio-ports");
    let mut link = device(&folder.join("org.infinibay.agent"));
    let missing = next(&mut link).await;
    assert!(matches!(missing, LinkEvent::Unavailable { error: LinkError::NotFound { .. }, .. }), "{missing:?}");
    fs::create_dir(&folder).unwrap();
    symlink(&host.slave, folder.join("org.infinibay.agent")).unwrap();
    let start = tokio::time::Instant::now();
    opened(&mut link).await;
    assert!(start.elapsed() < Duration::from_millis(800), "it waited for its next retry: {:?}", start.elapsed());
}

#[tokio::test]
async fn only_devices_are_opened() {
    let machine = Machine::new();
    machine.write("dev/file", "");
    let file = machine.folder.path().join("dev/file");
    let fifo = machine.folder.path().join("dev/fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    for path in [file, fifo, machine.folder.path().to_owned(), "/dev/null".into()] {
        let event = next(&mut device(&path)).await;
        assert!(matches!(event, LinkEvent::Unavailable { error: LinkError::NotADevice { .. }, .. }), "{event:?}");
    }
}

/// A port that the configuration names, on that machine.
fn configured(machine: &Machine, node: &str, borrow: BorrowPolicy) -> VirtioSerial {
    let endpoint = Some(Endpoint::Device(machine.folder.path().join("dev").join(node)));
    VirtioSerial::spawn(LinkSettings { endpoint, borrow, roots: machine.roots(), ..LinkSettings::default() })
}

#[tokio::test]
async fn a_configured_port_keeps_the_rules_of_a_found_one() {
    let (machine, host) = (Machine::new(), Pty::new());
    machine.node("vport0p1", &host.slave);
    machine.name("vport0p1", "com.redhat.spice.0");
    let others = next(&mut configured(&machine, "vport0p1", BorrowPolicy::Allowed)).await;
    assert!(matches!(others, LinkEvent::Unavailable { error: LinkError::BelongsToOther { .. }, .. }), "{others:?}");

    machine.name("vport0p1", "org.qemu.guest_agent.0");
    let locked = next(&mut configured(&machine, "vport0p1", BorrowPolicy::NoSecret)).await;
    assert!(matches!(locked, LinkEvent::Unavailable { error: LinkError::BorrowNeedsSecret { .. }, .. }), "{locked:?}");
    let mut link = configured(&machine, "vport0p1", BorrowPolicy::Allowed);
    assert!(opened(&mut link).await.1, "it is borrowed");
}

#[tokio::test]
async fn a_port_is_given_back_when_the_qemu_guest_agent_is_installed() {
    for configure in [false, true] {
        let (machine, host) = (Machine::new(), Pty::new());
        fs::create_dir_all(machine.folder.path().join("usr/sbin")).unwrap();
        machine.node("vport0p1", &host.slave);
        machine.name("vport0p1", "org.qemu.guest_agent.0");
        let mut link = match configure {
            true => configured(&machine, "vport0p1", BorrowPolicy::Allowed),
            false => machine.link(BorrowPolicy::Allowed),
        };
        assert!(opened(&mut link).await.1, "it is borrowed");
        attached(&mut link).await;
        machine.write("usr/sbin/other", "");
        machine.write("usr/sbin/qemu-ga", "");
        let closed = next(&mut link).await;
        assert!(matches!(closed, LinkEvent::Closed { error: LinkError::GuestAgentInstalled { .. } }), "{closed:?}");
    }
}

#[tokio::test]
async fn a_named_port_that_appears_is_taken_at_once() {
    let (machine, host) = (Machine::new(), Pty::new());
    let mut link = machine.link(BorrowPolicy::NoSecret);
    let missing = next(&mut link).await;
    assert!(
        matches!(missing, LinkEvent::Unavailable { error: LinkError::NotFound { .. }, first: true, .. }),
        "{missing:?}"
    );
    // As the kernel does it: the node first, the name a moment later.
    let node = machine.node("vport3p2", &host.slave);
    loop {
        match next(&mut link).await {
            LinkEvent::Unavailable { error: LinkError::BorrowNeedsSecret { .. }, .. } => break,
            LinkEvent::Unavailable { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    machine.name("vport3p2", "org.infinibay.agent");
    assert_eq!(opened(&mut link).await, (node, false));
}

#[tokio::test]
async fn a_port_whose_name_comes_late_is_not_taken_for_an_unnamed_one() {
    let (machine, host) = (Machine::new(), Pty::new());
    machine.node("vport0p1", &host.slave);
    let mut link = machine.link(BorrowPolicy::Allowed);
    tokio::task::yield_now().await;
    machine.name("vport0p1", "com.redhat.spice.0");
    // udev's part, which makes the link look again.
    fs::create_dir(machine.folder.path().join("dev/virtio-ports")).unwrap();
    let event = next(&mut link).await;
    assert!(matches!(event, LinkEvent::Unavailable { error: LinkError::NotFound { .. }, .. }), "{event:?}");
}

/// As the kernel does it: the device first, then the node, and the name last.
#[tokio::test(start_paused = true)]
async fn a_configured_port_is_not_opened_before_its_name_has_had_time_to_come() {
    for name in [Some("com.redhat.spice.0"), None] {
        let (machine, host) = (Machine::new(), Pty::new());
        fs::create_dir(machine.folder.path().join("sys/class/virtio-ports/vport0p1")).unwrap();
        machine.node("vport0p1", &host.slave);
        let start = tokio::time::Instant::now();
        let mut link = configured(&machine, "vport0p1", BorrowPolicy::Allowed);
        tokio::task::yield_now().await;
        if let Some(name) = name {
            machine.name("vport0p1", name);
            let event = next(&mut link).await;
            assert!(
                matches!(event, LinkEvent::Unavailable { error: LinkError::BelongsToOther { .. }, .. }),
                "{event:?}"
            );
        } else {
            assert!(!opened(&mut link).await.1, "the administrator's word makes it ours");
        }
        assert_eq!(start.elapsed().as_secs(), 2, "{name:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_configured_port_that_is_plugged_in_again_has_its_name_waited_for_again() {
    let (machine, host, successor) = (Machine::new(), Pty::new(), Pty::new());
    fs::create_dir(machine.folder.path().join("sys/class/virtio-ports/vport0p1")).unwrap();
    let node = machine.node("vport0p1", &host.slave);
    let mut link = configured(&machine, "vport0p1", BorrowPolicy::Allowed);
    opened(&mut link).await;
    attached(&mut link).await;
    fs::remove_file(&node).unwrap();
    machine.node("vport0p1", &successor.slave);
    drop(host);
    let closed = next(&mut link).await;
    assert!(matches!(closed, LinkEvent::Closed { error: LinkError::Gone { .. } }), "{closed:?}");
    let gone = tokio::time::Instant::now();
    opened(&mut link).await;
    assert!(gone.elapsed() >= Duration::from_secs(2), "opened after {:?}", gone.elapsed());
}

#[tokio::test]
async fn a_borrowed_port_is_silent_until_verified_and_left_for_our_own() {
    let (machine, mut owner, host) = (Machine::new(), Pty::new(), Pty::new());
    machine.name("vport0p1", "org.qemu.guest_agent.0");
    let borrowed = machine.node("vport0p1", &owner.slave);
    let mut link = machine.link(BorrowPolicy::Allowed);
    assert_eq!(opened(&mut link).await, (borrowed.clone(), true));
    attached(&mut link).await;
    assert_eq!(link.send(Lane::Metrics, b"metrics\n".to_vec()), Err(NotSent::HostAway));
    link.send(Lane::Answer, b"handshake\n".to_vec()).unwrap();
    owner.master.write_all(b"question\n").unwrap();
    let line = next(&mut link).await;
    assert!(matches!(line, LinkEvent::Line { .. }), "{line:?}");
    rustix::io::ioctl_fionbio(&owner.master, true).unwrap();
    let nothing = owner.master.read(&mut [0; 100]);
    assert_eq!(nothing.unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "it spoke before it might");
    rustix::io::ioctl_fionbio(&owner.master, false).unwrap();
    link.verified();
    assert_eq!(owner.read(10).await, b"handshake\n");

    machine.name("vport1p1", "org.infinibay.agent");
    let named = machine.node("vport1p1", &host.slave);
    let closed = next(&mut link).await;
    assert!(
        matches!(&closed, LinkEvent::Closed { error: LinkError::NamedPortAppeared { path } } if *path == borrowed),
        "{closed:?}"
    );
    assert_eq!(opened(&mut link).await, (named, false));
}

#[tokio::test(start_paused = true)]
async fn a_silent_borrowed_port_is_left_alone_for_ten_minutes() {
    for link in [Machine::link, |machine: &Machine, borrow| configured(machine, "vport0p1", borrow)] {
        let (machine, owner) = (Machine::new(), Pty::new());
        machine.name("vport0p1", "org.qemu.guest_agent.0");
        machine.node("vport0p1", &owner.slave);
        let mut link = link(&machine, BorrowPolicy::Allowed);
        let start = tokio::time::Instant::now();
        for round in 1..=2 {
            let event = link.next_event().await;
            assert!(matches!(event, LinkEvent::Opened { .. }), "{event:?}");
            let event = link.next_event().await;
            assert!(matches!(event, LinkEvent::HostAttached), "{event:?}");
            let event = link.next_event().await;
            assert!(matches!(event, LinkEvent::Closed { error: LinkError::Silent { .. } }), "{event:?}");
            let expected = 90 * round + 600 * (round - 1);
            assert_eq!(start.elapsed().as_secs(), expected, "round {round}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_port_that_is_replaced_again_and_again_is_taken_soon_each_time() {
    let machine = Machine::new();
    machine.name("vport0p1", "org.infinibay.agent");
    let mut host = Pty::new();
    let node = machine.node("vport0p1", &host.slave);
    let mut link = machine.link(BorrowPolicy::NoSecret);
    opened(&mut link).await;
    attached(&mut link).await;
    for round in 0..6 {
        let next_host = Pty::new();
        // The new port is there before the agent notices that the old one is gone.
        fs::remove_file(&node).unwrap();
        machine.node("vport0p1", &next_host.slave);
        host = next_host;
        let closed = next(&mut link).await;
        assert!(matches!(closed, LinkEvent::Closed { error: LinkError::Gone { .. } }), "{closed:?}");
        let gone = tokio::time::Instant::now();
        opened(&mut link).await;
        attached(&mut link).await;
        assert!(gone.elapsed() < Duration::from_millis(1200), "round {round}: {:?}", gone.elapsed());
    }
    drop(host);
}

#[test]
fn the_survey_reads_a_machine() {
    let machine = Machine::new();
    let root = machine.folder.path();
    machine.write("sys/bus/virtio/devices/virtio2/device", "0x0003\n");
    machine.write("sys/bus/virtio/devices/virtio1/device", "0x0002\n");
    machine.write("sys/bus/virtio/drivers/virtio_console/bind", "");
    symlink("../../drivers/virtio_console", root.join("sys/bus/virtio/devices/virtio2/driver")).unwrap();
    machine.write("sys/bus/pci/devices/0000:00:05.0/vendor", "0x1af4\n");
    machine.write("sys/bus/pci/devices/0000:00:05.0/device", "0x1043\n");
    machine.write("sys/kernel/debug/virtio-ports/vport2p10", "name: org.infinibay.agent\nhost_connected: 1\n");
    machine.write("usr/sbin/qemu-ga", "");
    for node in ["vport2p10", "vport2p2", "vport2p1"] {
        machine.write(&format!("dev/{node}"), "");
    }
    machine.name("vport2p10", "org.infinibay.agent");
    machine.name("vport2p2", "(null)");
    machine.name("vport2p3", "org.qemu.guest_agent.0");
    // A machine with udev's links and no readable names.
    fs::create_dir(root.join("dev/virtio-ports")).unwrap();
    symlink("../vport2p1", root.join("dev/virtio-ports/com.redhat.spice.0")).unwrap();
    machine.write("proc/77/comm", "holder\n");
    fs::create_dir(root.join("proc/77/fd")).unwrap();
    symlink(root.join("dev/vport2p10"), root.join("proc/77/fd/4")).unwrap();

    let survey = detect::survey_with_holders(&machine.roots(), BorrowPolicy::Allowed);
    assert!(survey.facts.driver_loaded);
    let consoles: Vec<_> = survey.facts.consoles.iter().map(|c| (c.device.as_str(), c.driver.as_deref())).collect();
    assert_eq!(consoles, [("virtio2", Some("virtio_console")), ("0000:00:05.0", None)]);
    let ports: Vec<_> = survey
        .facts
        .ports
        .iter()
        .map(|port| (port.path.file_name().unwrap().to_str().unwrap(), port.name.as_deref(), port.exists))
        .collect();
    assert_eq!(
        ports,
        [
            ("vport2p1", Some("com.redhat.spice.0"), true),
            ("vport2p2", None, true),
            ("vport2p3", Some("org.qemu.guest_agent.0"), false),
            ("vport2p10", Some("org.infinibay.agent"), true),
        ]
    );
    let ours = &survey.facts.ports[3];
    assert_eq!((ours.host_connected, ours.holders.len(), ours.holders[0].pid), (Some(true), 1, 77));
    assert_eq!(survey.facts.guest_agent, Some(root.join("usr/sbin/qemu-ga")));
    let chosen = survey.chosen().unwrap();
    assert_eq!((chosen.path.clone(), chosen.rank), (root.join("dev/vport2p10"), Rank::Named));
    let named = detect::inspect(&machine.roots(), &root.join("dev/vport2p10"));
    assert_eq!(named, *ours, "one port by its path, and the same in the survey");
    let json = serde_json::to_value(&survey).unwrap();
    assert_eq!(json["rejected"][0]["reason"]["error_type"], "PORT_BELONGS_TO_OTHER", "{json:#}");
}
