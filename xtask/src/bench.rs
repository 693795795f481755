//! `cargo xtask bench`: counts instructions.

use abi::ExitStatus;
use anyhow::{Result, bail};

/// The command line of `bench`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Only these rows
    rows: Vec<String>,
}

/// Boots the counting program.
///
/// # Errors
/// The tool could not do its work.
pub fn main(_: &Args) -> Result<ExitStatus> {
    bail!("not there yet")
}
