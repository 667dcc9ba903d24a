//! What `verify` found, for people and for programs.

use std::fmt;
use std::path::PathBuf;

use infini_protocol::Timestamp;
use serde::Serialize;

use super::finding::{Fact, Fault, Place};
use crate::commands::audit::chain::{Event, Head, Link};

/// So many findings of a kind are listed, the first ones; the others are only counted. Nobody reads more, and a file may be full of them.
const MOST_LISTED: usize = 100;

/// What was read, and what is wrong with it.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Where it was read.
    pub folder: PathBuf,
    /// How many files there are.
    pub files: u64,
    /// How many lines.
    pub lines: u64,
    /// How many bytes, but for what could not be read.
    pub bytes: u64,
    /// The first line that could be read.
    pub first_line: Option<u64>,
    /// How many commands were permitted.
    pub received: u64,
    /// How many were refused.
    pub refused: u64,
    /// How many came once more.
    pub repeated: u64,
    /// How many have an end.
    pub ended: u64,
    /// The time of the first line.
    pub from: Option<Timestamp>,
    /// The time of the last.
    pub to: Option<Timestamp>,
    /// The last line that could be read.
    #[serde(serialize_with = "as_text")]
    pub head: Option<Head>,
    /// The host's line, where it is the same here: all up to it is as the agent wrote it, but for the faults.
    pub proven: Option<u64>,
    /// How many faults there are.
    pub fault_count: u64,
    /// The first hundred of them.
    pub faults: Vec<Found<Fault>>,
    /// How many facts the audit tells of itself.
    pub fact_count: u64,
    /// The first hundred of them.
    pub facts: Vec<Found<Fact>>,
}

/// Something and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found<T> {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// What.
    #[serde(flatten)]
    pub what: T,
    /// What it means, for people.
    pub meaning: String,
}

impl Report {
    /// Whether all that is kept is as the agent wrote it, as far as can be told.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.fault_count == 0
    }

    /// For programs: one JSON object, and a line end.
    #[must_use]
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Judged<'a> {
            sound: bool,
            #[serde(flatten)]
            report: &'a Report,
        }
        let text = serde_json::to_string_pretty(&Judged { sound: self.is_sound(), report: self });
        text.unwrap_or_else(|error| format!("{{\"sound\":false,\"error\":\"{error}\"}}")) + "\n"
    }

    pub(super) fn fault(&mut self, place: Place, fault: Fault) {
        self.fault_count += 1;
        list(&mut self.faults, place, fault);
    }

    pub(super) fn fact(&mut self, place: Place, fact: Fact) {
        self.fact_count += 1;
        list(&mut self.facts, place, fact);
    }

    pub(super) fn count(&mut self, link: &Link, bytes: u64) {
        self.lines += 1;
        self.bytes += bytes;
        self.first_line.get_or_insert(link.line);
        self.from.get_or_insert(link.time);
        self.to = Some(link.time);
        match link.event {
            Event::Received => self.received += 1,
            Event::Refused => self.refused += 1,
            Event::Repeated => self.repeated += 1,
            Event::Ended => self.ended += 1,
            Event::File | Event::Repaired | Event::Missing | Event::Other => {}
        }
    }
}

fn list<T: fmt::Display>(findings: &mut Vec<Found<T>>, place: Place, what: T) {
    if findings.len() < MOST_LISTED {
        findings.push(Found { place, meaning: what.to_string(), what });
    }
}

fn as_text<S: serde::Serializer>(head: &Option<Head>, serializer: S) -> Result<S::Ok, S::Error> {
    head.as_ref().map(Head::to_string).serialize(serializer)
}

/// For people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "The audit in {}", self.folder.display())?;
        if self.files == 0 {
            writeln!(f, "  holds nothing: this agent was not asked for anything yet, or somebody removed it")?;
        } else {
            let (files, lines) = (counted(self.files, "file"), counted(self.lines, "line"));
            writeln!(f, "  {files} with {lines}, {}", counted(self.bytes, "byte"))?;
            let (received, refused, repeated) = (self.received, self.refused, self.repeated);
            let commands = counted(received + refused, "command");
            writeln!(f, "  {commands}: {received} permitted, {refused} refused; {repeated} came once more")?;
        }
        if let (Some(from), Some(to)) = (self.from, self.to) {
            writeln!(f, "  from {from} to {to}")?;
        }
        if let Some(head) = &self.head {
            writeln!(f, "  head {head}")?;
        }
        section(f, "Facts", &self.facts, self.fact_count)?;
        section(f, "Faults", &self.faults, self.fault_count)?;
        writeln!(f, "\n{}", self.verdict())
    }
}

impl Report {
    fn verdict(&self) -> String {
        match (self.fault_count, self.proven) {
            (0, Some(line)) => {
                format!("Sound: line {line} is the one that the host heard of, and all up to it is as the agent wrote it.")
            }
            (0, None) => "Sound: nothing in what is kept was changed or taken out.\n\
                          An end that was cut off, and an audit that was written anew, only show beside a line that the\n\
                          host heard of: --head N:HASH"
                .to_owned(),
            (faults, _) => format!(
                "Not sound: {}.\n\
                 Copy the folder before anything else happens to it, and compare it with the last line that the host heard\n\
                 of: --head N:HASH. Who could write here was root in this machine and could change its other logs, too.",
                counted(faults, "fault")
            ),
        }
    }
}

fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn section<T>(f: &mut fmt::Formatter<'_>, title: &str, listed: &[Found<T>], count: u64) -> fmt::Result {
    if count == 0 {
        return Ok(());
    }
    writeln!(f, "\n{title}")?;
    for Found { place, meaning, .. } in listed {
        writeln!(f, "  {place}\n    {meaning}")?;
    }
    match count - listed.len() as u64 {
        0 => Ok(()),
        more => writeln!(f, "  and {more} more"),
    }
}
