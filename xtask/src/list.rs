//! `cargo xtask list`: the programs, a line each.

use crate::workspace::Workspace;
use abi::ExitStatus;
use anyhow::Result;
use std::io::{Write, stdout};

/// Prints them.
///
/// # Errors
/// Cargo cannot tell which there are.
pub fn main() -> Result<ExitStatus> {
    let workspace = Workspace::load()?;
    let width = workspace.programs.iter().map(|program| program.name.len()).max().unwrap_or(0);
    let mut out = stdout().lock();
    for program in &workspace.programs {
        let line = format!("{:width$}  {}", program.name, program.summary());
        // A reader that has seen enough is no error.
        if writeln!(out, "{}", line.trim_end()).is_err() {
            break;
        }
    }
    Ok(ExitStatus::SUCCESS)
}
