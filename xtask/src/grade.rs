//! `cargo xtask handout`: a tool of its own, the package `grade`, which is built when it is first asked for, so that
//! a first run need not wait for what only courses use.

use crate::workspace::{self, Workspace};
use abi::ExitStatus;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::process::Command;

/// The command line of the tool.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// `--help` says what there is
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Runs it, and returns its status.
///
/// # Errors
/// Cargo cannot be run.
pub fn main(subcommand: &str, args: &Args) -> Result<ExitStatus> {
    let root = Workspace::load()?.root;
    let manifest = root.join("Cargo.toml");
    let mut command = Command::new(workspace::cargo());
    command.args(["run", "--quiet", "--package", "grade", "--manifest-path"]).arg(manifest);
    let status = command.args(["--", subcommand]).args(&args.words).status().context("cannot run cargo")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitStatus::TOOL_FAILED, ExitStatus))
}
