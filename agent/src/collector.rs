//! Measuring: what to measure when, and putting it together into one sample.
//!
//! [`DataCollector`] owns the schedule and the last figures of each group. What reads is a [`SystemMetricsProvider`], one for each
//! of a few threads, so that a group that hangs costs its own deadline and not the others'.

mod aggregate;
mod cpu;
mod disk;
mod lane;
#[cfg(target_os = "linux")]
pub mod linux;
mod network;
mod port;
mod process;
mod provider;
mod rate;
mod roster;
mod schedule;
pub mod service;
mod settings;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use infini_protocol::ErrorCode;
use infini_protocol::metrics::MetricsData;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};

use aggregate::{Outcome, assemble};
use lane::{Job, Lane, Reading, Report};
pub use provider::{CollectFailure, DiskIoReading, List, SystemMetricsProvider};
pub use schedule::SHORTEST_RATE;
use schedule::Schedule;
pub use settings::{CollectorSettings, Group, ListLimits};

/// Takes samples when it is asked to.
///
/// It owns no task: the service's loop awaits [`next_sample`](Self::next_sample) beside its other work. Groups that are not due go into a
/// sample with their last figures, so that every sample is whole. Between samples it only wakes up while a group has not found out all
/// there is: that one goes on by itself, a share of the work at a time.
pub struct DataCollector {
    settings: CollectorSettings,
    start_lane: StartLane,
    lanes: BTreeMap<Lane, RunningLane>,
    reports: UnboundedReceiver<Report>,
    reporter: UnboundedSender<Report>,
    started: Instant,
    schedule: Schedule,
    outcomes: BTreeMap<Group, Outcome>,
    round: Option<Vec<Pending>>,
    /// Groups that have more to find out, and when they go on.
    unfinished: BTreeMap<Group, Instant>,
}

/// How long a group that has more to find out leaves the machine to others before it goes on.
const BREATHER: Duration = Duration::from_secs(1);

/// Starts a thread of some provider's; what kind of provider it is matters nowhere else.
type StartLane = Box<dyn Fn(Lane, UnboundedSender<Report>) -> io::Result<mpsc::Sender<Job>> + Send>;

/// A lane's thread and what it still owes.
struct RunningLane {
    jobs: mpsc::Sender<Job>,
    owes: Vec<Owed>,
}

/// A reading that a lane was asked for.
#[derive(Clone, Copy)]
struct Owed {
    group: Group,
    since: Instant,
    goes_on: bool,
}

/// A group that the sample under way waits for.
struct Pending {
    group: Group,
    deadline: Instant,
    step: Step,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Its counters were never read; the first reading only serves to compare with.
    Prime,
    /// The first reading is under way.
    Priming,
    /// It may be read from this moment on.
    Read { from: Instant },
    /// It is being read.
    Reading,
    /// Its outcome is there.
    Done,
}

impl DataCollector {
    /// A collector whose lanes each make a reader of their own by `provider`, in their thread and when they are first needed.
    ///
    /// Its deadlines need a Tokio runtime with time when samples are awaited.
    pub fn spawn<P: SystemMetricsProvider>(
        provider: impl Fn() -> P + Send + Sync + 'static,
        settings: CollectorSettings,
    ) -> Self {
        let factory: lane::Factory<P> = Arc::new(provider);
        let (reporter, reports) = unbounded_channel();
        Self {
            settings,
            start_lane: Box::new(move |lane, reporter| lane::start(lane, Arc::clone(&factory), reporter)),
            lanes: BTreeMap::new(),
            reports,
            reporter,
            started: Instant::now(),
            schedule: Schedule::default(),
            outcomes: BTreeMap::new(),
            round: None,
            unfinished: BTreeMap::new(),
        }
    }

    /// Asks for a sample. Never blocks; while one is under way this is served by that one.
    pub fn request(&mut self) {
        if self.round.is_some() {
            return;
        }
        // What came in late since the last sample counts, and frees its lane.
        self.take_reports();
        let now = Instant::now();
        let due: Vec<Group> = Group::ALL
            .into_iter()
            .filter(|group| self.settings.groups.contains(group))
            .filter(|group| now >= self.started + self.settings.first_after(*group))
            .filter(|group| self.schedule.is_due(*group, self.settings.interval(*group), now))
            .collect();
        let round = due.into_iter().filter_map(|group| self.begin(group, now)).collect();
        self.round = Some(round);
        self.ask_lanes(now);
    }

    /// The sample that was asked for, as soon as it is complete: one for each round, however many requests joined it.
    ///
    /// Cancel safe: a sample that is under way goes on when this is called again. Without a request it stays pending.
    pub async fn next_sample(&mut self) -> MetricsData {
        loop {
            if let Some(sample) = self.advance(Instant::now()) {
                return sample;
            }
            let wake = self.next_event();
            tokio::select! {
                // The collector holds a sender itself, so the channel never ends.
                Some(report) = self.reports.recv() => self.take(report),
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
        }
    }

    /// Takes other settings from the next sample on. Groups that were switched off are left out of the sample under way too.
    pub fn reconfigure(&mut self, settings: CollectorSettings) {
        for group in Group::ALL {
            if !settings.groups.contains(&group) {
                self.schedule.forget(group);
                self.outcomes.remove(&group);
                self.unfinished.remove(&group);
            } else if settings.limits.of(group) != self.settings.limits.of(group) {
                self.schedule.forget(group);
            }
        }
        for pending in self.round.iter_mut().flatten() {
            if !settings.groups.contains(&pending.group) {
                pending.step = Step::Done;
            }
        }
        self.settings = settings;
    }

    /// Enters a group into a round; `None` where it need not be waited for, because its lane hangs.
    fn begin(&mut self, group: Group, now: Instant) -> Option<Pending> {
        if let Some(hanging) = self.lanes.get(&group.lane()).and_then(|lane| lane.owes.first())
            && (!hanging.goes_on || now >= hanging.since + self.settings.deadline(hanging.group))
        {
            let seconds = now.duration_since(hanging.since).as_secs();
            let message = format!("not read: reading {} has not come back for {seconds} s", hanging.group.component());
            self.outcomes.insert(group, Outcome::failed(group, ErrorCode::CommandTimeout, message));
            return None;
        }
        let step = match self.schedule.rate_ready(group) {
            _ if !group.has_rates() => Step::Read { from: now },
            None => Step::Prime,
            Some(ready) => Step::Read { from: ready.max(now) },
        };
        Some(Pending { group, deadline: now + self.settings.deadline(group), step })
    }

    /// Moves the round on as far as it goes without waiting; the sample when it is complete.
    fn advance(&mut self, now: Instant) -> Option<MetricsData> {
        // What is already there is in time, however late this task was woken.
        self.take_reports();
        self.ask_lanes(now);
        self.go_on(now);
        self.expire(now);
        if self.round.as_ref()?.iter().any(|pending| pending.step != Step::Done) {
            return None;
        }
        self.round = None;
        Some(assemble(Group::ALL.iter().filter_map(|group| self.outcomes.get(group))))
    }

    /// Gives each idle lane what it can read now.
    fn ask_lanes(&mut self, now: Instant) {
        let Some(round) = &mut self.round else { return };
        let mut asks: BTreeMap<Lane, Vec<Group>> = BTreeMap::new();
        for pending in round {
            let lane = pending.group.lane();
            if self.lanes.get(&lane).is_some_and(|lane| !lane.owes.is_empty()) {
                continue;
            }
            pending.step = match pending.step {
                Step::Prime => Step::Priming,
                Step::Read { from } if from <= now => Step::Reading,
                _ => continue,
            };
            asks.entry(lane).or_default().push(pending.group);
        }
        for (lane, groups) in asks {
            self.ask(lane, &groups, false, now);
        }
    }

    /// Has idle lanes go on with what they could not finish.
    fn go_on(&mut self, now: Instant) {
        let due = self.unfinished.iter().filter(|(group, at)| **at <= now && !self.is_busy(group.lane()));
        let due: Vec<Group> = due.map(|(group, _)| *group).collect();
        for group in due {
            self.unfinished.remove(&group);
            self.ask(group.lane(), &[group], true, now);
        }
    }

    fn ask(&mut self, lane: Lane, groups: &[Group], goes_on: bool, now: Instant) {
        let job = lane::job(groups, self.settings.limits, goes_on);
        let running = match self.lanes.remove(&lane) {
            Some(running) => Ok(running),
            None => (self.start_lane)(lane, self.reporter.clone()).map(|jobs| RunningLane { jobs, owes: Vec::new() }),
        };
        match running {
            // A lane whose channel is closed has died; its report of that is on the way.
            Ok(mut running) => {
                let _ = running.jobs.send(job);
                running.owes = groups.iter().map(|group| Owed { group: *group, since: now, goes_on }).collect();
                self.lanes.insert(lane, running);
            }
            Err(error) => {
                for group in groups {
                    let message = format!("its thread could not be started: {error}");
                    self.settle(*group, Outcome::failed(*group, ErrorCode::ResourceLimit, message));
                }
            }
        }
    }

    /// Gives up waiting for groups whose time is over. Their lane is not asked again before it came back.
    fn expire(&mut self, now: Instant) {
        let overdue = |pending: &&Pending| pending.step != Step::Done && pending.deadline <= now;
        let expired: Vec<Group> = self.round.iter().flatten().filter(overdue).map(|pending| pending.group).collect();
        for group in expired {
            let seconds = self.settings.deadline(group).as_secs_f64();
            let message = format!("it could not be read within {seconds} s");
            self.settle(group, Outcome::failed(group, ErrorCode::CommandTimeout, message));
        }
    }

    /// The next moment at which the round goes on by itself.
    fn next_event(&self) -> Option<Instant> {
        let waits = self.round.iter().flatten().filter(|pending| pending.step != Step::Done);
        let waits = waits.map(|pending| match pending.step {
            // While the lane is busy its report is what the group waits for.
            Step::Read { from } if !self.is_busy(pending.group.lane()) => from.min(pending.deadline),
            _ => pending.deadline,
        });
        let goes_on = self.unfinished.iter().filter(|(group, _)| !self.is_busy(group.lane())).map(|(_, at)| *at);
        waits.chain(goes_on).min()
    }

    fn is_busy(&self, lane: Lane) -> bool {
        self.lanes.get(&lane).is_some_and(|lane| !lane.owes.is_empty())
    }

    fn take_reports(&mut self) {
        while let Ok(report) = self.reports.try_recv() {
            self.take(report);
        }
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Read { group, result, has_more } => {
                let now = Instant::now();
                self.unfinished.remove(&group);
                if has_more && self.settings.groups.contains(&group) {
                    self.unfinished.insert(group, now + BREATHER);
                }
                self.take_reading(group, result, now);
            }
            Report::Died(lane, message) => {
                self.lanes.remove(&lane);
                for group in Group::ALL.into_iter().filter(|group| group.lane() == lane) {
                    self.schedule.forget_baseline(group);
                    self.unfinished.remove(&group);
                    if self.pending(group).is_some() {
                        let message = format!("reading panicked: {message}");
                        self.settle(group, Outcome::failed(group, ErrorCode::Internal, message));
                    }
                }
            }
        }
    }

    fn take_reading(&mut self, group: Group, result: Result<Reading, CollectFailure>, now: Instant) {
        let owed = self.lanes.get_mut(&group.lane()).and_then(|lane| {
            let owed = lane.owes.iter().position(|owed| owed.group == group)?;
            Some(lane.owes.remove(owed))
        });
        if result.is_ok() {
            self.schedule.baseline(group, now);
        }
        if !self.settings.groups.contains(&group) {
            return;
        }
        if owed.is_some_and(|owed| owed.goes_on) {
            // It stands for the moment of the reading that it goes on with. A sample under way has a reading of its own to come.
            if result.is_ok() && self.pending(group).is_none() {
                self.outcomes.insert(group, Outcome::of(group, result));
            }
            return;
        }
        match self.pending(group) {
            Some(pending) if pending.step == Step::Priming && result.is_ok() => {
                pending.step = Step::Read { from: now + schedule::SHORTEST_RATE };
                return;
            }
            // It came after its deadline: figures that stand for a moment are still good, rates over some other time are not.
            None if group.has_rates() => return,
            _ => {}
        }
        let is_final = matches!(result, Ok(_) | Err(CollectFailure::Unsupported(_)));
        self.settle(group, Outcome::of(group, result));
        if is_final && let Some(owed) = owed {
            self.schedule.keep(group, owed.since);
        }
    }

    /// The group's outcome is known. A failure is tried again with the next sample.
    fn settle(&mut self, group: Group, outcome: Outcome) {
        self.schedule.forget(group);
        self.outcomes.insert(group, outcome);
        if let Some(pending) = self.pending(group) {
            pending.step = Step::Done;
        }
    }

    fn pending(&mut self, group: Group) -> Option<&mut Pending> {
        self.round.iter_mut().flatten().find(|pending| pending.group == group && pending.step != Step::Done)
    }
}
