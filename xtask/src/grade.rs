//! `cargo xtask grade` and `cargo xtask handout`: run a separate tool, the package `grade`.

use crate::workspace::Workspace;
use abi::ExitStatus;
use anyhow::Result;
use std::ffi::OsString;

/// The command line of the tool.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// `--help` lists the options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// The status of `grade` if it could not grade, so that 1 always means a bad grade.
const COULD_NOT_GRADE: u8 = 2;

/// Runs the grader and returns its status; 2 if there is no grader.
#[must_use]
pub fn grade(args: &Args) -> ExitStatus {
    match main("grade", args) {
        Ok(status) if status.0 < COULD_NOT_GRADE => status,
        Ok(_) => ExitStatus(COULD_NOT_GRADE),
        Err(error) => {
            crate::say!("{error:#}");
            ExitStatus(COULD_NOT_GRADE)
        }
    }
}

/// Runs a subcommand of the package `grade`, and returns its status.
///
/// # Errors
/// Cargo cannot be run.
pub fn main(subcommand: &str, args: &Args) -> Result<ExitStatus> {
    let words: Vec<OsString> = [subcommand.into()].into_iter().chain(args.words.iter().cloned()).collect();
    let status = Workspace::load()?.run_binary("grade", &[], &words)?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitStatus::TOOL_FAILED, ExitStatus))
}
