//! Subjects that take turns, a table of what each took, and budgets.
#![allow(dead_code, reason = "each benchmark uses its own part")]

use std::env;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Set to anything: a missed budget is a failure. `cargo xtask bench` does so.
const ENFORCE: &str = "BENCH_ENFORCE_BUDGETS";

/// How often is measured before a budget counts as missed. What else a machine does only ever adds.
const TRIES: usize = 3;

/// Has budgets measured, and again where they are enforced and one is missed. `measure` prints them and says whether all were met.
pub fn judge(mut measure: impl FnMut() -> bool) -> ExitCode {
    let is_enforced = env::var_os(ENFORCE).is_some();
    let tries = if is_enforced { TRIES } else { 1 };
    let are_met = (0..tries).any(|_| measure());
    if are_met || !is_enforced { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Something whose time counts.
pub struct Subject<'s> {
    name: String,
    run: Box<dyn FnMut() + 's>,
}

impl<'s> Subject<'s> {
    pub fn new(name: impl Into<String>, run: impl FnMut() + 's) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

/// A line of the table: a subject of ours and, by name, the subjects beside it.
pub type Row<'n> = (&'n str, [Option<&'n str>; 2]);

/// What each subject took, in microseconds.
pub struct Times(Vec<(String, f64)>);

impl Times {
    /// Runs the subjects in turn, so that whatever else the machine does falls on all of them, and keeps each one's lower quartile: what
    /// else the machine does only ever adds.
    pub fn measure(rounds: usize, subjects: &mut [Subject<'_>]) -> Self {
        Self::measure_after(rounds, || {}, subjects)
    }

    /// The same with something done before each round, whose time does not count.
    pub fn measure_after(rounds: usize, mut before: impl FnMut(), subjects: &mut [Subject<'_>]) -> Self {
        let mut times: Vec<Vec<Duration>> = vec![Vec::with_capacity(rounds); subjects.len()];
        for round in 0..rounds {
            before();
            for turn in 0..subjects.len() {
                // Forth and back, so that nobody always comes behind the one who leaves the coldest cache.
                let index = if round % 2 == 0 { turn } else { subjects.len() - 1 - turn };
                let start = Instant::now();
                (subjects[index].run)();
                times[index].push(start.elapsed());
            }
        }
        let quartile = |mut times: Vec<Duration>| {
            times.sort_unstable();
            times[times.len() / 4].as_secs_f64() * 1e6
        };
        let names = subjects.iter().map(|subject| subject.name.clone());
        Self(names.zip(times.into_iter().map(quartile)).collect())
    }

    /// A subject's time.
    pub fn of(&self, name: &str) -> f64 {
        let found = self.0.iter().find(|(other, _)| other == name);
        found.unwrap_or_else(|| panic!("no subject is called {name}")).1
    }

    /// Prints each row's subject beside what it is compared with, under these headings.
    pub fn print(&self, headings: [&str; 2], rows: &[Row<'_>]) {
        let [first, second] = headings.map(|name| format!("{:>14}{:>14}", format!("{name} µs"), format!("x {name}")));
        println!("  {:<18}{:>10}{first}{second}", "", "ours µs");
        for (name, references) in rows {
            let ours = self.of(name);
            let [first, second] = references.map(|reference| match reference.map(|name| self.of(name)) {
                Some(time) => format!("{time:>14.1}{:>14.3}", ours / time),
                None => " ".repeat(28),
            });
            println!("  {name:<18}{ours:>10.1}{first}{second}");
        }
    }

    /// Prints whether a subject takes at most `limit` times what another takes, and says so.
    #[must_use]
    pub fn is_within(&self, name: &str, reference: &str, limit: f64) -> bool {
        let ratio = self.of(name) / self.of(reference);
        let verdict = if ratio <= limit { "MET" } else { "MISSED" };
        println!("  budget: {name} <= {limit:.2} x {reference}: {ratio:.3}  {verdict}");
        ratio <= limit
    }
}
