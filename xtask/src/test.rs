//! `cargo xtask test`: the host tests, then the guest tests in the emulator.

use crate::workspace::{self, Workspace};
use crate::{install, say};
use abi::ExitStatus;
use anyhow::{Context, Result};
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// The command line of `test`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Only tests whose names contain this
    filter: Option<String>,
    /// List the tests, and run none
    #[arg(long)]
    list: bool,
    /// How many guest tests at the same time [default: as many as there are processors]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

/// Runs both, even if the first fails.
///
/// # Errors
/// The tool could not do its work.
pub fn main(args: &Args) -> Result<ExitStatus> {
    let workspace = Workspace::load()?;
    // Before anything long: this may ask.
    install::qemu()?;
    let host = cargo_test(&workspace, args, &["--no-fail-fast", "--quiet"], &[])?;
    let mut harness = Vec::new();
    if let Some(jobs) = args.jobs {
        harness.push(format!("--test-threads={jobs}"));
    }
    let guest = ["--quiet", "--package", "tests", "--test", "guest"];
    let guest = cargo_test(&workspace, args, &guest, &harness)?;
    Ok(match (host, guest) {
        (true, true) => ExitStatus::SUCCESS,
        (host, guest) => {
            for (passed, which) in [(host, "host"), (guest, "guest")] {
                if !passed {
                    say!("the {which} tests failed");
                }
            }
            ExitStatus::FAILURE
        }
    })
}

fn cargo_test(workspace: &Workspace, args: &Args, words: &[&str], harness: &[String]) -> Result<bool> {
    let mut command = Command::new(workspace::cargo());
    command.arg("test").args(words).arg("--").args(harness).args(&args.filter);
    if args.list {
        command.arg("--list");
    }
    let mut child =
        command.current_dir(&workspace.root).stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let stdout = child.stdout.take().context("cargo has no stdout")?;
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cannot read what the tests say")?;
        if !is_empty_suite(&line) && writeln!(io::stdout(), "{line}").is_err() {
            break;
        }
    }
    Ok(child.wait().context("cannot wait for cargo")?.success())
}

/// Most suites have no test that a filter lets through, and say so in four lines.
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
}
