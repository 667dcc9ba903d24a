//! Goes from line to line and holds each against the one before it. Knows no files, only what is read from them.

use std::path::Path;

use super::finding::{Fact, Fault, Place};
use super::report::Report;
use crate::commands::audit::chain::{Event, Head, Link};
use crate::commands::audit::storage::file_name;

/// Where the reading stands.
#[derive(Debug)]
pub struct Walk {
    /// The file that is read, and how many of its lines were.
    file: Option<u64>,
    line_in_file: u64,
    /// The last line that could be read; absent where what was before is not kept.
    last: Option<Head>,
    /// How many lines after it could not be read.
    unreadable: u64,
    first_file: Option<u64>,
    /// The oldest file that must be there, as the newest one says.
    oldest: u64,
    /// Files that were not there between two that were.
    gaps: Vec<(u64, u64)>,
    expected: Option<Head>,
    comparison: Option<Comparison>,
    report: Report,
}

/// The host's line beside the one that is kept.
#[derive(Clone, Debug)]
struct Comparison {
    place: Place,
    is_same: bool,
}

impl Walk {
    /// Nothing was read yet.
    pub fn new(expected: Option<Head>) -> Self {
        Self {
            file: None,
            line_in_file: 0,
            last: None,
            unreadable: 0,
            first_file: None,
            oldest: 0,
            gaps: Vec::new(),
            expected,
            comparison: None,
            report: Report::default(),
        }
    }

    /// The next file's lines follow.
    pub fn begin_file(&mut self, number: u64) {
        match self.file {
            // The chain begins here; what was before any other file is not kept.
            None if number == 1 => self.last = Some(Head::start()),
            Some(before) if number > before + 1 => {
                self.gaps.push((before + 1, number - 1));
                self.last = None;
                self.unreadable = 0;
            }
            _ => {}
        }
        self.first_file.get_or_insert(number);
        self.file = Some(number);
        self.line_in_file = 0;
        self.report.files += 1;
    }

    /// Whether the file has any.
    pub fn has_lines(&self) -> bool {
        self.line_in_file > 0
    }

    /// A line, with its `\n`.
    pub fn line(&mut self, line: &[u8]) {
        let (hash, link) = Link::examine(line);
        let Some(link) = link else { return self.unreadable(Fault::Damaged, line.len() as u64) };
        self.line_in_file += 1;
        let place = Place { line: Some(link.line), ..self.place() };
        if let Some(fault) = self.follows(&link).or_else(|| self.is_in_its_file(&link)) {
            self.report.fault(place.clone(), fault);
        }
        if let Some(expected) = self.expected.as_ref().filter(|expected| expected.line == link.line) {
            let is_same = expected.hash == hash && self.comparison.as_ref().is_none_or(|before| before.is_same);
            self.comparison = Some(Comparison { place: place.clone(), is_same });
        }
        if let Some(fact) = fact(&link) {
            self.report.fact(place, fact);
        }
        self.oldest = self.oldest.max(link.oldest.unwrap_or(0));
        self.unreadable = 0;
        self.report.count(&link, line.len() as u64);
        self.last = Some(Head { line: link.line, hash });
    }

    /// A line that is longer than any may be.
    pub fn too_long(&mut self) {
        self.unreadable(Fault::TooLong, 0);
    }

    /// The file ends after so many bytes of a line.
    pub fn end_within_a_line(&mut self, bytes: u64, is_being_written: bool) {
        self.line_in_file += 1;
        let place = Place { line: self.supposed(), ..self.place() };
        if is_being_written {
            self.report.fact(place, Fact::BeingWritten);
        } else {
            self.unreadable += u64::from(bytes > 0);
            self.report.fault(place, Fault::Cut { bytes });
        }
    }

    /// All was read.
    pub fn finish(mut self, folder: &Path) -> Report {
        if let (Some(first), true) = (self.first_file, self.oldest > 0) {
            if self.oldest < first {
                self.gaps.insert(0, (self.oldest, first - 1));
            } else if let Some(line) = self.report.first_line.filter(|&line| line > 1) {
                self.report.fact(Place::default(), Fact::Rotated { first: line });
            }
        }
        for (from, to) in std::mem::take(&mut self.gaps) {
            // What the agent itself removed while the others were read is no gap.
            let from = from.max(self.oldest);
            if from <= to {
                let place = Place { file: Some(file_name(from)), ..Place::default() };
                self.report.fault(place, Fault::FilesMissing { from, to });
            }
        }
        self.compare();
        self.report.folder = folder.to_owned();
        self.report.head = self.last.filter(|head| head.line > 0);
        self.report
    }

    /// Holds the chain against the host's head.
    fn compare(&mut self) {
        let Some(expected) = self.expected.take() else { return };
        let line = expected.line;
        let last = self.last.as_ref().map_or(0, |head| head.line) + self.unreadable;
        let nowhere = Place { line: Some(line), ..Place::default() };
        let (place, fault) = match (self.comparison.take(), self.report.first_line) {
            (Some(Comparison { is_same: true, .. }), _) => {
                self.report.proven = Some(line);
                return;
            }
            (Some(Comparison { place, .. }), _) => (place, Fault::HeadDiffers),
            (None, _) if line > last => (nowhere, Fault::HeadBeyondEnd { last }),
            (None, Some(first)) if line < first => (nowhere, Fault::HeadNotKept { first }),
            (None, _) => (nowhere, Fault::HeadUnreadable),
        };
        self.report.fault(place, fault);
    }

    fn unreadable(&mut self, fault: Fault, bytes: u64) {
        self.line_in_file += 1;
        let place = Place { line: self.supposed(), ..self.place() };
        self.report.fault(place, fault);
        self.report.lines += 1;
        self.report.bytes += bytes;
        self.unreadable += 1;
    }

    /// What is wrong between this line and those before it. Of lines that could not be read only their number is known.
    fn follows(&self, link: &Link) -> Option<Fault> {
        let Some(last) = &self.last else {
            return (link.event != Event::File).then_some(Fault::BeginningMissing);
        };
        let expected = last.line.saturating_add(1 + self.unreadable);
        let is_next = link.line == last.line.saturating_add(1);
        match () {
            () if is_next && link.previous == last.hash => None,
            () if self.unreadable > 0 && link.line > last.line && link.line <= expected => None,
            () if link.line > expected => Some(Fault::LinesMissing { from: expected, to: link.line - 1 }),
            () if is_next => Some(Fault::Replaced),
            () => Some(Fault::OutOfOrder),
        }
    }

    /// The first line of a file, and no other, names it.
    fn is_in_its_file(&self, link: &Link) -> Option<Fault> {
        match (link.event, link.file) {
            (Event::File, Some(number)) if Some(number) != self.file => Some(Fault::OtherFile { number }),
            (Event::File, _) => None,
            _ => (self.line_in_file == 1).then_some(Fault::BeginningMissing),
        }
    }

    /// The number that the line here must have had, where the one before is known.
    fn supposed(&self) -> Option<u64> {
        self.last.as_ref().map(|last| last.line + self.unreadable + 1)
    }

    fn place(&self) -> Place {
        Place { file: self.file.map(file_name), line_in_file: Some(self.line_in_file), line: None }
    }
}

fn fact(link: &Link) -> Option<Fact> {
    let time = link.time;
    match link.event {
        Event::Repaired => Some(Fact::Repaired { time, dropped_bytes: link.dropped_bytes.unwrap_or(0) }),
        Event::Missing => Some(Fact::EntriesMissing { time, count: link.count.unwrap_or(0), since: link.since }),
        _ => None,
    }
}
