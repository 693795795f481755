//! The students' tree of a lab: the solution, without what they are to write.
//!
//! What that is say markers in the source ([`markers`]); what comes in its place, [`stubs`]; and what a handout does
//! without besides, a list ([`left_out`]). A handout is the solution but for that: so a submission is graded by putting
//! the files that the rubric names for the lab into the solution.

mod code;
mod exercises;
mod leak;
mod left_out;
mod markers;
mod parts;
mod stubs;
mod tree;

use crate::rubric::{self, Lab, Rubric};
use anyhow::{Result, bail, ensure};
use left_out::LeftOut;
use parts::{Exercise, Missing, Part};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use stubs::Stubs;
use tree::File;
use xtask::{say, workspace::Workspace};

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
    let course = Course::load(&root)?;
    let handout = Handout::of(&tree::read(&root)?, &course, &args.lab)?;
    tree::write(&root, &args.output, &handout.files)?;
    let dir = args.output.display();
    say!("{dir}: lab `{}`, {} exercises; README.md there says how to begin", args.lab, handout.exercises);
    Ok(())
}

/// What `tests/course` says of handouts.
struct Course {
    labs: Vec<Lab>,
    stubs: Stubs,
    left_out: LeftOut,
}

impl Course {
    fn load(root: &Path) -> Result<Course> {
        let labs = Rubric::load(root)?.labs;
        Ok(Course { labs, stubs: Stubs::load(root)?, left_out: LeftOut::load(root)? })
    }

    /// The parts of a file that some handout does not have.
    fn parts(&self, file: &File) -> Result<Vec<Part>> {
        let mut parts = exercises::of(file, &self.stubs)?;
        parts.extend(self.left_out.of(file)?);
        parts.iter().try_for_each(|part| check_lab(file, part, &self.labs))?;
        Ok(parts)
    }

    /// Whether the handout of a lab has this file.
    fn has(&self, lab: &Lab, path: &str) -> bool {
        let mut gone = self.left_out.files.iter().map(String::as_str).chain([stubs::PATH, left_out::PATH]);
        path == lab.text || !gone.any(|gone| path == gone || (gone.ends_with('/') && path.starts_with(gone)))
    }
}

/// A handout.
struct Handout {
    files: Vec<File>,
    /// How many there are.
    exercises: u32,
}

impl Handout {
    /// The handout of the lab with this name.
    fn of(solution: &[File], course: &Course, name: &str) -> Result<Handout> {
        let lab = rubric::lab(&course.labs, name)?;
        course.left_out.check_files(solution)?;
        let parts = solution.iter().map(|file| course.parts(file)).collect::<Result<Vec<_>>>()?;
        let all = || solution.iter().zip(&parts);
        let each: Vec<Missing> = all().flat_map(|(file, parts)| parts.iter().map(move |part| (file, part))).collect();
        let marked: Vec<_> = each.iter().filter_map(|(file, part)| part.marked(file)).collect();
        course.stubs.check_all_used(&marked)?;
        let missing: Vec<Missing> = each.into_iter().filter(|(_, part)| part.is_missing_in(name)).collect();
        let exercises = check_numbers(&missing, lab)?;
        let files = all().filter(|(file, _)| course.has(lab, &file.path));
        let files = files.map(|(file, parts)| parts::without(file, parts, name));
        let mut files = files.collect::<Result<Vec<File>>>()?;
        leak::check(&missing, &files)?;
        let roots: BTreeSet<String> = exercises_of(&missing).map(|(file, _)| crate_root(&file.path, &files)).collect();
        files.iter_mut().filter(|file| roots.contains(&file.path)).for_each(File::allow_unused);
        files.push(File::new("README.md", readme(lab, &missing)));
        Ok(Handout { files, exercises })
    }
}

/// The exercises among what is missing, with their files.
fn exercises_of<'a>(missing: &[Missing<'a>]) -> impl Iterator<Item = (&'a File, &'a Exercise)> {
    missing.iter().filter_map(|(file, part)| Some((*file, part.exercise.as_ref()?)))
}

/// The file that a crate begins with: for a program, it is the program.
fn crate_root(path: &str, files: &[File]) -> String {
    let root = path.split_once("/src/").map(|(package, _)| format!("{package}/src/lib.rs"));
    root.filter(|root| files.iter().any(|file| file.path == *root)).unwrap_or_else(|| path.to_owned())
}

/// The lab that a part is missing in exists, and its students may change the file.
fn check_lab(file: &File, part: &Part, labs: &[Lab]) -> Result<()> {
    let (Some(name), place) = (&part.lab, &part.place) else { return Ok(()) };
    let Some(lab) = labs.iter().find(|lab| lab.name == *name) else {
        bail!("{place}: there is no lab `{name}` in {}", rubric::PATH);
    };
    ensure!(
        lab.files.contains(&file.path),
        "{place}: {} does not name this file for the lab `{name}`: its students could not change it",
        rubric::PATH
    );
    Ok(())
}

/// Exercises are numbered from 1, without gaps. Returns how many there are.
fn check_numbers(missing: &[Missing], lab: &Lab) -> Result<u32> {
    let numbers: BTreeSet<u32> = exercises_of(missing).map(|(_, exercise)| exercise.number).collect();
    let Some(&last) = numbers.last() else {
        bail!("no marker in {} names the lab `{}`", lab.files.join(", "), lab.name);
    };
    let mut places = missing.iter().filter_map(|(_, part)| Some((&part.place, part.exercise.as_ref()?.number)));
    if let Some(wanted) = (1..last).find(|wanted| !numbers.contains(wanted))
        && let Some((place, number)) = places.find(|(_, number)| *number > wanted)
    {
        bail!("{place}: this is exercise {number}, but there is no exercise {wanted}");
    }
    Ok(last)
}

/// What students read first.
fn readme(lab: &Lab, missing: &[Missing]) -> String {
    let mut exercises: Vec<_> = exercises_of(missing).collect();
    exercises.sort_by_key(|(_, exercise)| exercise.number);
    let mut list = String::new();
    for (file, exercise) in exercises {
        let _ = writeln!(list, "| {} | {} | {} |", exercise.number, exercise.text, file.path);
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
