//! `cargo xtask grade`: dispatches the command line.

use crate::class;
use crate::grade::{Args, Grader};
use crate::submission::{Submission, name_of};
use anyhow::{Context, Result, ensure};
use xtask::machine::shell_word;

/// Executes the command line; returns whether everybody has full marks.
///
/// # Errors
/// The grader could not do its work.
pub fn main(args: &Args) -> Result<bool> {
    if !args.merge.is_empty() {
        return class::merge(args);
    }
    let grader = Grader::prepare(args)?;
    if let Some(directory) = &args.submissions {
        return class::grade(&grader, args, directory);
    }
    let graded = match &args.submission {
        Some(path) => {
            let name = args
                .name
                .clone()
                .or_else(|| name_of(path))
                .context("the submission has no name; --name gives it one")?;
            let options = format!(" --submission {}", shell_word(path.as_os_str()));
            let dir = grader.build_dir()?;
            let submission = Submission::read(path, &grader.wanted())?;
            grader.grade(&name, &options, &submission, &dir, grader.jobs)?
        }
        None => grader.grade_here(args.name.as_deref())?,
    };
    print!("{}", args.format.write(&graded)?);
    ensure!(!graded.is_uncertain(), "some tests could not be run");
    Ok(graded.is_full())
}
