//! One value of every message, with every field that it can have. An exhaustive match puts them in a row, so that a new kind of
//! message does not compile here before it has a sample.

use infini_protocol::agent::*;
use infini_protocol::host::*;
use infini_protocol::metrics::*;
use infini_protocol::{ErrorCode, Finite, Percent, Timestamp};
use serde_json::{Value, json};

/// 2026-01-31T12:00:00.123Z.
pub fn moment() -> Timestamp {
    Timestamp::from_unix_ms(1_769_860_800_123)
}

fn boot() -> Timestamp {
    Timestamp::from_unix_ms(1_769_774_400_000)
}

/// Every message of the agent, each in its fullest form.
pub fn agent_bodies() -> Vec<AgentBody> {
    std::iter::successors(Some(handshake()), after_agent).collect()
}

/// The name of a message's golden file.
pub fn agent_name(body: &AgentBody) -> &'static str {
    match body {
        AgentBody::Handshake(_) => "agent_handshake",
        AgentBody::Metrics(_) => "agent_metrics",
        AgentBody::Response(_) => "agent_response",
        AgentBody::KeepAlive(_) => "agent_keep_alive",
        AgentBody::Error(_) => "agent_error",
        AgentBody::ErrorReport(_) => "agent_error_report",
        AgentBody::AgentEvent(_) => "agent_agent_event",
        AgentBody::RequestPendingScripts(_) => "agent_request_pending_scripts",
        AgentBody::ScriptCompletion(_) => "agent_script_completion",
    }
}

fn after_agent(body: &AgentBody) -> Option<AgentBody> {
    match body {
        AgentBody::Handshake(_) => Some(AgentBody::Metrics(Box::new(Metrics { data: metrics() }))),
        AgentBody::Metrics(_) => Some(AgentBody::Response(Box::new(response()))),
        AgentBody::Response(_) => Some(AgentBody::KeepAlive(KeepAlive { sequence_number: 41 })),
        AgentBody::KeepAlive(_) => Some(error()),
        AgentBody::Error(_) => Some(error_report()),
        AgentBody::ErrorReport(_) => Some(agent_event()),
        AgentBody::AgentEvent(_) => Some(AgentBody::RequestPendingScripts(RequestPendingScripts {
            vm_id: "vm-7".into(),
            request_timestamp: moment(),
        })),
        AgentBody::RequestPendingScripts(_) => Some(AgentBody::ScriptCompletion(script_completion())),
        AgentBody::ScriptCompletion(_) => None,
    }
}

fn handshake() -> AgentBody {
    AgentBody::Handshake(Handshake {
        vm_id: "4b1d6a52-8f0e-4c39-9d57-0a1c2b3d4e5f".into(),
        version: "0.1.0".into(),
        platform: "linux".into(),
        arch: "x86_64".into(),
        hostname: "web-1".into(),
        boot_id: "0f0e0d0c-0b0a-4908-8706-050403020100".into(),
        session_id: "5e5510".into(),
        protocol_version: 2,
        capabilities: vec!["metrics".into(), "safe_commands".into(), "cancel".into()],
    })
}

pub fn response() -> Response {
    Response {
        id: "c-1".into(),
        success: false,
        exit_code: -1,
        stdout: "first line\n\"second\"\n".into(),
        stderr: "caf\u{e9} \u{1f980}\u{1}\n".into(),
        execution_time_ms: 29_500,
        command_type: "ProcessKill".into(),
        data: Some(json!({ "pid": 4711, "name": "worker", "signal": "SIGTERM" })),
        error: Some("The command did not end within 30 s.".into()),
        error_code: Some(ErrorCode::CommandTimeout),
        truncated: true,
        timed_out: true,
        ended: Some(Ended::Timeout),
        duplicate: true,
    }
}

fn error() -> AgentBody {
    AgentBody::Error(ErrorMessage {
        error: "A line of 2097152 bytes is over the limit of 1048576.".into(),
        details: ErrorDetails {
            component: "communication".into(),
            error_code: ErrorCode::MessageTooLarge,
            message: "line too long".into(),
            dropped: Some(12),
        },
    })
}

fn error_report() -> AgentBody {
    AgentBody::ErrorReport(ErrorReport {
        error_type: "BROKEN_PIPE".into(),
        severity: ErrorSeverity::Recoverable,
        retry_attempt: 3,
        max_retries: 0,
        recovery_suggestion: Some("Nothing to do: the port is open again.".into()),
        vm_id: "vm-7".into(),
        windows_error_code: Some(109),
    })
}

fn agent_event() -> AgentBody {
    AgentBody::AgentEvent(AgentEvent {
        severity: EventSeverity::Warn,
        source: "clock".into(),
        message: "The clock was set 3600 s forward.".into(),
        execution_id: Some("e-1".into()),
        context: Some(json!({ "moved_ms": 3_600_000 })),
    })
}

pub fn script_completion() -> ScriptCompletion {
    ScriptCompletion {
        execution_id: "e-1".into(),
        exit_code: 126,
        stdout: String::new(),
        stderr: "Raw commands are not permitted on this machine.\n".into(),
        log_file: Some("/var/lib/infiniservice/scripts/e-1.log".into()),
    }
}

fn finite(value: f64) -> Finite {
    Finite::new(value).unwrap()
}

fn percent(value: f64) -> Percent {
    Percent::new(value).unwrap()
}

/// A sample with every list and every field.
pub fn metrics() -> MetricsData {
    MetricsData {
        system: system(),
        processes: Some(vec![process()]),
        ports: Some(vec![port()]),
        services: Some(vec![service()]),
        windows_services: Some(vec![windows_service()]),
        applications: Some(vec![application()]),
        plugins: Some([("nginx".to_owned(), vec![figure()])].into()),
        errors: vec![CollectError {
            component: "disk.usage:/mnt/nfs".into(),
            error_code: ErrorCode::ResourceLimit,
            message: "statvfs gave no answer within 2 s".into(),
        }],
        truncated: [("processes".to_owned(), 2311)].into(),
    }
}

fn system() -> SystemMetrics {
    let io = DiskIo {
        read_bytes_per_sec: 4096,
        write_bytes_per_sec: 1_048_576,
        read_ops_per_sec: 1,
        write_ops_per_sec: 256,
        io_utilization_percent: percent(12.5),
    };
    let pressure = Pressure { some_avg10: percent(1.25), full_avg10: Some(percent(0.5)) };
    SystemMetrics {
        cpu: Some(CpuMetrics {
            usage_percent: percent(50.25),
            cores_usage: vec![percent(0.0), percent(100.0)],
            temperature: Some(finite(48.5)),
            steal_percent: Some(percent(0.12)),
            iowait_percent: Some(percent(3.0)),
        }),
        memory: Some(MemoryMetrics {
            total_kb: 2_097_152,
            used_kb: 1_048_576,
            available_kb: 1_048_576,
            swap_total_kb: Some(524_288),
            swap_used_kb: Some(1024),
        }),
        disk: Some(DiskMetrics {
            usage_stats: vec![DiskUsage {
                mount_point: "/".into(),
                total_gb: finite(19.5),
                used_gb: finite(7.25),
                available_gb: finite(11.236),
                filesystem: "ext4".into(),
                device: Some("/dev/vda1".into()),
                inodes_used_percent: Some(percent(9.5)),
            }],
            io_stats: Some(io),
            devices: Some(vec![DiskDevice { name: "vda".into(), io }]),
        }),
        network: Some(NetworkMetrics {
            interfaces: vec![NetworkInterface {
                name: "eth0".into(),
                bytes_received: 9_007_199_254_740_992,
                bytes_sent: 2,
                packets_received: 3,
                packets_sent: 4,
                errors_in: 5,
                errors_out: 6,
                ip_addresses: vec!["192.0.2.7".into(), "2001:db8::7".into()],
                mac: Some("52:54:00:12:34:56".into()),
                is_up: true,
                received_bytes_per_sec: Some(1500),
                sent_bytes_per_sec: Some(0),
            }],
        }),
        uptime_seconds: Some(86_400),
        load_average: Some(LoadAverage { load_1min: finite(0.52), load_5min: finite(0.48), load_15min: finite(128.0) }),
        info: Some(MachineInfo {
            name: Some("Debian GNU/Linux".into()),
            os_version: Some("12".into()),
            kernel_version: Some("6.1.0-28-amd64".into()),
            hostname: Some("web-1".into()),
            arch: Some("x86_64".into()),
            boot_time: Some(boot()),
        }),
        pressure: Some(PressureMetrics { cpu: Some(pressure), memory: Some(pressure), io: Some(pressure) }),
    }
}

pub fn process() -> ProcessMetrics {
    ProcessMetrics {
        pid: 4711,
        ppid: Some(1),
        name: "nginx".into(),
        exe_path: Some("/usr/sbin/nginx".into()),
        cmd_line: Some("nginx: worker process".into()),
        user: Some("www-data".into()),
        cpu_percent: finite(163.2),
        memory_kb: 20_480,
        disk_read_bytes: Some(1),
        disk_write_bytes: Some(2),
        status: ProcessStatus::DiskSleep,
        start_time: Some(moment()),
    }
}

fn port() -> PortMetrics {
    PortMetrics {
        port: 443,
        protocol: PortProtocol::Tcp6,
        state: "LISTEN".into(),
        address: Some("::".into()),
        pid: Some(4711),
        process_name: Some("nginx".into()),
        exe_path: Some("/usr/sbin/nginx".into()),
        is_listening: true,
        connection_count: 12,
    }
}

fn service() -> ServiceInfo {
    ServiceInfo {
        name: "nginx".into(),
        display_name: "nginx.service".into(),
        description: Some("A high performance web server and a reverse proxy server".into()),
        status: ServiceStatus::Running,
        startup_type: StartupType::AutoDelayed,
        pid: Some(4711),
        can_start: false,
        can_stop: true,
        can_restart: true,
    }
}

fn windows_service() -> WindowsServiceInfo {
    WindowsServiceInfo {
        name: "Spooler".into(),
        display_name: "Print Spooler".into(),
        description: Some("Spools print jobs.".into()),
        start_type: "auto".into(),
        service_type: "own_process".into(),
        exe_path: Some(r"C:\Windows\System32\spoolsv.exe".into()),
        dependencies: Some(vec!["RPCSS".into(), "http".into()]),
        state: "running".into(),
        pid: Some(1234),
        is_default: true,
    }
}

fn application() -> ApplicationUsage {
    ApplicationUsage {
        exe_path: r"C:\Program Files\App\app.exe".into(),
        name: "App".into(),
        version: Some("1.2.3".into()),
        publisher: Some("Example Ltd".into()),
        last_modified: Some(boot()),
        access_count: 17,
        usage_minutes: 320,
        is_active: true,
    }
}

fn figure() -> PluginMetric {
    PluginMetric {
        name: "requests_total".into(),
        labels: [("code".to_owned(), "200".to_owned())].into(),
        value: finite(12_345.678),
        kind: PluginMetricKind::Counter,
    }
}

/// Every message of a host, each in its fullest form.
pub fn host_messages() -> Vec<HostMessage> {
    std::iter::successors(Some(HostMessage::Metrics {}), after_host).collect()
}

/// The name of a message's golden file.
pub fn host_name(message: &HostMessage) -> &'static str {
    match message {
        HostMessage::Metrics {} => "host_metrics",
        HostMessage::SafeCommand(_) => "host_safe_command",
        HostMessage::UnsafeCommand(_) => "host_unsafe_command",
        HostMessage::KeepAliveRequest(_) => "host_keep_alive_request",
        HostMessage::KeepAliveResponse(_) => "host_keep_alive_response",
        HostMessage::PendingScriptsResponse(_) => "host_pending_scripts_response",
        HostMessage::Hello(_) => "host_hello",
        HostMessage::HandshakeAck(_) => "host_handshake_ack",
        HostMessage::Cancel(_) => "host_cancel",
    }
}

fn after_host(message: &HostMessage) -> Option<HostMessage> {
    match message {
        HostMessage::Metrics {} => Some(HostMessage::SafeCommand(safe_command())),
        HostMessage::SafeCommand(_) => Some(HostMessage::UnsafeCommand(unsafe_command())),
        HostMessage::UnsafeCommand(_) => Some(HostMessage::KeepAliveRequest(KeepAliveRequest { sequence_number: 41 })),
        HostMessage::KeepAliveRequest(_) => {
            Some(HostMessage::KeepAliveResponse(KeepAliveResponse { sequence_number: 41 }))
        }
        HostMessage::KeepAliveResponse(_) => {
            Some(HostMessage::PendingScriptsResponse(PendingScriptsResponse { scripts: vec![script()] }))
        }
        HostMessage::PendingScriptsResponse(_) => Some(HostMessage::Hello(Hello {
            host_session_id: "h-1".into(),
            protocol_version: 2,
            capabilities: vec!["cancel".into()],
        })),
        HostMessage::Hello(_) => Some(HostMessage::HandshakeAck(HandshakeAck {
            host_session_id: "h-1".into(),
            protocol_version: 2,
            enabled: vec!["cancel".into()],
            host_version: "0.1.0".into(),
            time: moment(),
        })),
        HostMessage::HandshakeAck(_) => Some(HostMessage::Cancel(Cancel { id: "c-1".into() })),
        HostMessage::Cancel(_) => None,
    }
}

fn safe_command() -> SafeCommand {
    let Value::Object(fields) = json!({ "service": "nginx", "operation": "restart" }) else { unreachable!() };
    SafeCommand {
        id: "c-1".into(),
        command_type: Action { action: "ServiceControl".into(), fields },
        params: Some(json!({ "service": "nginx", "operation": "restart" })),
        timeout: Some(Timeout::from_secs(30)),
    }
}

fn unsafe_command() -> UnsafeCommand {
    UnsafeCommand {
        id: "\u{e9}1".into(),
        raw_command: "printf 'a\\nb'".into(),
        shell: Some("bash".into()),
        timeout: Some(Timeout::from_secs(60)),
        working_dir: Some("/srv".into()),
        env_vars: Some([("LANG".to_owned(), "C.UTF-8".to_owned())].into()),
        run_as: Some("deploy".into()),
    }
}

fn script() -> Script {
    Script {
        execution_id: "e-1".into(),
        script_id: Some("s-9".into()),
        script_name: Some("set the host name".into()),
        script_content: "hostnamectl set-hostname \"$NAME\"\n".into(),
        shell: Some("BASH".into()),
        execution_type: Some("FIRST_BOOT".into()),
        input_values: Some(json!({ "NAME": "web-1" })),
        timeout_seconds: Some(Timeout::from_secs(600)),
        run_as: Some("root".into()),
    }
}
