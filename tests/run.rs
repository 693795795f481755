//! A run, and demands on it. Unmet demands are collected, so that a failure reports all of them.

use abi::ExitStatus;
use grade::expect::{self, Expect, Unmet};
use std::cell::RefCell;
use xtask::report::Report;
use xtask::session::Outcome;

/// A run that has ended.
pub struct Run {
    /// The output of the guest.
    pub console: String,
    /// The status of the machine.
    pub status: ExitStatus,
    /// The kernel's report.
    pub report: Option<Report>,
    failures: RefCell<Vec<String>>,
}

impl Run {
    /// The run with this outcome.
    #[must_use]
    pub fn new(outcome: Outcome) -> Run {
        let console = String::from_utf8_lossy(&outcome.console).into_owned();
        let failures = RefCell::default();
        Run { console, status: outcome.status, report: outcome.report, failures }
    }

    /// The lines of the console, without carriage returns.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.console.lines().map(|line| line.trim_end_matches('\r'))
    }

    /// The lines that match the pattern.
    #[must_use]
    pub fn matching(&self, pattern: &str) -> Vec<&str> {
        expect::matching(&self.lines().collect::<Vec<_>>(), pattern)
    }

    /// Demands that a condition holds.
    pub fn expect(&self, holds: bool, what: impl Into<String>) -> &Run {
        if !holds {
            self.failures.borrow_mut().push(what.into());
        }
        self
    }

    /// Records what the demand finds wrong with the lines, if anything.
    fn demand<U: IntoIterator<Item = Unmet>>(&self, demand: impl FnOnce(&[&str]) -> U) -> &Run {
        let unmet = demand(&self.lines().collect::<Vec<_>>());
        self.failures.borrow_mut().extend(unmet.into_iter().map(|unmet| unmet.to_string()));
        self
    }

    /// Demands what the rubric expects.
    pub fn see(&self, expected: &Expect) -> &Run {
        self.demand(|lines| expected.unmet(lines))
    }

    /// Demands that exactly this many lines match.
    pub fn count(&self, pattern: &str, expected: usize) -> &Run {
        self.demand(|lines| expect::count(lines, pattern, expected))
    }

    /// Demands that exactly one line matches.
    pub fn once(&self, pattern: &str) -> &Run {
        self.count(pattern, 1)
    }

    /// Demands that no line matches.
    pub fn never(&self, pattern: &str) -> &Run {
        self.demand(|lines| expect::never(lines, pattern))
    }

    /// Demands lines that match one after the other; other lines may be between them.
    pub fn in_order<P: AsRef<str>>(&self, patterns: &[P]) -> &Run {
        self.demand(|lines| expect::order(lines, patterns))
    }

    /// Demands a pattern for each line of the console, and nothing else.
    pub fn exactly<P: AsRef<str>>(&self, patterns: &[P]) -> &Run {
        self.demand(|lines| expect::exactly(lines, patterns))
    }

    /// The demands that were not met.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        self.failures.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(console: &str) -> Run {
        Run::new(Outcome {
            status: ExitStatus::SUCCESS,
            report: None,
            console: console.into(),
            elapsed: std::time::Duration::ZERO,
        })
    }

    #[test]
    fn demands_that_are_met() {
        let run = run("a 1\r\nb 2\na 3\n");
        run.count("^a", 2).once("b").never("c").in_order(&["1$", "2$", "3$"]).exactly(&["a 1", "b .", "a 3"]);
        assert_eq!(run.failures(), Vec::<String>::new());
    }

    #[test]
    fn demands_that_are_not_met() {
        let run = run("a 1\nb 2\na 3\n");
        run.count("^a", 1)
            .once("c")
            .never("b")
            .in_order(&["2", "1"])
            .exactly(&["a 1", "b 2"])
            .exactly(&["a"]);
        assert_eq!(run.failures().len(), 6, "{:?}", run.failures());
    }
}
