//! `cargo xtask list`: the programs, one line each.

use crate::workspace::Workspace;
use abi::ExitStatus;
use anyhow::Result;
use std::io::{Write, stdout};

/// Prints the programs.
///
/// # Errors
/// Cargo cannot list them.
pub fn main() -> Result<ExitStatus> {
    let workspace = Workspace::load()?;
    let width = workspace.programs.iter().map(|program| program.name.len()).max().unwrap_or(0);
    let mut out = stdout().lock();
    for program in &workspace.programs {
        let line = format!("{:width$}  {}", program.name, program.summary());
        // A reader that closes the pipe early is not an error.
        if writeln!(out, "{}", line.trim_end()).is_err() {
            break;
        }
    }
    Ok(ExitStatus::SUCCESS)
}
