//! The students' tree of a lab: the solution, without what they are to write.

use crate::rubric::Rubric;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use xtask::workspace::Workspace;

/// The command line of `handout`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Which lab
    #[arg(long, value_name = "NAME")]
    lab: String,
    /// Where to make it; must not exist, or be empty
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

/// Makes it.
///
/// # Errors
/// There is no such lab, its markers are wrong, or the tree cannot be written.
pub fn main(args: &Args) -> Result<()> {
    let workspace = Workspace::load()?;
    let rubric = Rubric::load(&workspace.root)?;
    let lab = rubric.labs.iter().find(|lab| lab.name == args.lab);
    let lab = lab.with_context(|| format!("there is no lab `{}`", args.lab))?;
    bail!("{} ({}) cannot be made in {}", lab.title, lab.files.join(", "), args.output.display())
}
