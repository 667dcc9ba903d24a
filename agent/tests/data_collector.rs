//! The collector's schedule, deadlines and lanes, with a machine that is made up.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use infini_protocol::ErrorCode;
use infini_protocol::metrics::{
    CpuMetrics, DiskUsage, LoadAverage, MachineInfo, MemoryMetrics, MetricsData, NetworkInterface, PortMetrics,
    PressureMetrics, ProcessMetrics, ServiceInfo,
};
use infiniservice::collector::{
    CollectFailure, CollectorSettings, DataCollector, DiskIoReading, Group, List, SystemMetricsProvider,
};
use tokio::time::advance;

const HOUR: Duration = Duration::from_secs(3600);

/// What a made-up machine does, and what was asked of it.
#[derive(Default)]
struct Script {
    asked: Mutex<BTreeMap<Group, usize>>,
    readers: AtomicUsize,
    /// Reading file systems waits for this.
    disk_answers: Mutex<Option<Receiver<()>>>,
    /// Reading memory panics that many times.
    panics: AtomicUsize,
    memory_is_forbidden: bool,
    /// Ports are all told of when they were gone on with that many times.
    shares_of_ports: usize,
    gone_on: AtomicUsize,
}

impl Script {
    fn asked(&self, group: Group) -> usize {
        self.asked.lock().unwrap().get(&group).copied().unwrap_or_default()
    }

    fn hanging() -> (Arc<Self>, Sender<()>) {
        let (answer, answers) = channel();
        let script = Self { disk_answers: Mutex::new(Some(answers)), ..Self::default() };
        (Arc::new(script), answer)
    }
}

struct MadeUp(Arc<Script>);

impl MadeUp {
    fn note(&self, group: Group) -> u64 {
        let mut asked = self.0.asked.lock().unwrap();
        let count = asked.entry(group).or_default();
        *count += 1;
        *count as u64
    }
}

fn empty<T>() -> List<T> {
    List { entries: Vec::new(), total: 0, errors: Vec::new() }
}

impl SystemMetricsProvider for MadeUp {
    fn collect_cpu(&mut self, _: Instant) -> Result<CpuMetrics, CollectFailure> {
        self.note(Group::Cpu);
        Ok(CpuMetrics::default())
    }

    fn collect_memory(&mut self) -> Result<MemoryMetrics, CollectFailure> {
        let total_kb = self.note(Group::Memory);
        let panics = self.0.panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(panics.is_err(), "as the test wants it");
        if self.0.memory_is_forbidden {
            let source = io::ErrorKind::PermissionDenied.into();
            return Err(CollectFailure::Io { path: "/proc/meminfo".into(), source });
        }
        Ok(MemoryMetrics { total_kb, ..MemoryMetrics::default() })
    }

    fn collect_disk_usage(&mut self) -> Result<List<DiskUsage>, CollectFailure> {
        self.note(Group::DiskUsage);
        if let Some(answers) = &*self.0.disk_answers.lock().unwrap() {
            let _ = answers.recv();
        }
        Ok(empty())
    }

    fn collect_disk_io(&mut self, _: Instant) -> Result<DiskIoReading, CollectFailure> {
        self.note(Group::DiskIo);
        Ok(DiskIoReading::default())
    }

    fn collect_network(&mut self, _: Instant) -> Result<List<NetworkInterface>, CollectFailure> {
        self.note(Group::Network);
        Ok(empty())
    }

    fn collect_uptime(&mut self) -> Result<u64, CollectFailure> {
        Ok(self.note(Group::Uptime))
    }

    fn collect_load_average(&mut self) -> Result<LoadAverage, CollectFailure> {
        self.note(Group::Load);
        Err(CollectFailure::Unsupported("load averages"))
    }

    fn collect_pressure(&mut self) -> Result<PressureMetrics, CollectFailure> {
        self.note(Group::Pressure);
        Ok(PressureMetrics::default())
    }

    fn collect_info(&mut self) -> Result<MachineInfo, CollectFailure> {
        self.note(Group::Info);
        Ok(MachineInfo::default())
    }

    fn collect_processes(&mut self, _: Instant, limit: usize) -> Result<List<ProcessMetrics>, CollectFailure> {
        self.note(Group::Processes);
        Ok(List { total: limit + 5, ..empty() })
    }

    fn collect_ports(&mut self, _: usize) -> Result<List<PortMetrics>, CollectFailure> {
        self.note(Group::Ports);
        Ok(empty())
    }

    fn has_more_of_ports(&self) -> bool {
        self.0.gone_on.load(Ordering::SeqCst) < self.0.shares_of_ports
    }

    fn collect_more_of_ports(&mut self, _: usize) -> Result<List<PortMetrics>, CollectFailure> {
        let shares = self.0.gone_on.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(List { total: shares, ..empty() })
    }

    fn collect_services(&mut self, _: usize) -> Result<List<ServiceInfo>, CollectFailure> {
        self.note(Group::Services);
        Ok(empty())
    }
}

fn collector(script: &Arc<Script>, settings: CollectorSettings) -> DataCollector {
    let script = Arc::clone(script);
    let provider = move || {
        script.readers.fetch_add(1, Ordering::SeqCst);
        MadeUp(Arc::clone(&script))
    };
    DataCollector::spawn(provider, settings)
}

/// Settings with these groups, of which only file systems have a deadline that matters.
fn settings(groups: &[Group]) -> CollectorSettings {
    let deadline = |group| (group, if group == Group::DiskUsage { Duration::from_secs(5) } else { HOUR });
    CollectorSettings {
        groups: groups.iter().copied().collect(),
        deadlines: Group::ALL.map(deadline).into(),
        first_after: BTreeMap::new(),
        ..CollectorSettings::default()
    }
}

/// How long a thread may take in real time, so that a test whose thread never does fails instead of waiting for ever.
struct Patience(Instant);

impl Patience {
    fn begins() -> Self {
        Self(Instant::now())
    }

    /// Leaves the processor to others.
    fn check(&self) {
        assert!(self.0.elapsed() < Duration::from_secs(60), "what is waited for does not come");
        std::thread::yield_now();
    }
}

/// Awaits without letting paused time move: Tokio moves it whenever nothing is ready, and threads take real time.
async fn held<T>(future: impl Future<Output = T>) -> T {
    let patience = Patience::begins();
    let keep_busy = async {
        loop {
            patience.check();
            tokio::task::yield_now().await;
        }
    };
    tokio::select! { biased; output = future => output, () = keep_busy => unreachable!() }
}

async fn sample(collector: &mut DataCollector) -> MetricsData {
    collector.request();
    held(collector.next_sample()).await
}

fn errors(data: &MetricsData) -> Vec<(&str, ErrorCode)> {
    data.errors.iter().map(|error| (&*error.component, error.error_code)).collect()
}

#[tokio::test]
async fn the_first_sample_is_whole_and_its_rates_have_a_quarter_of_a_second() {
    let script = Arc::new(Script::default());
    let at_once = CollectorSettings { first_after: BTreeMap::new(), ..CollectorSettings::default() };
    let mut collector = collector(&script, at_once);
    let before = Instant::now();
    collector.request();
    let data = collector.next_sample().await;
    let elapsed = before.elapsed();
    assert!(elapsed >= Duration::from_millis(250), "{elapsed:?}");
    for group in Group::ALL {
        let has_rates = matches!(group, Group::Cpu | Group::DiskIo | Group::Network | Group::Processes);
        assert_eq!(script.asked(group), if has_rates { 2 } else { 1 }, "{group:?}");
    }
    let system = &data.system;
    assert!(system.cpu.is_some() && system.memory.is_some() && system.network.is_some(), "{data:?}");
    assert!(system.disk.as_ref().is_some_and(|disk| disk.io_stats.is_some()), "{data:?}");
    assert!(data.processes.is_some() && data.ports.is_some() && data.services.is_some(), "{data:?}");
    assert_eq!(system.load_average, None, "the machine has none");
    assert_eq!(errors(&data), []);
    assert_eq!(data.truncated, BTreeMap::from([("processes".to_owned(), 205)]));
    assert_eq!(script.readers.load(Ordering::SeqCst), 5, "one reader for each lane");
}

#[tokio::test(start_paused = true)]
async fn a_group_that_shall_wait_at_the_start_is_absent_without_an_error_until_then() {
    let script = Arc::new(Script::default());
    let late = CollectorSettings {
        first_after: BTreeMap::from([(Group::Services, Duration::from_secs(5))]),
        ..settings(&[Group::Memory, Group::Services])
    };
    let mut collector = collector(&script, late);
    let data = sample(&mut collector).await;
    assert_eq!((data.services.is_some(), errors(&data)), (false, vec![]));
    advance(Duration::from_secs(5)).await;
    let data = sample(&mut collector).await;
    assert!(data.services.is_some(), "{data:?}");
}

#[tokio::test(start_paused = true)]
async fn a_group_that_hangs_costs_only_itself_and_is_not_asked_again() {
    let (script, answer) = Script::hanging();
    let mut collector = collector(&script, settings(&[Group::DiskUsage, Group::Memory]));
    collector.request();
    advance(Duration::from_secs(5)).await;
    let data = held(collector.next_sample()).await;
    assert_eq!(errors(&data), [("disk.usage", ErrorCode::CommandTimeout)]);
    assert_eq!(data.system.memory.map(|memory| memory.total_kb), Some(1));

    let data = sample(&mut collector).await;
    assert_eq!(errors(&data), [("disk.usage", ErrorCode::CommandTimeout)]);
    assert_eq!(data.system.memory.map(|memory| memory.total_kb), Some(2));
    // Time passes here whether the lane's thread has had its turn or not.
    let patience = Patience::begins();
    while script.asked(Group::DiskUsage) == 0 {
        patience.check();
    }
    assert_eq!(script.asked(Group::DiskUsage), 1);

    // The late answer is still good for its interval.
    answer.send(()).unwrap();
    let mut last = sample(&mut collector).await;
    while !last.errors.is_empty() {
        patience.check();
        last = sample(&mut collector).await;
    }
    assert!(last.system.disk.is_some(), "{last:?}");
    assert_eq!(script.asked(Group::DiskUsage), 1);
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_the_deadline_ends_the_wait() {
    let (script, _answer) = Script::hanging();
    let mut collector = collector(&script, settings(&[Group::DiskUsage]));
    let before = tokio::time::Instant::now();
    collector.request();
    let data = collector.next_sample().await;
    assert_eq!(errors(&data), [("disk.usage", ErrorCode::CommandTimeout)]);
    let waited = before.elapsed();
    assert!((5000..5010).contains(&waited.as_millis()), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_panics_is_started_anew() {
    let script = Arc::new(Script { panics: AtomicUsize::new(1), ..Script::default() });
    let mut collector = collector(&script, settings(&[Group::Memory, Group::DiskUsage]));
    let data = sample(&mut collector).await;
    assert_eq!(errors(&data), [("memory", ErrorCode::Internal)]);
    assert!(data.errors[0].message.contains("as the test wants it"), "{:?}", data.errors);
    assert!(data.system.disk.is_some());

    let data = sample(&mut collector).await;
    assert_eq!(errors(&data), []);
    assert!(data.system.memory.is_some());
    assert_eq!(script.readers.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn groups_that_are_not_due_keep_their_figures() {
    let script = Arc::new(Script::default());
    let mut collector = collector(&script, settings(&[Group::Memory, Group::DiskUsage, Group::Load]));
    let mut asked = Vec::new();
    for _ in 0..4 {
        let data = sample(&mut collector).await;
        assert!(data.system.disk.is_some(), "{data:?}");
        asked.push((script.asked(Group::Memory), script.asked(Group::DiskUsage)));
        // A little less than half of the file systems' interval.
        advance(Duration::from_millis(14_900)).await;
    }
    assert_eq!(asked, [(1, 1), (2, 1), (3, 2), (4, 2)]);
}

#[tokio::test(start_paused = true)]
async fn what_was_forbidden_is_named_and_tried_again() {
    let script = Arc::new(Script { memory_is_forbidden: true, ..Script::default() });
    let mut settings = settings(&[Group::Memory]);
    settings.intervals.insert(Group::Memory, HOUR);
    let mut collector = collector(&script, settings);
    for count in 1..=2 {
        let data = sample(&mut collector).await;
        assert_eq!(errors(&data), [("memory", ErrorCode::PermissionDenied)]);
        assert!(data.errors[0].message.starts_with("/proc/meminfo: "), "{:?}", data.errors);
        assert_eq!(script.asked(Group::Memory), count);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_join_the_sample_under_way_and_a_dropped_wait_loses_nothing() {
    let (script, answer) = Script::hanging();
    let mut collector = collector(&script, settings(&[Group::DiskUsage]));
    collector.request();
    {
        let mut wait = std::pin::pin!(collector.next_sample());
        tokio::select! { biased; data = &mut wait => panic!("{data:?}"), () = std::future::ready(()) => {} }
    }
    collector.request();
    answer.send(()).unwrap();
    let data = held(collector.next_sample()).await;
    assert_eq!((errors(&data), data.system.disk.is_some()), (vec![], true));
    let second = tokio::time::timeout(HOUR, collector.next_sample()).await;
    assert!(second.is_err(), "{second:?}");
}

#[tokio::test(start_paused = true)]
async fn other_settings_count_from_the_next_sample_on() {
    let script = Arc::new(Script::default());
    let mut collector = collector(&script, settings(&[Group::Memory, Group::Uptime]));
    let data = sample(&mut collector).await;
    assert!(data.system.memory.is_some() && data.system.uptime_seconds.is_some());
    collector.reconfigure(settings(&[Group::Uptime, Group::Ports]));
    let data = sample(&mut collector).await;
    assert_eq!((data.system.memory, data.system.uptime_seconds, data.ports), (None, Some(2), Some(vec![])));
}

#[tokio::test(start_paused = true)]
async fn what_one_share_of_work_did_not_find_out_goes_on_between_samples() {
    let script = Arc::new(Script { shares_of_ports: 5, ..Script::default() });
    let mut collector = collector(&script, settings(&[Group::Ports]));
    let first = sample(&mut collector).await;
    assert_eq!(first.truncated.get("ports"), None, "{first:?}");

    let (start, patience) = (tokio::time::Instant::now(), Patience::begins());
    for share in 1..=5 {
        let gone_on = async {
            while script.gone_on.load(Ordering::SeqCst) < share {
                tokio::task::yield_now().await;
            }
        };
        advance(Duration::from_secs(1)).await;
        tokio::select! {
            sample = collector.next_sample() => panic!("nobody asked for {sample:?}"),
            () = held(gone_on) => {}
        }
        // The lane has read; its report may still be on the way, and the next second counts from there.
        while sample(&mut collector).await.truncated.get("ports") != Some(&(share as u64)) {
            patience.check();
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    assert_eq!(script.asked(Group::Ports), 1, "the sample itself had no reason to read ports again");
}
