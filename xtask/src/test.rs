//! `cargo xtask test`: the host tests, then the guest tests in the emulator.

use crate::workspace::{self, Workspace};
use crate::{install, say};
use abi::ExitStatus;
use anyhow::{Context, Result};
use std::process::Command;

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
    let status = command.current_dir(&workspace.root).status().context("cannot run cargo")?;
    Ok(status.success())
}
