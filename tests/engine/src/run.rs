//! A run that has ended, and demands on it. Unmet demands are collected, so that a failure reports all of them.

use crate::disk::UsedDisk;
use crate::expect::{self, Expect, Unmet, clip};
use abi::ExitStatus;
use regex::Regex;
use std::{cell::RefCell, fmt, time::Duration};
use xtask::report::Report;

/// A pattern of lines that only the kernel prints.
const KERNELS: &str = r"^\[[0-9a-f]{8}\] (new env|free env|exiting gracefully|destroying|destroyed:|user fault|user exception)|^kernel panic|^deadlock:|^time is up:";

/// How a machine ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The machine ended with this status; the emulator and the kernel agree.
    Status(ExitStatus),
    /// The machine was reset.
    Reset,
    /// The machine was ended from outside, after this time.
    Stuck(Duration),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            End::Status(status) => write!(f, "it was {status} ({})", status.0),
            End::Reset => f.write_str("the machine was reset"),
            End::Stuck(after) => write!(f, "the machine still ran after {} s", after.as_secs()),
        }
    }
}

/// A run that has ended.
pub struct Run {
    /// The output of the guest, byte for byte.
    pub console: String,
    /// How the machine ended.
    pub end: End,
    /// The kernel's report.
    pub report: Option<Report>,
    /// The word with which the kernel's lines begin, if it signed them.
    pub signature: Option<String>,
    /// The disks of the request.
    pub disks: Vec<UsedDisk>,
    unmet: RefCell<Vec<Unmet>>,
}

impl Run {
    /// A run without disks, of which no demand has been made.
    #[must_use]
    pub fn new(console: &[u8], end: End, report: Option<Report>, signature: Option<String>) -> Run {
        let console = String::from_utf8_lossy(console).into_owned();
        Run { console, end, report, signature, disks: Vec::new(), unmet: RefCell::default() }
    }

    /// This run, of a machine with these disks.
    #[must_use]
    pub fn with_disks(self, disks: Vec<UsedDisk>) -> Run {
        Run { disks, ..self }
    }

    /// The lines of the console, without carriage returns and signatures.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.signed_lines().map(|(_, line)| line)
    }

    /// The lines, with whether they are signed. A dump has several lines and one signature: indented lines that follow
    /// a signed one count as signed.
    fn signed_lines(&self) -> impl Iterator<Item = (bool, &str)> {
        let mut signed = false;
        self.console.lines().map(move |line| {
            let line = line.trim_end_matches('\r');
            let bare = self.signature.as_deref().and_then(|word| line.strip_prefix(word));
            signed = bare.is_some() || signed && line.starts_with("  ");
            (signed, bare.unwrap_or(line))
        })
    }

    /// Whether lines without a signature can be the kernel's, too: it signs none, or it has panicked. (A kernel that
    /// panics early has not yet read that it must sign its lines.)
    fn is_unsigned(&self) -> bool {
        self.signature.is_none() || self.end == End::Status(ExitStatus::KERNEL_PANIC)
    }

    /// The lines that the kernel printed, as far as that can be told.
    pub(crate) fn kernel_lines(&self) -> impl Iterator<Item = &str> {
        self.signed_lines().filter(|(signed, _)| *signed || self.is_unsigned()).map(|(_, line)| line)
    }

    /// The lines that match the pattern.
    #[must_use]
    pub fn matching(&self, pattern: &str) -> Vec<&str> {
        expect::matching(&self.lines().collect::<Vec<_>>(), pattern)
    }

    /// Frames that were not free in the end, if the machine ended with this status.
    #[must_use]
    pub fn lost_frames(&self, status: ExitStatus) -> i64 {
        let report = self.report.as_ref().filter(|_| self.end == End::Status(status));
        report.map_or(0, Report::missing_frames)
    }

    /// A line that looks like the kernel's, but has no signature.
    fn forged(&self) -> Option<Unmet> {
        let kernels = Regex::new(KERNELS).expect("a pattern");
        let mut foreign = self.signed_lines().filter(|(signed, _)| !signed && !self.is_unsigned());
        let (_, line) = foreign.find(|(_, line)| kernels.is_match(line))?;
        let expected = "only the kernel may print lines like this one; a program printed it";
        Some(Unmet { expected: expected.to_owned(), seen: vec![clip(line)] })
    }

    /// Demands that the machine ended with this status, and that no program printed a line that looks like the
    /// kernel's.
    pub fn ends(&self, wanted: ExitStatus) -> &Run {
        let mut unmet = self.unmet.borrow_mut();
        if self.end != End::Status(wanted) {
            unmet.push(Unmet::new(format!("{wanted} ({}) expected as the end; {}", wanted.0, self.end)));
        }
        unmet.extend(self.forged());
        self
    }

    /// Demands that all page frames were free when the machine ended with this status.
    pub fn frees_frames(&self, wanted: ExitStatus) -> &Run {
        let lost = self.lost_frames(wanted);
        self.expect(lost == 0, format!("all page frames expected to be free at the end; {lost} frames are missing"))
    }

    /// Demands that a condition holds.
    pub fn expect(&self, holds: bool, what: impl Into<String>) -> &Run {
        if !holds {
            self.unmet.borrow_mut().push(Unmet::new(what));
        }
        self
    }

    /// Records what the demand finds wrong with the lines, if anything.
    fn demand<U: IntoIterator<Item = Unmet>>(&self, demand: impl FnOnce(&[&str]) -> U) -> &Run {
        let unmet = demand(&self.lines().collect::<Vec<_>>());
        self.unmet.borrow_mut().extend(unmet);
        self
    }

    /// Makes all of these demands.
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
    pub fn unmet(&self) -> Vec<Unmet> {
        self.unmet.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: End = End::Status(ExitStatus::SUCCESS);

    fn run(console: &str) -> Run {
        Run::new(console.as_bytes(), FINE, None, None)
    }

    fn signed(console: &str, end: End) -> Run {
        Run::new(console.as_bytes(), end, None, Some("ab12".to_owned()))
    }

    #[test]
    fn demands_that_are_met() {
        let run = run("a 1\r\nb 2\na 3\n");
        run.count("^a", 2).once("b").never("c").in_order(&["1$", "2$", "3$"]).exactly(&["a 1", "b .", "a 3"]);
        assert_eq!(run.unmet(), []);
    }

    #[test]
    fn demands_that_are_not_met() {
        let run = run("a 1\nb 2\na 3\n");
        run.count("^a", 1).once("c").never("b").in_order(&["2", "1"]).exactly(&["a 1", "b 2"]).exactly(&["a"]);
        assert_eq!(run.unmet().len(), 6, "{:?}", run.unmet());
    }

    #[test]
    fn signatures_tell_who_wrote_a_line() {
        let console =
            "ab12[00000000] new env 00001000\r\nhello\n  mine\nab12[00001000] user fault va 1 ip 2\n  trap 0xe\nend\n";
        let run = signed(console, FINE);
        let kernels: Vec<bool> = run.signed_lines().map(|(signed, _)| signed).collect();
        assert_eq!(kernels, [true, false, false, true, true, false]);
        assert_eq!(run.lines().next(), Some("[00000000] new env 00001000"));
        assert_eq!(run.kernel_lines().count(), 3);
        assert_eq!(run.forged(), None);
        let forged = "[00001000] free env 00001000\n";
        assert!(signed(forged, FINE).forged().is_some());
        assert_eq!(signed(forged, End::Status(ExitStatus::KERNEL_PANIC)).forged(), None);
        assert_eq!(super::tests::run(forged).forged(), None);
    }

    #[test]
    fn ends_are_compared() {
        let unmet = |end, free_end| {
            let report = Report { nonce: String::new(), status: 0, free_start: 9, free_end, longest: 0 };
            let run = Run::new(b"", end, Some(report), None);
            run.ends(ExitStatus::SUCCESS).frees_frames(ExitStatus::SUCCESS).unmet().len()
        };
        assert_eq!(unmet(FINE, 9), 0);
        assert_eq!(unmet(FINE, 8), 1);
        assert_eq!(unmet(End::Status(ExitStatus::FAILURE), 8), 1);
        assert_eq!([unmet(End::Reset, 9), unmet(End::Stuck(Duration::ZERO), 9)], [1, 1]);
    }
}
