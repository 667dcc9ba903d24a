//! No line over the limit is ever made, and what had to be left out is told.
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "support/samples.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod samples;

use infini_protocol::agent::{AgentBody, AgentEvent, AgentMessage, Metrics, Response, ScriptCompletion};
use infini_protocol::encode::{MIN_LIMIT, agent_line};
use infini_protocol::limits::{MAX_FIELD_BYTES, MAX_LINE_BYTES, RESPONSE_RESERVE_BYTES};
use infini_protocol::metrics::{CollectError, MetricsData, ProcessMetrics};
use infini_protocol::{ErrorCode, Text};
use proptest::prelude::*;
use serde_json::{Value, json};

const MIB: usize = 1 << 20;

/// The message as it arrives: the line is under the limit, ends where it should and can be read.
fn sent(body: AgentBody, limit: usize) -> AgentBody {
    let line = agent_line(AgentMessage { timestamp: samples::moment(), body }, limit).unwrap();
    let (end, line) = line.split_last().unwrap();
    assert_eq!(*end, b'\n');
    assert!(line.len() <= limit, "{} bytes, the limit is {limit}", line.len());
    assert!(!line.contains(&b'\n'));
    AgentMessage::parse(line).unwrap().body
}

fn answered(response: Response, limit: usize) -> Response {
    match sent(AgentBody::Response(Box::new(response)), limit) {
        AgentBody::Response(response) => *response,
        other => panic!("{other:?}"),
    }
}

fn measured(data: MetricsData, limit: usize) -> MetricsData {
    match sent(AgentBody::Metrics(Box::new(Metrics { data })), limit) {
        AgentBody::Metrics(metrics) => metrics.data,
        other => panic!("{other:?}"),
    }
}

fn plain(stdout: String, stderr: String) -> Response {
    Response { id: "c-1".into(), success: true, command_type: "unsafe".into(), stdout, stderr, ..Response::default() }
}

fn escaped(text: &str) -> usize {
    serde_json::to_string(text).unwrap().len() - 2
}

#[test]
fn a_mebibyte_of_control_bytes_on_both_streams() {
    let output = "\u{1}".repeat(MIB);
    let response = answered(plain(output.clone(), output.clone()), MAX_LINE_BYTES);
    let (out, err) = (escaped(&response.stdout), escaped(&response.stderr));
    let share = MAX_LINE_BYTES - RESPONSE_RESERVE_BYTES;
    assert!(response.truncated && response.success, "{}", response.truncated);
    assert!(out + err <= share && out + err > share - 64, "{out} and {err} of {share}");
    assert!(out.abs_diff(err) < 16, "{out} and {err}");
    assert!(response.stdout.starts_with('\u{1}') && response.stdout.ends_with('\u{1}'));
    assert!(response.stdout.contains("bytes left out"));

    let script = ScriptCompletion { stdout: output.clone(), stderr: output, ..samples::script_completion() };
    let AgentBody::ScriptCompletion(script) = sent(AgentBody::ScriptCompletion(script), MAX_LINE_BYTES) else {
        panic!()
    };
    assert!(escaped(&script.stdout) + escaped(&script.stderr) <= share);
    assert_eq!(script.exit_code, 126);
}

#[test]
fn a_thousand_processes_with_command_lines_of_100_kib() {
    for character in ["x", "\u{1}", "é"] {
        let cmd_line: Text = character.repeat((100 << 10) / character.len()).into();
        let processes = (0..1000)
            .map(|pid| ProcessMetrics { pid, cmd_line: Some(cmd_line.clone()), ..samples::process() })
            .collect::<Vec<_>>();
        let data = MetricsData { processes: Some(processes), truncated: Default::default(), ..samples::metrics() };
        let data = measured(data, MAX_LINE_BYTES);
        let kept = data.processes.unwrap();
        assert_eq!(data.truncated["processes"], 1000, "{character:?}");
        // The heaviest stay, and as many as there is room for.
        assert!(kept.iter().map(|process| process.pid).eq(0..kept.len() as u32));
        let entry = serde_json::to_vec(&kept[0]).unwrap().len();
        assert!((kept.len() + 1) * (entry + 2) > MAX_LINE_BYTES - 8192, "{} of {entry} bytes", kept.len());
        assert!(kept[0].cmd_line.as_ref().unwrap().len().abs_diff(MAX_FIELD_BYTES) < 2);
        // Small lists give nothing away.
        assert_eq!(data.ports, samples::metrics().ports);
        assert_eq!(data.system, samples::metrics().system);
    }
}

#[test]
fn a_list_has_a_thousand_entries_at_most_and_says_how_many_there_were() {
    let many = |count| Some(vec![samples::process(); count]);
    let data = measured(
        MetricsData { processes: many(1200), truncated: Default::default(), ..samples::metrics() },
        MAX_LINE_BYTES,
    );
    assert_eq!((data.processes.map(|list| list.len()), &data.truncated["processes"]), (Some(1000), &1200));
    // The collector counted more than it kept.
    let data = measured(
        MetricsData { processes: many(1001), truncated: [("processes".to_owned(), 9000)].into(), ..samples::metrics() },
        MAX_LINE_BYTES,
    );
    assert_eq!(data.truncated["processes"], 9000);
}

#[test]
fn what_fits_is_sent_as_it_is() {
    for body in samples::agent_bodies() {
        assert_eq!(sent(body.clone(), MAX_LINE_BYTES), body);
    }
    // As much output as there may be.
    let share = MAX_LINE_BYTES - RESPONSE_RESERVE_BYTES;
    let response = plain("a".repeat(share - 9), "\u{1}\n\"b".into());
    assert_eq!(escaped(&response.stderr), 11);
    let sent = answered(
        Response { stderr: "\u{1}\n\"".into(), stdout: "a".repeat(share - 10), ..response.clone() },
        MAX_LINE_BYTES,
    );
    assert!(!sent.truncated && sent.stdout.len() == share - 10, "{}", sent.stdout.len());
    // And one byte more.
    assert!(answered(Response { stderr: "\u{1}\n\"".into(), ..response }, MAX_LINE_BYTES).truncated);
}

#[test]
fn a_short_stream_keeps_all_and_a_long_one_gets_the_rest() {
    let response = answered(plain("o".repeat(3 * MIB), "why\n".into()), MAX_LINE_BYTES);
    assert_eq!(response.stderr, "why\n");
    let used = escaped(&response.stdout) + escaped(&response.stderr);
    assert!(used + 64 > MAX_LINE_BYTES - RESPONSE_RESERVE_BYTES, "{used}");
}

#[test]
fn a_result_that_is_too_long_loses_the_end_of_its_list() {
    let users: Vec<Value> = (0..50_000).map(|uid| json!({ "name": format!("user{uid}"), "uid": uid })).collect();
    let data = json!({ "users": users.clone(), "count": 50_000 });
    let response = answered(Response { data: Some(data), ..plain(String::new(), String::new()) }, MAX_LINE_BYTES);
    let data = response.data.unwrap();
    assert_eq!((&data["truncated"], &data["count"]), (&json!(50_000), &json!(50_000)));
    let kept = data["users"].as_array().unwrap();
    assert_eq!(kept[..], users[..kept.len()]);
    assert!(kept.len() > 30_000, "{}", kept.len());
    assert!(response.truncated && response.success);
    assert_eq!(response.error_code, Some(ErrorCode::MessageTooLarge));
    assert!(response.error.unwrap().contains("50000 entries"));

    let response =
        answered(Response { data: Some(Value::Array(users)), ..plain(String::new(), String::new()) }, MAX_LINE_BYTES);
    assert!(response.data.unwrap().as_array().unwrap().len() > 30_000);
}

#[test]
fn a_result_without_a_list_is_left_out_and_the_answer_says_so() {
    let data = json!({ "report": "x".repeat(2 * MIB) });
    let response = answered(Response { data: Some(data), ..plain("done\n".into(), String::new()) }, MAX_LINE_BYTES);
    assert_eq!((response.data, response.stdout.as_str(), response.success), (None, "done\n", true));
    assert_eq!(response.error_code, Some(ErrorCode::MessageTooLarge));
    assert!(response.truncated && response.error.unwrap().contains("left out"));
}

#[test]
fn a_result_and_output_share_the_line() {
    let data = json!({ "report": "x".repeat(500 << 10) });
    let response =
        answered(Response { data: Some(data.clone()), ..plain("o".repeat(MIB), String::new()) }, MAX_LINE_BYTES);
    assert_eq!(response.data, Some(data));
    assert!(response.stdout.len() > 500 << 10, "{}", response.stdout.len());
    assert_eq!((response.error, response.truncated), (None, true));
}

#[test]
fn figures_of_an_event_go_before_its_words() {
    let event = AgentEvent {
        context: Some(json!({ "list": vec![1; MIB] })),
        severity: infini_protocol::agent::EventSeverity::Error,
        source: "collector".into(),
        message: "it broke".into(),
        execution_id: None,
    };
    let AgentBody::AgentEvent(event) = sent(AgentBody::AgentEvent(event), MAX_LINE_BYTES) else { panic!() };
    assert_eq!(event.context, None);
    assert!(event.message.ends_with("it broke") && event.message.contains("left out"), "{}", event.message);
}

#[test]
fn keys_that_old_hosts_demand_are_filled_and_named() {
    let line = agent_line(
        AgentMessage { timestamp: samples::moment(), body: AgentBody::Metrics(Box::default()) },
        MAX_LINE_BYTES,
    )
    .unwrap();
    let line: Value = serde_json::from_slice(&line).unwrap();
    let system = &line["data"]["system"];
    assert_eq!(system["cpu"], json!({ "usage_percent": 0.0, "cores_usage": [] }));
    assert_eq!(system["memory"]["total_kb"], 0);
    assert_eq!(system["disk"]["usage_stats"], json!([]));
    assert_eq!(system["disk"]["io_stats"]["read_bytes_per_sec"], 0);
    assert_eq!(system["network"]["interfaces"], json!([]));
    assert_eq!(system["uptime_seconds"], 0);
    let named: Vec<_> = line["data"]["errors"].as_array().unwrap().iter().map(|error| &error["component"]).collect();
    assert_eq!(named, ["cpu", "memory", "disk", "network", "uptime"]);

    let data: MetricsData = serde_json::from_value(line["data"].clone()).unwrap();
    let errors = data.errors.clone();
    assert_eq!(data.without_filled(), MetricsData { errors, ..MetricsData::default() });
}

#[test]
fn a_fill_keeps_the_collectors_own_words() {
    let error =
        CollectError { component: "disk.io".into(), error_code: ErrorCode::DeviceNotFound, message: "no disk".into() };
    let mut data = samples::metrics();
    data.system.disk.as_mut().unwrap().io_stats = None;
    data.errors = vec![error.clone()];
    let expected = data.clone();
    let data = measured(data, MAX_LINE_BYTES);
    assert_eq!(data.errors, [error]);
    assert!(data.system.disk.as_ref().unwrap().io_stats.is_some());
    assert_eq!(data.without_filled(), expected);
}

#[test]
fn both_halves_of_the_disk_stand_for_the_whole() {
    let failed = |component: &str| CollectError {
        component: component.into(),
        error_code: ErrorCode::CommandTimeout,
        message: "hangs".into(),
    };
    let mut data = samples::metrics();
    data.system.disk = None;
    data.errors = vec![failed("disk.usage"), failed("disk.io")];
    let expected = data.clone();
    let data = measured(data, MAX_LINE_BYTES);
    assert_eq!(data.errors, expected.errors, "the collector's own words say it already");
    assert!(data.system.disk.as_ref().is_some_and(|disk| disk.io_stats.is_some()), "{:?}", data.system.disk);
    assert_eq!(data.without_filled(), expected);
}

#[test]
fn a_half_that_was_never_asked_for_is_named_too() {
    let mut data = samples::metrics();
    data.system.disk = None;
    data.errors =
        vec![CollectError { component: "disk.io".into(), error_code: ErrorCode::Internal, message: "hangs".into() }];
    let data = measured(data, MAX_LINE_BYTES);
    let named: Vec<_> = data.errors.iter().map(|error| &*error.component).collect();
    assert_eq!(named, ["disk.io", "disk"]);
    assert_eq!(data.without_filled().system.disk, None);
}

#[test]
fn a_fill_stays_named_when_errors_are_cut() {
    let other = |index: usize| CollectError {
        component: format!("disk.usage:/mnt/{index}").into(),
        error_code: ErrorCode::Internal,
        message: "x".repeat(5000),
    };
    let mut data = samples::metrics();
    data.system.cpu = None;
    data.errors = (0..5000).map(other).collect();
    let data = measured(data, MAX_LINE_BYTES);
    assert_eq!(&*data.errors[0].component, "cpu");
    assert_eq!(data.truncated["errors"], 5001);
}

#[test]
fn figures_of_many_plugins_give_way_too() {
    let figure = samples::metrics().plugins.unwrap()["nginx"][0].clone();
    let plugins = (0..20_000).map(|index| (format!("plugin-{index:05}"), vec![figure.clone(); 2])).collect();
    let data = MetricsData { plugins: Some(plugins), ..samples::metrics() };
    let data = measured(data, MAX_LINE_BYTES);
    let kept = data.plugins.unwrap();
    assert_eq!(data.truncated["plugins"], 40_000);
    assert!(kept.len() > 5000 && kept.keys().next().unwrap() == "plugin-00000", "{}", kept.len());
    assert_eq!(data.ports, samples::metrics().ports);
}

#[test]
fn a_limit_that_no_message_fits_is_an_error() {
    let message = AgentMessage { timestamp: samples::moment(), body: samples::agent_bodies().remove(0) };
    let error = agent_line(message, 64).unwrap_err();
    assert!(error.to_string().contains("limit is 64"), "{error}");
}

/// Text that is short, or long and of one kind of character.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => ".{0,12}",
        1 => (prop::sample::select(vec!["x", "\u{1}", "\"", "é", "🦀", "\n"]), 0..12_000usize)
            .prop_map(|(character, count)| character.repeat(count)),
    ]
}

/// Every kind of message with any text in each of its places, and lists of any length.
fn any_body() -> impl Strategy<Value = AgentBody> {
    let kinds = samples::agent_bodies().len();
    (0..kinds, prop::collection::vec(any_text(), 1..9), 0..1500usize).prop_map(|(kind, texts, entries)| {
        let mut texts = texts.into_iter().cycle();
        let mut body = samples::agent_bodies().swap_remove(kind);
        refill(&mut body, &mut || texts.next().unwrap(), entries);
        body
    })
}

fn refill(body: &mut AgentBody, next: &mut impl FnMut() -> String, entries: usize) {
    match body {
        AgentBody::Handshake(it) => {
            it.capabilities = (0..entries % 50).map(|_| next()).collect();
            [&mut it.vm_id, &mut it.version, &mut it.platform, &mut it.arch].into_iter().for_each(|it| *it = next());
            [&mut it.hostname, &mut it.boot_id, &mut it.session_id].into_iter().for_each(|it| *it = next());
        }
        AgentBody::Metrics(metrics) => refill_metrics(&mut metrics.data, next, entries),
        AgentBody::Response(it) => {
            [&mut it.id, &mut it.command_type, &mut it.stdout, &mut it.stderr].into_iter().for_each(|it| *it = next());
            it.error = Some(next());
            it.data = Some(json!({ "list": vec![next(); entries % 20], "text": next() }));
        }
        AgentBody::KeepAlive(it) => it.sequence_number = u64::MAX,
        AgentBody::Error(it) => {
            [&mut it.error, &mut it.details.component, &mut it.details.message].into_iter().for_each(|it| *it = next());
        }
        AgentBody::ErrorReport(it) => {
            it.recovery_suggestion = Some(next());
            [&mut it.error_type, &mut it.vm_id].into_iter().for_each(|it| *it = next());
        }
        AgentBody::AgentEvent(it) => {
            it.context = Some(json!({ "text": next() }));
            it.execution_id = Some(next());
            [&mut it.source, &mut it.message].into_iter().for_each(|it| *it = next());
        }
        AgentBody::RequestPendingScripts(it) => it.vm_id = next(),
        AgentBody::ScriptCompletion(it) => {
            it.log_file = Some(next());
            [&mut it.execution_id, &mut it.stdout, &mut it.stderr].into_iter().for_each(|it| *it = next());
        }
    }
}

fn refill_metrics(data: &mut MetricsData, next: &mut impl FnMut() -> String, entries: usize) {
    let info = data.system.info.as_mut().unwrap();
    [&mut info.name, &mut info.os_version, &mut info.kernel_version, &mut info.hostname, &mut info.arch]
        .into_iter()
        .for_each(|it| *it = Some(next().into()));
    if entries.is_multiple_of(3) {
        data.system.cpu = None;
        data.system.disk = None;
        data.system.network = None;
    }
    let process = ProcessMetrics { cmd_line: Some(next().into()), user: Some(next().into()), ..samples::process() };
    data.processes = Some(vec![process; entries]);
    let mut figure = data.plugins.as_ref().unwrap()["nginx"][0].clone();
    figure.name = next();
    data.plugins = Some((0..entries % 7).map(|_| (next(), vec![figure.clone(); entries / 4])).collect());
    let mut components =
        ["cpu", "memory", "disk", "disk.usage", "disk.io", "network", "uptime"].map(str::to_owned).to_vec();
    components.extend((0..entries % 11).map(|_| next()));
    data.errors = components
        .into_iter()
        .map(|component| CollectError { component: component.into(), error_code: ErrorCode::Internal, message: next() })
        .collect();
    data.truncated.extend((0..entries % 5).map(|_| (next(), u64::MAX)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_message_makes_a_longer_line(body in any_body(), limit in prop_oneof![Just(MIN_LIMIT), MIN_LIMIT..100_000]) {
        let kind = std::mem::discriminant(&body);
        prop_assert_eq!(std::mem::discriminant(&sent(body, limit)), kind);
    }
}
