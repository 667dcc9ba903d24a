//! What the checks found: a line when each ends, and a table of all figures at the end.

use std::time::Duration;

/// Figures that a check wants printed whether it passes or not.
#[derive(Debug, Default)]
pub struct Figures(Vec<(String, String)>);

impl Figures {
    /// Notes one figure.
    pub fn note(&mut self, what: impl Into<String>, value: impl ToString) {
        self.0.push((what.into(), value.to_string()));
    }
}

/// How one check went.
#[derive(Debug)]
struct Outcome {
    name: &'static str,
    took: Duration,
    failure: Option<String>,
    figures: Figures,
}

/// How all checks went.
#[derive(Debug, Default)]
pub struct Report(Vec<Outcome>);

impl Report {
    /// Takes the end of a check and says it at once, so that a long run can be followed.
    pub fn add(&mut self, name: &'static str, took: Duration, result: anyhow::Result<()>, figures: Figures) {
        let failure = result.err().map(|error| format!("{error:#}"));
        let word = if failure.is_some() { "FAILED" } else { "ok" };
        println!("{word:>6}  {name} ({:.1} s)", took.as_secs_f64());
        if let Some(failure) = &failure {
            println!("        {}", failure.replace('\n', "\n        "));
        }
        self.0.push(Outcome { name, took, failure, figures });
    }

    /// Whether every check passed and there was one.
    pub fn passed(&self) -> bool {
        !self.0.is_empty() && self.failed() == 0
    }

    fn failed(&self) -> usize {
        self.0.iter().filter(|outcome| outcome.failure.is_some()).count()
    }

    /// The figures as a table, every failure once more, how long each check took, and the closing line.
    pub fn summary(&self) -> String {
        let figures = || self.0.iter().flat_map(|outcome| &outcome.figures.0);
        let width = figures().map(|(what, _)| what.chars().count()).max().unwrap_or(0);
        let mut lines: Vec<String> = figures().map(|(what, value)| format!("  {what:<width$}  {value}")).collect();
        if !lines.is_empty() {
            lines.insert(0, "\nFigures".to_owned());
        }
        if self.failed() > 0 {
            lines.push("\nFailures".to_owned());
        }
        for outcome in &self.0 {
            if let Some(failure) = &outcome.failure {
                lines.push(format!("  {}: {}", outcome.name, failure.replace('\n', "\n    ")));
            }
        }
        lines.push("\nTimes, the longest first".to_owned());
        let mut times: Vec<_> = self.0.iter().map(|outcome| (outcome.took, outcome.name)).collect();
        times.sort_by_key(|(took, _)| std::cmp::Reverse(*took));
        lines.extend(times.iter().map(|(took, name)| format!("  {:>6.1} s  {name}", took.as_secs_f64())));
        let took: Duration = times.iter().map(|(took, _)| *took).sum();
        let minutes = took.as_secs() / 60;
        lines.push(format!("\nThe checks took {minutes} min {:02} s", took.as_secs() % 60));
        lines.push(format!("{} passed, {} failed", self.0.len() - self.failed(), self.failed()));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_and_every_figure_is_in_the_summary() {
        let mut report = Report::default();
        let mut figures = Figures::default();
        figures.note("busy core", "97.3 %");
        report.add("busy loop", Duration::from_secs(8), Ok(()), figures);
        let mut figures = Figures::default();
        figures.note("kills", 200);
        report.add("kills", Duration::from_secs(40), Err(anyhow::anyhow!("number 3 took 6 s")), figures);
        report.add("reboot", Duration::from_secs(20), Err(anyhow::anyhow!("no handshake")), Figures::default());
        let summary = report.summary();
        for line in ["busy core  97.3 %", "kills      200", "kills: number 3 took 6 s", "reboot: no handshake"] {
            assert!(summary.contains(line), "{line:?} is not in\n{summary}");
        }
        assert!(summary.ends_with("The checks took 1 min 08 s\n1 passed, 2 failed"), "{summary}");
        assert!(summary.contains("  40.0 s  kills\n    20.0 s  reboot\n     8.0 s  busy loop"), "{summary}");
        assert!(!report.passed());
    }

    #[test]
    fn no_check_at_all_is_no_success() {
        assert!(!Report::default().passed());
    }
}
