//! `cargo xtask test`: the host tests, then the guest tests in the emulator.

use crate::workspace::{self, Workspace};
use crate::{install, say};
use abi::ExitStatus;
use anyhow::{Context, Result, bail};
use std::io::{self, BufRead, BufReader, Write};
use std::num::NonZeroUsize;
use std::process::{Command, Stdio};

/// The command line of `test`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Only tests whose names contain this
    filter: Option<String>,
    /// With the tests that take long: every mutant, every model of processors
    #[arg(long)]
    all: bool,
    /// List the tests, and run none
    #[arg(long)]
    list: bool,
    /// How many guest tests run at the same time [default: as many as there are processors]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
}

/// The environment variables that enable the tests that take long, by kind.
const LONG_VARIABLES: [&str; 2] = ["FAULTLINE_MUTANTS", "FAULTLINE_PROCESSORS"];

/// The result of the tests of one run of cargo.
struct Outcome {
    passed: bool,
    /// Whether there was a test to run, or to list.
    any: bool,
}

/// Runs the host tests and the guest tests, even if the first fail.
///
/// # Errors
/// The tool could not do its work, or no test has such a name.
pub fn main(args: &Args) -> Result<ExitStatus> {
    let workspace = Workspace::load()?;
    // Before anything long, because this may ask the user.
    install::qemu()?;
    let host = cargo_test(&workspace, args, &["--no-fail-fast", "--quiet"], &[])?;
    let mut harness = Vec::new();
    if let Some(jobs) = args.jobs {
        harness.push(format!("--test-threads={jobs}"));
    }
    // Without `--package`, dependencies have the features that they have for the host tests, and are not compiled
    // again.
    let guest = ["--quiet", "--test", "guest"];
    let guest = cargo_test(&workspace, args, &guest, &harness)?;
    for (outcome, which) in [(&host, "host"), (&guest, "guest")] {
        if !outcome.passed {
            say!("the {which} tests failed");
        }
    }
    if !(host.passed && guest.passed) {
        return Ok(ExitStatus::FAILURE);
    }
    match &args.filter {
        Some(filter) if !(host.any || guest.any) => {
            bail!("no test's name contains {filter:?}; `cargo xtask test --list` shows them")
        }
        _ => Ok(ExitStatus::SUCCESS),
    }
}

fn cargo_test(workspace: &Workspace, args: &Args, words: &[&str], harness: &[String]) -> Result<Outcome> {
    let mut command = Command::new(workspace::cargo());
    command.args(["test", "--target", workspace::HOST]).args(words).arg("--").args(harness).args(&args.filter);
    if args.list {
        command.arg("--list");
    }
    if args.all {
        command.envs(LONG_VARIABLES.map(|name| (name, "all")));
    }
    command.current_dir(&workspace.root).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot run cargo")?;
    let stdout = child.stdout.take().context("cargo has no stdout")?;
    let mut any = false;
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cannot read the output of the tests")?;
        any |= tells_of_tests(&line);
        if !is_empty_suite(&line) && writeln!(io::stdout(), "{line}").is_err() {
            break;
        }
    }
    let passed = child.wait().context("cannot wait for cargo")?.success();
    Ok(Outcome { passed, any })
}

/// Whether a line begins a suite that has tests, or lists a test.
fn tells_of_tests(line: &str) -> bool {
    line.starts_with("running ") && line != "running 0 tests" || line.ends_with(": test")
}

/// Whether a line is from a suite without a test that passes the filter. Most suites are like that, with four lines
/// each.
fn is_empty_suite(line: &str) -> bool {
    let nothing_ran = line.starts_with("test result: ok. 0 passed; 0 failed; 0 ignored");
    line.is_empty() || line == "running 0 tests" || nothing_ran || line.starts_with("all doctests ran")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_that_ran_are_shown() {
        assert!(is_empty_suite("running 0 tests"));
        assert!(!is_empty_suite("running 10 tests"));
        assert!(!is_empty_suite("test result: ok. 10 passed; 0 failed; 0 ignored; 0 measured"));
        assert!(!is_empty_suite("test result: FAILED. 0 passed; 1 failed; 0 ignored"));
    }

    #[test]
    fn a_filter_that_fits_nothing_is_noticed() {
        for line in ["running 1 test", "running 10 tests", "test::tests::suites_that_ran_are_shown: test"] {
            assert!(tells_of_tests(line), "{line}");
        }
        for line in ["running 0 tests", "", "test result: ok. 0 passed; 0 failed; 0 ignored", "0 tests, 0 benchmarks"] {
            assert!(!tells_of_tests(line), "{line}");
        }
    }
}
