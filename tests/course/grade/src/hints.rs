//! Hints about the cause of a failure: rules of the rubric first, then those that are built in.

use crate::rubric::Rule;
use abi::{ExitStatus, Vector};
use engine::End;
use regex::Regex;

/// The signs of a run that failed.
pub struct Signs<'a> {
    /// The test.
    pub test: &'a str,
    /// How the machine ended.
    pub end: End,
    /// The expected exit status.
    pub wanted: ExitStatus,
    /// The lines of the console, without signatures.
    pub lines: &'a [&'a str],
    /// The demands that were not met.
    pub unmet: &'a [String],
}

/// The built-in rules: a pattern for a line of the console, and the hint.
const KNOWN: &[(&str, &str)] = &[
    (r"panicked at ([^ ]+): not yet implemented(?:: (.*))?$", "this code is not written yet: $2 ($1)"),
    // The kernel prints the message on a line of its own.
    (r"^not yet implemented(?:: (.*))?$", "this code is not written yet: $1"),
    (
        r"NoRight|not held with the rights asked for",
        "a call asked for a right that the page does not have: a page keeps MAY when copy-on-write takes WRITE away, and a read-only page stays read-only",
    ),
    (
        r"the exception stack is full",
        "nested faults filled the exception stack: the upcall itself faults, every time that it is called",
    ),
    (
        r"user fault va 0000000000000000 ip 0000000000000000",
        "a jump to address 0: a return address or a pointer to a function was lost",
    ),
    (
        r"^\[(0000[1-9a-f]00[1-9a-f]|0000[2-9a-f]000)\] destroyed: .* and nobody handles it",
        "the child $1 has no upcall: a child begins without one",
    ),
    (
        r"the (?:parent's memory|children counted in the parent's memory)",
        "the child's write reached the parent's frame: the page is writable in both",
    ),
    (
        r"MISMATCH",
        "a register, a flag or the red zone did not survive the fault: check what the upcall saves, and how it returns",
    ),
    (
        r"free at the end; ([1-9][0-9]*) frames are missing",
        "the kernel lost $1 page frames: when an environment ends, the kernel must free all its frames. With `--check`, as below, the kernel stops at the call that loses a frame, and names the caller",
    ),
    (
        r"^[^;]*\b([1-9][0-9]*) frames are missing",
        "$1 page frames are still mapped somewhere: was a temporary mapping not removed?",
    ),
    (
        r"a neighbour changed",
        "a write reached a page next to the one that was meant: how is the page's address computed?",
    ),
    (
        r"ran on two CPUs at once",
        "counts were lost: a page that should be the child's own is shared, or a stale TLB entry is in use",
    ),
];

/// The hints for a failure, the most specific first.
#[must_use]
pub fn find(own: Option<&str>, rules: &[Rule], signs: &Signs) -> Vec<String> {
    let mut hints: Vec<String> = own.map(str::to_owned).into_iter().collect();
    let applies = |rule: &&Rule| rule.tests.is_empty() || rule.tests.iter().any(|test| test == signs.test);
    hints.extend(rules.iter().filter(applies).filter_map(|rule| spoken(&rule.when.0, &rule.say, signs)));
    hints.extend(KNOWN.iter().filter_map(|(pattern, text)| spoken(pattern, text, signs)));
    hints.extend(of_end(signs));
    hints.dedup();
    hints
}

/// The hint with its groups filled in, if a line matches the pattern.
fn spoken(pattern: &str, text: &str, signs: &Signs) -> Option<String> {
    let pattern = Regex::new(pattern).ok()?;
    let mut lines = signs.lines.iter().copied().chain(signs.unmet.iter().map(String::as_str));
    let found = lines.find_map(|line| pattern.captures(line))?;
    let mut spoken = String::new();
    found.expand(text, &mut spoken);
    Some(spoken)
}

/// The hint that follows from the end alone.
fn of_end(signs: &Signs) -> Option<String> {
    let status = match signs.end {
        End::Reset => {
            return Some(
                "a triple fault: the processor could not deliver an exception. That is a kernel bug".to_owned(),
            );
        }
        End::Stuck(_) => {
            return Some("the kernel itself hangs: not even its timer ended the machine".to_owned());
        }
        End::Status(status) if status == signs.wanted => return None,
        End::Status(status) => status,
    };
    let text = match status {
        ExitStatus::KERNEL_PANIC => "the kernel panicked: no program must be able to cause that",
        ExitStatus::TIMEOUT => {
            "the program ran until its time limit: the places of all environments are below. A fault that is not resolved is repeated forever"
        }
        ExitStatus::DEADLOCK => {
            "all environments wait, and none can wake another: was a child never made runnable, or a message never sent?"
        }
        ExitStatus::PANIC => "the program panicked: its last line gives the place and the reason",
        ExitStatus::DESTROYED => "another environment destroyed it",
        _ if status == ExitStatus::killed_by(Vector::PAGE_FAULT) => {
            "a page fault that no handler resolved killed it: see va, ip and err in the dump"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(end: End, lines: &[&str], rules: &[Rule]) -> Vec<String> {
        let signs = Signs { test: "forktree", end, wanted: ExitStatus::SUCCESS, lines, unmet: &[] };
        find(None, rules, &signs)
    }

    #[test]
    fn what_is_seen_is_told() {
        let fine = End::Status(ExitStatus::SUCCESS);
        let todo = "[00001000] panicked at lib/pager/src/fork.rs:9:5: not yet implemented: exercise 2";
        assert_eq!(hints(fine, &[todo], &[]), ["this code is not written yet: exercise 2 (lib/pager/src/fork.rs:9:5)"]);
        let todo = ["kernel panic: panicked at kern/vm/src/build.rs:9:5:", "not yet implemented: exercise 1"];
        assert_eq!(hints(fine, &todo, &[]), ["this code is not written yet: exercise 1"]);
        assert!(hints(fine, &["round 3: 7 frames are missing"], &[])[0].starts_with("7 page frames"));
        assert!(
            hints(fine, &["[00001001] destroyed: Page Fault, and nobody handles it"], &[])[0]
                .contains("child 00001001")
        );
        assert_eq!(
            hints(fine, &["[00001000] destroyed: Page Fault, and nobody handles it"], &[]),
            Vec::<String>::new()
        );
        assert!(hints(End::Reset, &[], &[])[0].contains("triple fault"));
        assert!(hints(End::Status(ExitStatus::KERNEL_PANIC), &[], &[])[0].contains("kernel panicked"));
        assert!(hints(End::Status(ExitStatus::TIMEOUT), &[], &[])[0].contains("time limit"));
        assert_eq!(hints(fine, &[], &[]), Vec::<String>::new());
    }

    #[test]
    fn rules_of_the_rubric_come_first() {
        let rule: Rule = toml::from_str("when = 'x is ([0-9]+)'\nsay = 'not $1'\ntests = ['forktree']").unwrap();
        let other = Rule { tests: vec!["spin".to_owned()], ..rule.clone() };
        let lines = ["x is 7", "MISMATCH"];
        let told = hints(End::Status(ExitStatus::SUCCESS), &lines, &[other, rule]);
        assert_eq!((told[0].as_str(), told.len()), ("not 7", 2));
    }
}
