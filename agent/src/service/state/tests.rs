use infini_protocol::host::{Cancel, CommandName, HandshakeAck, Hello, KeepAliveRequest, PendingScriptsResponse};

use serde_json::json;

use super::*;
use crate::identity::MachineFacts;

const INTERVAL: Duration = Duration::from_secs(30);
const WALL: Timestamp = Timestamp::from_unix_ms(1_767_225_600_000);

struct Bench {
    machine: Machine,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        let identity = Identity::new(Some("vm-1"), MachineFacts::default());
        Self { machine: Machine::new(identity, INTERVAL, now), now }
    }

    /// With a host that was greeted and has the first sample.
    fn active() -> Self {
        let mut bench = Self::new();
        bench.on(Input::PortOpened);
        bench.on(Input::HostAttached);
        bench.sample(true);
        bench
    }

    fn on(&mut self, input: Input) -> Vec<Effect> {
        self.machine.on(input, self.now, WALL)
    }

    fn sample(&mut self, host_reads: bool) -> Vec<Effect> {
        self.on(Input::Sample { data: Box::default(), host_reads })
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }
}

fn message(message: HostMessage) -> Input {
    let sessions = infini_protocol::host::Sessions::default();
    Input::Message(Box::new(Heard { message, sessions, payload: [0; 32] }))
}

fn kinds(effects: &[Effect]) -> Vec<&'static str> {
    effects
        .iter()
        .map(|effect| match effect {
            Effect::Session(AgentBody::Handshake(_)) => "handshake",
            Effect::Session(AgentBody::RequestPendingScripts(_)) => "scripts?",
            Effect::Session(AgentBody::ErrorReport(_)) => "error_report",
            Effect::Answer(AgentBody::Error(_)) => "error",
            Effect::Answer(AgentBody::Response(_)) => "response",
            Effect::Session(AgentBody::KeepAlive(_)) => "keep_alive",
            Effect::Answer(AgentBody::AgentEvent(_)) => "event",
            Effect::Sample(AgentBody::Metrics(_)) => "metrics",
            Effect::Audit { .. } => "audit",
            Effect::Collect => "collect",
            Effect::Run(_) | Effect::RunScripts(_) => "run",
            Effect::Refuse { .. } => "refuse",
            other => panic!("not expected here: {other:?}"),
        })
        .collect()
}

#[test]
fn a_host_that_comes_is_greeted_and_measured_for_at_once() {
    let mut bench = Bench::new();
    assert_eq!(bench.machine.phase(), Phase::Disconnected);
    assert!(bench.on(Input::PortOpened).is_empty());
    assert_eq!(bench.machine.phase(), Phase::Connecting);
    assert_eq!(kinds(&bench.on(Input::HostAttached)), ["handshake", "scripts?", "collect"]);
    assert_eq!(bench.machine.phase(), Phase::Connected);
    assert_eq!(kinds(&bench.sample(true)), ["metrics"]);
    assert_eq!(bench.machine.phase(), Phase::Active);
}

#[test]
fn nothing_is_measured_while_nobody_listens() {
    let mut bench = Bench::new();
    bench.on(Input::PortOpened);
    bench.pass(10 * INTERVAL);
    assert!(bench.on(Input::Tick).is_empty());
    bench.on(Input::HostAttached);
    bench.on(Input::HostDetached);
    assert!(bench.sample(true).is_empty(), "a sample that comes too late is not kept");
    assert!(bench.on(Input::Tick).is_empty());
}

#[test]
fn a_sample_is_due_once_an_interval_even_when_ticks_are_closer_or_a_little_early() {
    let mut bench = Bench::active();
    bench.pass(INTERVAL / 2);
    assert!(bench.on(Input::Tick).is_empty());
    bench.pass(INTERVAL / 2 - Duration::from_millis(3));
    assert_eq!(kinds(&bench.on(Input::Tick)), ["collect"]);
    assert!(bench.on(Input::Tick).is_empty());
}

#[test]
fn requests_while_a_sample_is_under_way_join_it() {
    let mut bench = Bench::active();
    assert_eq!(kinds(&bench.on(message(HostMessage::Metrics {}))), ["collect"]);
    assert!(bench.on(message(HostMessage::Metrics {})).is_empty());
    assert_eq!(kinds(&bench.sample(true)), ["metrics"]);
    assert_eq!(kinds(&bench.on(message(HostMessage::Metrics {}))), ["collect"]);
}

#[test]
fn hello_is_answered_by_a_handshake_of_the_same_session() {
    let mut bench = Bench::active();
    let hello = Hello { host_session_id: "h".to_owned(), protocol_version: 2, capabilities: vec![] };
    let effects = bench.on(message(HostMessage::Hello(hello)));
    assert_eq!(kinds(&effects), ["handshake", "scripts?"]);
    let Effect::Session(AgentBody::Handshake(handshake)) = &effects[0] else { panic!("{effects:?}") };
    assert_eq!(handshake.session_id, bench.machine.identity.session_id);
    assert_eq!(handshake.capabilities, CAPABILITIES);
}

#[test]
fn a_command_without_the_session_that_was_agreed_on_is_refused_and_does_not_run() {
    let mut bench = Bench::active();
    let (host_session_id, named) = ("h".to_owned(), Some("h".to_owned()));
    let hello = Hello { host_session_id: host_session_id.clone(), protocol_version: 2, capabilities: vec![] };
    bench.on(message(HostMessage::Hello(hello)));
    let command = HostMessage::parse(br#"{"type":"SafeCommand","id":"1","command_type":{"action":"OsInfo"}}"#).unwrap();
    let with = |message: HostMessage| {
        let sessions = infini_protocol::host::Sessions { host_session_id: named.clone(), session_id: None };
        Input::Message(Box::new(Heard { message, sessions, payload: [0; 32] }))
    };
    assert_eq!(kinds(&bench.on(with(command.clone()))), ["run"], "nothing is agreed on yet");
    let (enabled, host_version) = (vec![], "1".to_owned());
    let ack = HandshakeAck { host_session_id, protocol_version: 2, enabled, host_version, time: WALL };
    assert!(bench.on(with(HostMessage::HandshakeAck(ack))).is_empty());
    let effects = bench.on(with(command));
    let [Effect::Refuse { code, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(*code, ErrorCode::AuthFailed);
}

#[test]
fn scripts_are_asked_for_until_the_host_answered() {
    let mut bench = Bench::active();
    bench.on(Input::HostDetached);
    assert!(kinds(&bench.on(Input::HostAttached)).contains(&"scripts?"));
    bench.on(message(HostMessage::PendingScriptsResponse(PendingScriptsResponse { scripts: vec![] })));
    bench.on(Input::HostDetached);
    assert!(!kinds(&bench.on(Input::HostAttached)).contains(&"scripts?"));
}

#[test]
fn a_keep_alive_carries_the_number_that_was_asked() {
    let mut bench = Bench::active();
    let request = HostMessage::KeepAliveRequest(KeepAliveRequest { sequence_number: 42 });
    assert_eq!(bench.on(message(request)), [Effect::Session(AgentBody::KeepAlive(KeepAlive { sequence_number: 42 }))]);
}

#[test]
fn a_lost_port_is_reported_once_it_is_back() {
    let mut bench = Bench::active();
    let trouble = Trouble { error_type: "BROKEN_PIPE".to_owned(), advice: None };
    bench.on(Input::PortLost(trouble));
    assert_eq!(bench.machine.phase(), Phase::Disconnected);
    bench.on(Input::PortUnavailable);
    bench.on(Input::PortUnavailable);
    bench.on(Input::PortOpened);
    let effects = bench.on(Input::HostAttached);
    let report = effects.iter().find_map(|effect| match effect {
        Effect::Session(AgentBody::ErrorReport(report)) => Some(report),
        _ => None,
    });
    let report = report.unwrap_or_else(|| panic!("no report in {effects:?}"));
    assert_eq!((report.error_type.as_str(), report.retry_attempt), ("BROKEN_PIPE", 2));
    assert_eq!(report.severity, ErrorSeverity::Recoverable);
    bench.on(Input::HostDetached);
    assert!(!kinds(&bench.on(Input::HostAttached)).contains(&"error_report"));
}

#[test]
fn a_host_that_stops_reading_degrades_and_hears_of_the_gap_when_it_reads_again() {
    let mut bench = Bench::active();
    assert_eq!(kinds(&bench.sample(false)), ["metrics"]);
    assert_eq!(bench.machine.phase(), Phase::Degraded);
    let effects = bench.on(Input::SamplesDropped(3));
    let [Effect::Answer(AgentBody::AgentEvent(event))] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(event.context, Some(json!({ "dropped": 3 })));
    bench.sample(true);
    assert_eq!(bench.machine.phase(), Phase::Active);
}

#[test]
fn nobody_is_complained_to_before_there_is_a_host_to_speak_to() {
    let mut bench = Bench::new();
    bench.on(Input::PortOpened);
    let forged = Input::Rejected(Rejection::NotBelieved { reason: "no".to_owned() });
    assert_eq!(kinds(&bench.on(forged)), ["audit"], "a borrowed port was spoken on");
    assert!(bench.on(Input::Rejected(Rejection::TooLong { bytes: 1 << 21 })).is_empty());
}

#[test]
fn a_flood_of_unbelieved_lines_gets_one_answer_a_minute() {
    let mut bench = Bench::active();
    let forged = || Input::Rejected(Rejection::NotBelieved { reason: "no".to_owned() });
    let said: Vec<_> = (0..1000).flat_map(|_| kinds(&bench.on(forged()))).collect();
    assert_eq!(said, ["error", "audit"]);
    bench.pass(Duration::from_secs(60));
    let effects = bench.on(Input::Tick);
    let Some(Effect::Answer(AgentBody::Error(error))) = effects.first() else { panic!("{effects:?}") };
    assert_eq!((error.details.error_code, error.details.dropped), (ErrorCode::AuthFailed, Some(999)));
    assert!(matches!(effects[1], Effect::Audit { dropped: 999, .. }), "{effects:?}");
}

#[test]
fn all_complaints_share_one_budget() {
    let cancel = || message(HostMessage::Cancel(Cancel { id: "c-1".to_owned() }));
    let forged = || Input::Rejected(Rejection::NotBelieved { reason: "no".to_owned() });
    let nonsense = || Input::Rejected(Rejection::NotAMessage { unheard: Unheard::default(), reason: "no".to_owned() });
    let kinds_of_input: [&dyn Fn(usize) -> Input; 3] =
        [&|_| cancel(), &|n| if n == 500 { forged() } else { nonsense() }, &|n| {
            if n == 50 { forged() } else { cancel() }
        }];
    for input in kinds_of_input {
        let mut bench = Bench::active();
        let effects: Vec<_> = (0..1000).flat_map(|n| bench.on(input(n))).collect();
        let errors = kinds(&effects).iter().filter(|kind| **kind == "error").count();
        assert_eq!(errors, 100);
        bench.pass(Duration::from_secs(60));
        let effects = bench.on(Input::Tick);
        let Some(Effect::Answer(AgentBody::Error(error))) = effects.first() else { panic!("{effects:?}") };
        assert_eq!(error.details.dropped, Some(900), "none is forgotten");
    }
}

#[test]
fn replays_are_counted_and_written_down_and_nobody_is_answered() {
    let mut bench = Bench::active();
    let said: Vec<_> = (0..5).flat_map(|_| kinds(&bench.on(Input::Rejected(Rejection::Replayed)))).collect();
    assert_eq!(said, ["audit"]);
    bench.on(Input::HostDetached);
    bench.pass(Duration::from_secs(60));
    let effects = bench.on(Input::Tick);
    assert!(matches!(effects.as_slice(), [Effect::Audit { dropped: 4, .. }]), "{effects:?}");
}

#[test]
fn a_command_that_cannot_run_still_gets_its_answer() {
    let mut bench = Bench::active();
    let unheard = || Unheard::in_payload(br#"{"type":"SafeCommand","id":"c-1","command_type":{"action":"OsInfo"}}"#);
    let reason = String::new;
    for (rejection, refused, code) in [
        (Rejection::Stale { unheard: unheard(), reason: reason() }, unheard(), ErrorCode::AuthFailed),
        (Rejection::NotAMessage { unheard: unheard(), reason: reason() }, unheard(), ErrorCode::InvalidParameters),
    ] {
        let effects = bench.on(Input::Rejected(rejection));
        assert_eq!(effects, [Effect::Refuse { unheard: Box::new(refused), code, reason: reason() }]);
    }
}

#[test]
fn a_command_that_may_be_a_replay_is_answered_and_cannot_push_the_audit_out() {
    let mut bench = Bench::active();
    let command = CommandName { id: "c-1".to_owned(), command_type: "OsInfo".to_owned() };
    let old = || Input::Rejected(Rejection::BelowFloor { command: Some(command.clone()), reason: String::new() });
    let effects: Vec<_> = (0..100).flat_map(|_| bench.on(old())).collect();
    let audited = effects.iter().filter(|effect| matches!(effect, Effect::Audit { .. })).count();
    let answered = effects.iter().filter(
        |effect| matches!(effect, Effect::Refuse { unheard, .. } if unheard.command.is_some() && unheard.entries.is_empty()),
    );
    assert_eq!((audited, answered.count(), effects.len()), (1, 100, 101));
}

#[test]
fn what_is_for_nobody_is_written_down_and_only_complained_about_where_no_command_waits() {
    let mut bench = Bench::active();
    let scripts = br#"{"type":"pending_scripts_response","scripts":[{"execution_id":"e","script_content":"id"}]}"#;
    for (payload, kinds_of) in [(&scripts[..], &["error", "refuse"][..]), (br#"{"type":"Metrics"}"#, &["error"])] {
        let unheard = Unheard::in_payload(payload);
        let effects = bench.on(Input::Rejected(Rejection::Stale { unheard, reason: String::new() }));
        assert_eq!(kinds(&effects), kinds_of);
    }
}

#[test]
fn stopping_is_final_and_says_so_to_commands() {
    let mut bench = Bench::active();
    bench.on(Input::Stop);
    bench.on(Input::HostAttached);
    assert_eq!(bench.machine.phase(), Phase::Stopping);
    let command = json!({"type": "SafeCommand", "id": "s", "command_type": {"action": "OsInfo"}});
    let command = HostMessage::parse(command.to_string().as_bytes()).unwrap();
    let effects = bench.on(message(command));
    let [Effect::Refuse { unheard, code: ErrorCode::ShuttingDown, .. }] = effects.as_slice() else {
        panic!("{effects:?}")
    };
    assert_eq!(unheard.command.as_ref().map(|command| command.id.as_str()), Some("s"));
    assert_eq!(unheard.entries.len(), 1);
}

#[test]
fn a_set_clock_is_told_at_once() {
    let mut bench = Bench::active();
    let effects = bench.on(Input::ClockSet);
    let [Effect::Answer(AgentBody::AgentEvent(event))] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(event.source, "clock");
    bench.on(Input::HostDetached);
    assert!(bench.on(Input::ClockSet).is_empty(), "the next handshake carries the time");
}

#[test]
fn a_machine_that_is_another_begins_a_new_session() {
    let mut bench = Bench::active();
    let hello = Hello { host_session_id: "h".to_owned(), protocol_version: 2, capabilities: vec!["cancel".to_owned()] };
    bench.on(message(HostMessage::Hello(hello)));
    let (enabled, host_version) = (vec!["cancel".to_owned()], "1".to_owned());
    let ack = HandshakeAck { host_session_id: "h".to_owned(), protocol_version: 2, enabled, host_version, time: WALL };
    let of = |session: &str, message| {
        let (host_session_id, session_id) = (Some("h".to_owned()), Some(session.to_owned()));
        let sessions = infini_protocol::host::Sessions { host_session_id, session_id };
        Input::Message(Box::new(Heard { message, sessions, payload: [0; 32] }))
    };
    let before = bench.machine.identity.session_id.clone();
    let cancel = || HostMessage::Cancel(Cancel { id: "1".to_owned() });
    bench.on(of(&before, HostMessage::HandshakeAck(ack)));
    assert_eq!(bench.on(of(&before, cancel())), [Effect::Cancel("1".to_owned())]);

    let effects = bench.on(Input::NewGeneration { session_id: "another".to_owned() });
    let [Effect::Session(AgentBody::Handshake(handshake)), ..] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(handshake.session_id, "another");
    assert_eq!(kinds(&bench.on(of(&before, cancel()))), ["error"], "what was signed before does nothing any more");
    assert_eq!(kinds(&bench.on(of("another", cancel()))), ["error"], "nothing is agreed on in the new session");

    bench.on(Input::HostDetached);
    assert!(bench.on(Input::NewGeneration { session_id: "third".to_owned() }).is_empty());
    let effects = bench.on(Input::HostAttached);
    let [Effect::Session(AgentBody::Handshake(handshake)), ..] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(handshake.session_id, "third", "the next host hears of it");
}
