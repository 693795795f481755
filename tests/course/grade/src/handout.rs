//! The students' tree of a lab: the solution, without what they are to write.
//!
//! What that is say markers in the source ([`markers`]). A handout is the solution but for the files that the rubric
//! names for the lab: so a submission is graded by putting those of the student's files into the solution.

mod leak;
mod markers;
mod tree;

use crate::rubric::{self, Lab, Rubric};
use anyhow::{Result, bail, ensure};
use markers::Piece;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use tree::{File, Missing};
use xtask::say;
use xtask::workspace::Workspace;

/// The command line of `handout`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Which lab
    #[arg(long, value_name = "NAME")]
    pub lab: String,
    /// Where to make it; must not exist, or be empty
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
}

/// Makes it.
///
/// # Errors
/// There is no such lab, its markers are wrong, or the tree cannot be written.
pub fn main(args: &Args) -> Result<()> {
    let root = Workspace::load()?.root;
    let rubric = Rubric::load(&root)?;
    let handout = Handout::of(&tree::read(&root)?, &rubric.labs, &args.lab)?;
    tree::write(&root, &args.output, &handout.files)?;
    let dir = args.output.display();
    say!("{dir}: lab `{}`, {} exercises; README.md there says how to begin", args.lab, handout.exercises);
    Ok(())
}

/// What students get on without: other labs, mistakes to learn from, what only developers of the solution need.
const LEFT_OUT: [&str; 11] = [
    ".ci/",
    ".github/",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "docs/labs/",
    "tests/docs.rs",
    "tests/guest/handouts.rs",
    "tests/guest/mutants.rs",
    "tests/course/mutants/",
    "tests/house/",
];

/// A handout.
struct Handout {
    files: Vec<File>,
    /// How many there are.
    exercises: u32,
}

impl Handout {
    /// What the lab of this name gets of the solution.
    fn of(solution: &[File], labs: &[Lab], name: &str) -> Result<Handout> {
        let lab = rubric::lab(labs, name)?;
        let parsed = solution.iter().map(File::pieces).collect::<Result<Vec<_>>>()?;
        let parts = solution.iter().zip(&parsed).flat_map(|(file, pieces)| {
            let parts = pieces.iter().filter_map(Piece::part);
            parts.map(move |part| (file, part))
        });
        let parts: Vec<Missing> = parts.collect();
        parts.iter().try_for_each(|part| check_lab(part, labs))?;
        let missing: Vec<Missing> = parts.into_iter().filter(|(_, part)| part.is_missing_in(name)).collect();
        let exercises = check_numbers(&missing, lab)?;
        let stays =
            |file: &File| file.path == lab.text || !LEFT_OUT.iter().any(|out| file.path.starts_with(out));
        let files = solution.iter().zip(&parsed).filter(|(file, _)| stays(file));
        let mut files: Vec<File> = files.map(|(file, pieces)| file.without(pieces, name)).collect();
        leak::check(&missing, &files)?;
        let open: Vec<&str> = missing
            .iter()
            .filter(|(_, part)| part.exercise.is_some())
            .map(|(file, _)| file.path.as_str())
            .collect();
        let roots: BTreeSet<String> = open.into_iter().map(|path| crate_root(path, &files)).collect();
        files.iter_mut().filter(|file| roots.contains(&file.path)).for_each(File::allow_unused);
        files.push(File::new("README.md", readme(lab, &missing)));
        Ok(Handout { files, exercises })
    }
}

/// The file that a crate begins with: for a program, it is the program.
fn crate_root(path: &str, files: &[File]) -> String {
    let root = path.split_once("/src/").map(|(package, _)| format!("{package}/src/lib.rs"));
    root.filter(|root| files.iter().any(|file| file.path == *root)).unwrap_or_else(|| path.to_owned())
}

/// The lab that a marker names exists, and its students may change the file.
fn check_lab((file, part): &Missing, labs: &[Lab]) -> Result<()> {
    let Some(name) = &part.lab else { return Ok(()) };
    let (path, line) = (&file.path, part.line);
    let Some(lab) = labs.iter().find(|lab| lab.name == *name) else {
        bail!("{path}:{line}: there is no lab `{name}` in {}", rubric::PATH);
    };
    ensure!(
        lab.files.contains(path),
        "{path}:{line}: {} does not name this file for the lab `{name}`: its students could not change it",
        rubric::PATH
    );
    Ok(())
}

/// Exercises are numbered from 1, without gaps. Returns how many there are.
fn check_numbers(missing: &[Missing], lab: &Lab) -> Result<u32> {
    let number = |(_, part): &Missing| part.exercise;
    let Some(last) = missing.iter().filter_map(number).max() else {
        bail!("no marker in {} names the lab `{}`", lab.files.join(", "), lab.name);
    };
    for wanted in 1..=last {
        let Some(above) = missing.iter().find(|part| number(part) > Some(wanted)) else { continue };
        ensure!(
            missing.iter().any(|part| number(part) == Some(wanted)),
            "{}:{}: this is exercise {}, but there is no exercise {wanted}",
            above.0.path,
            above.1.line,
            above.1.exercise.unwrap_or(last)
        );
    }
    Ok(last)
}

/// What students read first.
fn readme(lab: &Lab, missing: &[Missing]) -> String {
    let mut exercises: Vec<&Missing> = missing.iter().filter(|(_, part)| part.exercise.is_some()).collect();
    exercises.sort_by_key(|(_, part)| part.exercise);
    let mut list = String::new();
    for (file, part) in exercises {
        let _ = writeln!(list, "| {} | {} | {} |", part.exercise.unwrap_or(0), part.text, file.path);
    }
    let files: Vec<String> = lab.files.iter().map(|file| format!("* {file}\n")).collect();
    let program = lab.tests.first().map_or("hello", String::as_str);
    format!(
        include_str!("handout/README.md"),
        title = lab.title,
        text = lab.text,
        name = lab.name,
        exercises = list,
        files = files.concat(),
        program = program,
    )
}

#[cfg(test)]
mod tests;
