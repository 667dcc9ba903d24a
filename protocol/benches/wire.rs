//! What the wire costs, each beside the least that such work can cost: looking at the bytes, copying them, signing them.
#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

#[path = "../tests/support/samples.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod samples;
#[path = "support/side_by_side.rs"]
mod side_by_side;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group};
use hmac::{Hmac, KeyInit, Mac};
use infini_protocol::agent::{AgentBody, AgentMessage, Metrics};
use infini_protocol::encode::agent_line;
use infini_protocol::envelope::{self, Key};
use infini_protocol::framing::LineDecoder;
use infini_protocol::limits::MAX_LINE_BYTES;
use infini_protocol::metrics::{MetricsData, ProcessMetrics};
use sha2::Sha256;
use side_by_side::{Subject, Times};

/// What one read of the port gives at most.
const READ_BYTES: usize = 64 << 10;

fn short<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, criterion::measurement::WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_millis(1200)).sample_size(20);
    group
}

fn framing(criterion: &mut Criterion) {
    let mut group = short(criterion, "framing");
    for (name, line_bytes) in [("200 B", 200), ("10 KiB", 10 << 10), ("1 MiB", MAX_LINE_BYTES)] {
        let mut line = vec![b'x'; line_bytes];
        line.push(b'\n');
        let stream = line.repeat((4 << 20) / line.len() + 1);
        group.throughput(Throughput::Bytes(stream.len() as u64));
        group.bench_function(BenchmarkId::new("decoder", name), |bencher| {
            let mut decoder = LineDecoder::new(MAX_LINE_BYTES);
            bencher.iter(|| {
                let mut lines = 0;
                for read in stream.chunks(READ_BYTES) {
                    decoder.feed(read, |frame| {
                        black_box(frame);
                        lines += 1;
                    });
                }
                lines
            });
        });
        group.bench_function(BenchmarkId::new("memchr", name), |bencher| {
            bencher
                .iter(|| stream.chunks(READ_BYTES).map(|read| memchr::memchr_iter(b'\n', read).count()).sum::<usize>());
        });
        group.bench_function(BenchmarkId::new("copy", name), |bencher| {
            let mut copy = vec![0; READ_BYTES];
            bencher.iter(|| {
                for read in stream.chunks(READ_BYTES) {
                    copy[..read.len()].copy_from_slice(read);
                    black_box(&copy);
                }
            });
        });
    }
    group.finish();
}

fn signing(criterion: &mut Criterion) {
    let secret = "0123456789abcdef".repeat(4);
    let key = Key::new(&secret).unwrap();
    let mut group = short(criterion, "envelope");
    for (name, command_bytes) in [("60 B", 10), ("100 KiB", 100 << 10)] {
        let payload = format!(r#"{{"type":"UnsafeCommand","id":"c-1","raw_command":"{}"}}"#, "x".repeat(command_bytes));
        let line = envelope::seal(&key, 1_767_225_600_000, "n-1", &payload).unwrap();
        group.throughput(Throughput::Bytes(payload.len() as u64));
        group.bench_function(BenchmarkId::new("seal", name), |bencher| {
            bencher.iter(|| envelope::seal(&key, 1_767_225_600_000, "n-1", black_box(&payload)).unwrap());
        });
        group.bench_function(BenchmarkId::new("open", name), |bencher| {
            bencher.iter(|| envelope::open(&key, black_box(line.as_bytes())).unwrap().payload.len());
        });
        group.bench_function(BenchmarkId::new("bare hmac", name), |bencher| {
            bencher.iter(|| {
                let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
                mac.update(black_box(payload.as_bytes()));
                mac.finalize().into_bytes()
            });
        });
    }
    group.finish();
}

fn sample_of_300_processes() -> AgentBody {
    let processes = (0..300).map(|pid| ProcessMetrics { pid, ..samples::process() }).collect();
    AgentBody::Metrics(Box::new(Metrics { data: MetricsData { processes: Some(processes), ..samples::metrics() } }))
}

fn answer_of_900_kib() -> AgentBody {
    let mut response = samples::response();
    response.stdout = "All work and no play makes a dull line of output.\n".repeat((900 << 10) / 51);
    AgentBody::Response(Box::new(response))
}

/// Beside: the same bytes written by serde_json with no limit and no second look, and copied.
fn encoding(criterion: &mut Criterion) {
    let mut group = short(criterion, "encode");
    for (name, body) in [("300 processes", sample_of_300_processes()), ("900 KiB of output", answer_of_900_kib())] {
        let message = AgentMessage { timestamp: samples::moment(), body };
        let line = agent_line(message.clone(), MAX_LINE_BYTES).unwrap();
        assert!(line.len() <= MAX_LINE_BYTES, "{}", line.len());
        group.throughput(Throughput::Bytes(line.len() as u64));
        group.bench_function(BenchmarkId::new("agent_line", name), |bencher| {
            let fresh = || message.clone();
            bencher.iter_batched(fresh, |message| agent_line(message, MAX_LINE_BYTES).unwrap(), BatchSize::LargeInput);
        });
        group.bench_function(BenchmarkId::new("serde_json", name), |bencher| {
            bencher.iter(|| serde_json::to_vec(black_box(&message)).unwrap());
        });
        group.bench_function(BenchmarkId::new("copy", name), |bencher| bencher.iter(|| black_box(&line).clone()));
    }
    group.finish();
}

/// The largest of each once more, taking turns.
fn print_side_by_side() {
    const ROUNDS: usize = 101;
    let mut line = vec![b'x'; MAX_LINE_BYTES];
    line.push(b'\n');
    let mut decoder = LineDecoder::new(MAX_LINE_BYTES);
    let mut copy = vec![0; line.len()];

    let secret = "0123456789abcdef".repeat(4);
    let key = Key::new(&secret).unwrap();
    let payload = format!(r#"{{"type":"UnsafeCommand","id":"c-1","raw_command":"{}"}}"#, "x".repeat(100 << 10));
    let sealed = envelope::seal(&key, 1_767_225_600_000, "n-1", &payload).unwrap();
    let mac =
        || Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(black_box(&payload)).finalize();

    let message = AgentMessage { timestamp: samples::moment(), body: sample_of_300_processes() };
    let encoded = agent_line(message.clone(), MAX_LINE_BYTES).unwrap();
    let mut fresh: Vec<AgentMessage> = vec![message.clone(); ROUNDS];

    let times = Times::measure(
        ROUNDS,
        &mut [
            Subject::new("frame 1 MiB", || {
                line.chunks(READ_BYTES).for_each(|read| decoder.feed(read, |frame| _ = black_box(frame)));
            }),
            Subject::new("memchr", || _ = black_box(memchr::memchr_iter(b'\n', black_box(&line)).count())),
            Subject::new("copy 1 MiB", || copy.copy_from_slice(black_box(&line))),
            Subject::new("open 100 KiB", || _ = black_box(envelope::open(&key, black_box(sealed.as_bytes())).is_ok())),
            Subject::new("seal 100 KiB", || {
                _ = black_box(envelope::seal(&key, 1_767_225_600_000, "n-1", &payload).is_ok())
            }),
            Subject::new("copy 100 KiB", || _ = black_box(black_box(&sealed).clone())),
            Subject::new("hmac", || _ = black_box(mac())),
            Subject::new("encode 300 proc.", || _ = black_box(agent_line(fresh.pop().unwrap(), MAX_LINE_BYTES))),
            Subject::new("serde_json", || _ = black_box(serde_json::to_vec(black_box(&message)).unwrap())),
            Subject::new("copy line", || _ = black_box(black_box(&encoded).clone())),
        ],
    );
    println!("\nthe wire: lower quartiles of {ROUNDS} rounds");
    times.print(["memchr", "copy"], &[("frame 1 MiB", [Some("memchr"), Some("copy 1 MiB")])]);
    let rows = ["open 100 KiB", "seal 100 KiB"].map(|name| (name, [Some("hmac"), Some("copy 100 KiB")]));
    times.print(["bare hmac", "copy"], &rows);
    times.print(["serde_json", "copy"], &[("encode 300 proc.", [Some("serde_json"), Some("copy line")])]);
}

criterion_group!(wire, framing, signing, encoding);

fn main() {
    wire();
    Criterion::default().configure_from_args().final_summary();
    print_side_by_side();
}
