//! `cargo xtask ci`: everything that must hold before a change is merged.
//!
//! The steps are data: each is what follows `cargo` on a command line. They run in order, the cheap ones first, and the
//! first failure ends the run.

use crate::say;
use crate::workspace::{self, HOST, Workspace};
use abi::ExitStatus;
use anyhow::{Context, Result};
use std::io::{Write, stderr};
use std::process::Command;

/// A step: the words after `cargo`.
type Step = &'static [&'static str];

/// The steps, in their order.
pub const STEPS: [Step; 6] = [
    &["fmt", "--all", "--check"],
    &["clippy", "--quiet", "--target", HOST, "--all-targets", "--", "-D", "warnings"],
    // A target with `test = false` is not among `--all-targets`, so it is named. Its package is not: cargo would choose
    // other features of dependencies for it alone, and compile them once more.
    &["clippy", "--quiet", "--target", HOST, "--test", "guest", "--", "-D", "warnings"],
    &["xtask", "clippy"],
    &["xtask", "doc"],
    &["xtask", "test"],
];

/// Runs the steps until one fails.
///
/// # Errors
/// Cargo cannot be run.
pub fn main() -> Result<ExitStatus> {
    let workspace = Workspace::load()?;
    let failed = first_failure(&STEPS, |step| {
        let _ = writeln!(stderr(), "\n== {}", command_line(step));
        let mut cargo = Command::new(workspace::cargo());
        let status = cargo.args(step).current_dir(&workspace.root).status().context("cannot run cargo")?;
        Ok(status.success())
    })?;
    let Some((index, step)) = failed else {
        say!("all {} steps passed", STEPS.len());
        return Ok(ExitStatus::SUCCESS);
    };
    say!("step {} of {} failed: {}", index + 1, STEPS.len(), command_line(step));
    Ok(ExitStatus::FAILURE)
}

/// The command line of a step.
fn command_line(step: Step) -> String {
    format!("cargo {}", step.join(" "))
}

/// Runs steps in order. Returns the first one that fails, with its index; later ones are not run.
fn first_failure(steps: &[Step], mut passes: impl FnMut(Step) -> Result<bool>) -> Result<Option<(usize, Step)>> {
    for (index, &step) in steps.iter().enumerate() {
        if !passes(step)? {
            return Ok(Some((index, step)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formatting_comes_first_and_the_tests_come_last() {
        assert_eq!(STEPS[0][0], "fmt");
        let tests: Step = &["xtask", "test"];
        assert_eq!(STEPS.iter().position(|step| *step == tests), Some(STEPS.len() - 1));
    }

    #[test]
    fn lints_of_host_code_deny_warnings_and_name_the_target() {
        let lints: Vec<_> = STEPS.iter().filter(|step| step[0] == "clippy").collect();
        assert_eq!(lints.len(), 2);
        for step in lints {
            assert!(step.ends_with(&["--", "-D", "warnings"]), "{step:?}");
            assert!(step.windows(2).any(|pair| pair == ["--target", HOST]), "{step:?}");
        }
    }

    #[test]
    fn nothing_runs_after_a_failure() {
        let mut ran = Vec::new();
        let failed = first_failure(&STEPS, |step| {
            ran.push(step);
            Ok(ran.len() != 3)
        });
        assert_eq!(failed.unwrap(), Some((2, STEPS[2])));
        assert_eq!(ran, STEPS[..3]);
    }

    #[test]
    fn without_a_failure_every_step_runs() {
        let mut ran = Vec::new();
        let failed = first_failure(&STEPS, |step| {
            ran.push(step);
            Ok(true)
        });
        assert_eq!(failed.unwrap(), None);
        assert_eq!(ran, STEPS);
    }
}
