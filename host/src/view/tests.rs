use std::io;
use std::sync::Arc;
use std::time::Duration;

use infini_protocol::agent::Handshake;
use infini_protocol::metrics::{
    CollectError, CpuMetrics, DiskDevice, DiskIo, DiskMetrics, DiskUsage, LoadAverage, MachineInfo, MemoryMetrics,
    MetricsData, NetworkInterface, NetworkMetrics, PortMetrics, PortProtocol, ProcessMetrics, ProcessStatus,
    SystemMetrics,
};
use infini_protocol::{ErrorCode, Finite, Percent, Timestamp};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use tokio::time::Instant;

use super::draw::draw;
use super::model::{Model, Sort, Tab};
use super::theme::Theme;
use crate::sanitize::is_dangerous;
use crate::vm::{Disconnection, Requests, Sample, Status, VmState};

fn finite(value: f64) -> Finite {
    Finite::new(value).unwrap()
}

fn percent(value: f64) -> Percent {
    Percent::new(value).unwrap()
}

fn process(pid: u32, name: &str, cpu: f64, memory_kb: u64) -> ProcessMetrics {
    ProcessMetrics {
        pid,
        ppid: None,
        name: name.into(),
        exe_path: None,
        cmd_line: Some(format!("/usr/bin/{name} --serve").into()),
        user: Some("root".into()),
        cpu_percent: finite(cpu),
        memory_kb,
        disk_read_bytes: None,
        disk_write_bytes: None,
        status: ProcessStatus::Sleeping,
        start_time: None,
    }
}

fn system() -> SystemMetrics {
    let io = DiskIo {
        read_bytes_per_sec: 1 << 20,
        write_bytes_per_sec: 3 << 20,
        read_ops_per_sec: 10,
        write_ops_per_sec: 30,
        io_utilization_percent: percent(12.0),
    };
    let usage = DiskUsage {
        mount_point: "/".into(),
        total_gb: finite(40.0),
        used_gb: finite(10.0),
        available_gb: finite(30.0),
        filesystem: "ext4".into(),
        device: None,
        inodes_used_percent: None,
    };
    let interface = NetworkInterface {
        name: "eth0".into(),
        ip_addresses: vec!["192.0.2.7".into()],
        is_up: true,
        received_bytes_per_sec: Some(2048),
        sent_bytes_per_sec: Some(1024),
        ..NetworkInterface::default()
    };
    SystemMetrics {
        cpu: Some(CpuMetrics {
            usage_percent: percent(37.5),
            cores_usage: vec![percent(75.0), percent(0.0)],
            temperature: Some(finite(51.0)),
            steal_percent: Some(percent(2.5)),
            iowait_percent: None,
        }),
        memory: Some(MemoryMetrics {
            total_kb: 8 << 20,
            used_kb: 2 << 20,
            available_kb: 6 << 20,
            swap_total_kb: Some(1 << 20),
            swap_used_kb: Some(0),
        }),
        disk: Some(DiskMetrics {
            usage_stats: vec![usage],
            io_stats: Some(io),
            devices: Some(vec![DiskDevice { name: "vda".into(), io }]),
        }),
        network: Some(NetworkMetrics { interfaces: vec![interface] }),
        uptime_seconds: Some(93_784),
        load_average: Some(LoadAverage { load_1min: finite(0.5), load_5min: finite(0.25), load_15min: finite(0.1) }),
        info: Some(MachineInfo {
            name: Some("Debian GNU/Linux".into()),
            os_version: Some("12".into()),
            kernel_version: Some("6.1.0".into()),
            hostname: Some("guest".into()),
            arch: None,
            boot_time: None,
        }),
        pressure: None,
    }
}

fn data() -> MetricsData {
    let port = |port, is_listening| PortMetrics {
        port,
        protocol: PortProtocol::Tcp,
        state: "LISTEN".into(),
        address: Some("0.0.0.0".into()),
        pid: Some(10),
        process_name: Some("nginx".into()),
        exe_path: None,
        is_listening,
        connection_count: 3,
    };
    MetricsData {
        system: system(),
        processes: Some(vec![process(10, "nginx", 5.0, 20_000), process(7, "postgres", 66.0, 900_000)]),
        ports: Some(vec![port(80, true), port(50_000, false)]),
        ..MetricsData::default()
    }
}

fn status(data: MetricsData) -> Status {
    let at = Timestamp::from_unix_ms(1_767_225_600_000);
    Status {
        state: VmState::Ready,
        sample: Some(Arc::new(Sample { timestamp: at, received: at, data })),
        ..Status::default()
    }
}

fn model(status: Status) -> Model {
    let mut model = Model::new("web");
    model.learn(Arc::new(status));
    model
}

/// What the screen shows, a line a row without the spaces at its end.
fn screen(model: &mut Model, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model, &Theme::of(false))).unwrap();
    let buffer = terminal.backend().buffer();
    let rows = buffer.content.chunks(usize::from(width));
    rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned() + "\n").collect()
}

fn assert_shows(screen: &str, wanted: &[&str]) {
    for text in wanted {
        assert!(screen.contains(text), "no {text:?} on\n{screen}");
    }
}

#[test]
fn a_full_screen_shows_everything() {
    let screen = screen(&mut model(status(data())), 120, 40);
    assert_shows(
        &screen,
        &[
            " web ● ready  guest  up 1d 2h  load 0.50 0.25 0.10  Debian GNU/Linux 12  6.1.0",
            "CPU 37.5 %",
            "steal 2.5 %  51 °C",
            " 0 ███████▌··  75%",
            "Memory 25.0 %",
            "2.00 GiB of 8.00 GiB",
            "swap",
            "busy 12 %",
            "w 3.00 MiB/s",
            " 25%  40.0 GiB",
            "192.0.2.7",
            "↓ 2.00 KiB/s",
            "▸1 Processes 2  2 Listening 1  3 Services -  4 Not measured 0",
            "CPU%▾",
        ],
    );
    let (first, second) = (screen.find("postgres").unwrap(), screen.find("nginx").unwrap());
    assert!(first < second, "the heavier process comes first:\n{screen}");
}

#[test]
fn an_ordinary_terminal_has_room_for_all_panels() {
    let screen = screen(&mut model(status(data())), 80, 24);
    assert_shows(
        &screen,
        &["CPU 37.5 %", "Memory 25.0 %", " 25% ", "w 3.00 MiB/s", "192.0.2.7", "postgres", "66.0", "q quit"],
    );
}

#[test]
fn a_tiny_terminal_shows_the_figures_that_matter() {
    let screen = screen(&mut model(status(data())), 40, 12);
    let expected = " web ● ready  guest  up 1d 2h  load 0.50
 cpu  ███████▉············· 37.5 % of 2
 ram  ███········· 2.00 GiB of 8.00 GiB
 net ↓2.00K ↑1.00K disk r1.00M w3.00M
    PID   CPU%▾    MEMORY NAME";
    assert!(screen.starts_with(expected), "\n{screen}");
    assert_shows(&screen, &["postgres", "879 MiB"]);
}

#[test]
fn a_narrow_terminal_names_who_listens_and_what_serves() {
    let service = serde_json::json!({
        "name": "postgresql.service", "display_name": "PostgreSQL", "description": "PostgreSQL database server", "status": "running",
        "startup_type": "auto", "can_start": true, "can_stop": true, "can_restart": true,
    });
    let services = Some(vec![serde_json::from_value(service).unwrap()]);
    let mut model = model(status(MetricsData { services, ..data() }));
    model.letter('2');
    assert_shows(&screen(&mut model, 40, 12), &["80 tcp", "nginx"]);
    model.letter('3');
    assert_shows(&screen(&mut model, 40, 12), &["running", "postgresql.service"]);
}

#[test]
fn no_size_panics() {
    for (width, height) in [(1, 1), (1, 40), (200, 1), (20, 5), (64, 21), (63, 22), (300, 100), (80, 3)] {
        for tab in Tab::ALL {
            let mut model = model(status(data()));
            model.tab = tab;
            screen(&mut model, width, height);
        }
    }
}

#[test]
fn many_processors_share_the_room() {
    for (processors, cells) in [(64, 64), (256, 128)] {
        let mut data = data();
        data.system.cpu.as_mut().unwrap().cores_usage = vec![percent(50.0); processors];
        let screen = screen(&mut model(status(data)), 120, 40);
        assert_eq!(screen.matches('▅').count(), cells, "\n{screen}");
    }
}

#[test]
fn without_a_sample_the_reason_is_shown() {
    let status = Status {
        failure: Some(Disconnection { kind: io::ErrorKind::NotFound, why: "there is no such socket".to_owned() }),
        ..Status::default()
    };
    assert_shows(&screen(&mut model(status), 80, 24), &["● absent", "No figures yet", "there is no such socket"]);
    let status = Status { state: VmState::Booting, ..Status::default() };
    assert_shows(&screen(&mut model(status), 80, 24), &["● booting", "waiting for the agent to speak"]);
}

#[test]
fn an_agent_that_takes_no_requests_is_told_beside_its_own_samples() {
    let since = Instant::now();
    let told = |requests: Requests, seconds: u64| {
        let mut model = model(Status { requests, ..status(data()) });
        model.now = since + Duration::from_secs(seconds);
        screen(&mut model, 100, 24).contains("the agent does not take our requests (wrong secret?)")
    };
    let seen =
        [told(Requests::Unanswered { since }, 4), told(Requests::Unanswered { since }, 5), told(Requests::Taken, 9)];
    assert_eq!(seen, [false, true, false]);
}

#[test]
fn what_is_old_says_how_old() {
    let heard = Instant::now();
    let mut model = model(Status { state: VmState::Stale, heard: Some(heard), ..status(data()) });
    model.now = heard + Duration::from_secs(125);
    assert_shows(&screen(&mut model, 80, 24), &["● stale (heard 2m 5s ago)"]);
}

#[test]
fn what_was_not_measured_is_no_zero() {
    let mut data = data();
    data.system.cpu = None;
    data.errors = vec![CollectError {
        component: "cpu".into(),
        error_code: ErrorCode::Internal,
        message: "/proc/stat: gone".to_owned(),
    }];
    let mut model = model(status(data));
    assert_shows(&screen(&mut model, 80, 24), &["not measured", "4 Not measured 1"]);
    model.letter('4');
    assert_shows(&screen(&mut model, 80, 24), &["cpu", "INTERNAL", "/proc/stat: gone"]);
}

#[test]
fn hostile_names_stay_text() {
    let evil = "\u{1b}[2J\u{9b}31m\u{202e}\r\nevil\u{7}";
    let mut data = data();
    data.processes = Some(vec![process(1, evil, 1.0, 1)]);
    let info = data.system.info.as_mut().unwrap();
    (info.hostname, info.name) = (Some(evil.into()), Some(evil.into()));
    data.system.network.as_mut().unwrap().interfaces[0].name = evil.into();
    data.system.disk.as_mut().unwrap().usage_stats[0].mount_point = evil.into();
    data.errors =
        vec![CollectError { component: evil.into(), error_code: ErrorCode::Internal, message: evil.repeat(1000) }];
    let handshake = Handshake {
        vm_id: evil.to_owned(),
        version: evil.to_owned(),
        platform: String::new(),
        arch: String::new(),
        hostname: String::new(),
        boot_id: String::new(),
        session_id: String::new(),
        protocol_version: 2,
        capabilities: Vec::new(),
    };
    let status = Status { handshake: Some(Arc::new(handshake)), wrong_vm_id: Some(evil.to_owned()), ..status(data) };
    let mut model = model(status);
    for tab in Tab::ALL {
        model.tab = tab;
        for (width, height) in [(120, 40), (40, 12)] {
            let screen = screen(&mut model, width, height);
            let left: Vec<char> = screen.chars().filter(|&c| c != '\n' && is_dangerous(c)).collect();
            assert!(left.is_empty(), "{left:?} on\n{screen}");
        }
    }
    assert_shows(&screen(&mut model, 120, 40), &["␛[2J", "which is not this socket's vm_id"]);
}

#[test]
fn the_table_follows_the_keys() {
    let mut data = data();
    data.processes = Some((1..=100).map(|pid| process(pid, &format!("p{pid}"), 0.0, u64::from(pid))).collect());
    let mut model = model(status(data));
    model.letter('p');
    assert_eq!(model.sort, Sort::Pid);
    model.scroll_by(isize::MAX);
    let screen = screen(&mut model, 80, 24);
    assert_shows(&screen, &["p100 ", "from row"]);
    assert!(model.scroll < 100, "the last page is full, not empty: {}", model.scroll);
    model.turn_tab(-1);
    assert_eq!((model.tab, model.scroll), (Tab::Errors, 0));
    model.turn_tab(1);
    assert_eq!(model.tab, Tab::Processes);
}

#[test]
fn each_sample_enters_the_history_once() {
    let status = Arc::new(status(data()));
    let mut model = Model::new("web");
    model.learn(Arc::clone(&status));
    model.learn(Arc::new(Status::clone(&status)));
    assert_eq!(model.history.cpu.last(10).collect::<Vec<_>>(), [37.5]);
}
