use std::sync::Arc;

use infini_protocol::metrics::ProcessMetrics;
use tokio::time::Instant;

use super::history::History;
use crate::vm::{Sample, Status};

/// Everything that decides what is on the screen.
#[derive(Debug)]
pub struct Model {
    /// What the user calls the machine.
    pub name: String,
    /// What is known of it.
    pub status: Arc<Status>,
    /// The past of its figures.
    pub history: History,
    /// The time to show ages at.
    pub now: Instant,
    /// Which table is shown.
    pub tab: Tab,
    /// What orders the processes.
    pub sort: Sort,
    /// How many rows of the table are above the screen; drawing brings it into range.
    pub scroll: usize,
}

/// The tables at the bottom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    Processes,
    Ports,
    Services,
    Errors,
}

impl Tab {
    /// All, in their order on the screen.
    pub const ALL: [Self; 4] = [Self::Processes, Self::Ports, Self::Services, Self::Errors];
}

/// What orders the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Cpu,
    Memory,
    Pid,
}

/// Whether a key ends the view.
#[derive(Debug, PartialEq, Eq)]
pub enum Reaction {
    Stay,
    Quit,
}

impl Model {
    /// A view of a machine of which nothing is known.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            status: Arc::default(),
            history: History::default(),
            now: Instant::now(),
            tab: Tab::Processes,
            sort: Sort::Cpu,
            scroll: 0,
        }
    }

    /// The latest sample.
    pub fn sample(&self) -> Option<&Sample> {
        self.status.sample.as_deref()
    }

    /// Takes news; a sample that was not seen yet goes into the history.
    pub fn learn(&mut self, status: Arc<Status>) {
        if let Some(sample) = &status.sample
            && !self.status.sample.as_ref().is_some_and(|old| Arc::ptr_eq(old, sample))
        {
            self.history.push(sample);
        }
        self.status = status;
    }

    /// What a letter does.
    pub fn letter(&mut self, letter: char) {
        match letter {
            'c' => self.sort_by(Sort::Cpu),
            'm' => self.sort_by(Sort::Memory),
            'p' => self.sort_by(Sort::Pid),
            'k' => self.scroll_by(-1),
            'j' => self.scroll_by(1),
            '1'..='4' => {
                self.tab = Tab::ALL[letter as usize - '1' as usize];
                self.scroll = 0;
            }
            _ => {}
        }
    }

    fn sort_by(&mut self, sort: Sort) {
        (self.sort, self.tab, self.scroll) = (sort, Tab::Processes, 0);
    }

    /// Shows the next or previous table.
    pub fn turn_tab(&mut self, by: isize) {
        let place = Tab::ALL.iter().position(|&tab| tab == self.tab).unwrap_or(0);
        self.tab = Tab::ALL[place.wrapping_add_signed(by) % Tab::ALL.len()];
        self.scroll = 0;
    }

    /// Moves the table.
    pub fn scroll_by(&mut self, rows: isize) {
        self.scroll = self.scroll.saturating_add_signed(rows);
    }

    /// The processes in the chosen order.
    pub fn processes(&self) -> Vec<&ProcessMetrics> {
        let processes = self.sample().and_then(|sample| sample.data.processes.as_ref());
        let mut rows: Vec<_> = processes.into_iter().flatten().collect();
        let cpu = |p: &ProcessMetrics| p.cpu_percent.get();
        match self.sort {
            Sort::Cpu => rows.sort_by(|a, b| cpu(b).total_cmp(&cpu(a)).then(b.memory_kb.cmp(&a.memory_kb))),
            Sort::Memory => rows.sort_by(|a, b| b.memory_kb.cmp(&a.memory_kb).then(a.pid.cmp(&b.pid))),
            Sort::Pid => rows.sort_by_key(|process| process.pid),
        }
        rows
    }
}
