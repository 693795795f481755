//! `cargo xtask clippy`: lints the bare-metal code with the flags that it is built with.

use crate::images::{Builder, Flavor};
use crate::{cargo::Cargo, say, workspace::Workspace};
use abi::ExitStatus;
use anyhow::Result;

/// Lints the kernels, the programs and libos. Any diagnostic that applies is a failure.
///
/// # Errors
/// Cargo cannot tell where the workspace is.
pub fn main() -> Result<ExitStatus> {
    let workspace = Workspace::load()?;
    let builder = Builder { strict: true, ..Builder::of(&workspace) };
    let mut runs: Vec<Cargo> = Flavor::ALL.into_iter().map(|flavor| builder.kernel("clippy", flavor)).collect();
    runs.push(builder.programs("clippy"));
    runs.push(Cargo { packages: vec!["libos".to_owned()], ..builder.programs("clippy") });
    // Linting compiles nothing to the end: all runs share one directory, apart from the real ones.
    let target_dir = workspace.target.join("clippy");
    let mut clean = true;
    for run in runs {
        let run = Cargo { target_dir: target_dir.clone(), ..run };
        clean &= run.run().inspect_err(|error| say!("{error:#}")).is_ok();
    }
    Ok(if clean { ExitStatus::SUCCESS } else { ExitStatus::FAILURE })
}
