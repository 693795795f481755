//! `cargo xtask grade`: the command line, and the grading of one tree.

use crate::compile::{self, Built};
use crate::format::Format;
use crate::permitted::Permitted;
use crate::place::Wanted;
use crate::result::{Graded, Status, TestResult};
use crate::rubric::{Rubric, Rule, Test};
use crate::shard::Shard;
use crate::submission::{Files, Submission, digest, pieces};
use crate::tree::{self, BuildDir};
use crate::trial::{self, blank};
use anyhow::{Context, Result, bail};
use engine::Testbed;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{collections::BTreeSet, ffi::OsStr, num::NonZero, thread};
use xtask::images::{Builder, Flavor, Images};
use xtask::{emulator::Version, install, interrupt, machine::shell_word, workspace::Workspace};

/// The number of notes about files that are printed; more would help nobody.
const NOTES: usize = 20;
/// The version of the results' format. Results of a grader that says less, or reads submissions in another way, are not
/// reused.
const FORM: &str = "2";

/// The command line of `grade`.
#[derive(clap::Args, Clone, Default, Debug)]
pub struct Args {
    /// Only tests whose names contain one of these words
    pub filter: Vec<String>,
    /// Only this lab: its tests, and the files that it lets students change
    #[arg(long, value_name = "NAME")]
    pub lab: Option<String>,
    /// A rubric with tests that students do not have
    #[arg(long, value_name = "FILE")]
    pub rubric: Option<PathBuf>,
    /// Grade a submission: a directory, a .tar, .tar.gz, .tgz or .zip, a single .rs, or with --partial a
    /// .patch for the reference
    #[arg(long, value_name = "PATH", conflicts_with = "submissions")]
    pub submission: Option<PathBuf>,
    /// Grade all submissions in this directory
    #[arg(long, value_name = "DIR")]
    pub submissions: Option<PathBuf>,
    /// The name of the student [default: the name of the directory or archive]
    #[arg(long, conflicts_with = "submissions")]
    pub name: Option<String>,
    /// A pattern of files that students may change; replaces those of the rubric
    #[arg(long, value_name = "PATTERN")]
    pub files: Vec<String>,
    /// Take files that a submission lacks from the reference: submissions are changes
    #[arg(long)]
    pub partial: bool,
    /// Give each student a variant of the tests, chosen by this word and the name
    #[arg(long, value_name = "WORD")]
    pub vary: Option<String>,
    /// The format of the output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// How many submissions are graded at the same time [default: as many as there are processors]
    #[arg(long, value_name = "N")]
    pub jobs: Option<NonZero<usize>>,
    /// Where the results of --submissions are written, and an interrupted run finds them [default: grades in the
    /// directory of the build]
    #[arg(long, short, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Only each N-th submission, beginning with the I-th: `1/4` to `4/4` are all
    #[arg(long, value_name = "I/N", requires = "submissions")]
    pub shard: Option<Shard>,
    /// Merge the results in these directories
    #[arg(long, value_name = "DIR", num_args = 1.., conflicts_with_all = ["submissions", "submission", "filter"])]
    pub merge: Vec<PathBuf>,
}

impl Args {
    /// The options that repeat this run.
    fn to_repeat(&self) -> String {
        let mut words = String::new();
        let mut add = |option: &str, value: &OsStr| {
            words.push_str(&format!(" --{option} {}", shell_word(value)));
        };
        self.lab.iter().for_each(|lab| add("lab", lab.as_ref()));
        self.rubric.iter().for_each(|path| add("rubric", path.as_ref()));
        self.vary.iter().for_each(|word| add("vary", word.as_ref()));
        self.files.iter().for_each(|pattern| add("files", pattern.as_ref()));
        if self.partial {
            words.push_str(" --partial");
        }
        words
    }
}

/// State shared by all submissions.
pub struct Grader {
    workspace: Workspace,
    qemu: PathBuf,
    /// The reference's kernel, unless each submission has its own.
    kernel: PathBuf,
    /// The rules for hints.
    rules: Vec<Rule>,
    /// The tests, each with its part.
    pub tests: Vec<(String, Test)>,
    reference: Files,
    permitted: Permitted,
    /// Whether students may change the kernel, too.
    own_kernel: bool,
    lab: Option<String>,
    partial: bool,
    vary: Option<String>,
    options: String,
    /// How many submissions are graded at the same time.
    pub jobs: usize,
    /// The directory that holds the build directories.
    pub home: PathBuf,
}

impl Grader {
    /// Reads the rubric and the reference, and builds the kernel.
    ///
    /// # Errors
    /// Something of this is missing, or has a mistake.
    pub fn prepare(args: &Args) -> Result<Grader> {
        let workspace = Workspace::load()?;
        let mut rubric = Rubric::load(&workspace.root)?;
        if let Some(path) = &args.rubric {
            rubric.add_hidden(Rubric::read(path)?)?;
        }
        let lab = args.lab.as_deref().map(|name| rubric.lab(name)).transpose()?;
        let tests = rubric.select(lab, &args.filter)?;
        for (_, test) in &tests {
            for name in test.programs() {
                workspace.program(name).with_context(|| format!("the test `{}`", test.name))?;
            }
        }
        let theirs = if args.files.is_empty() { lab.map_or(&rubric.files, |lab| &lab.files) } else { &args.files };
        let permitted = Permitted::new(theirs)?;
        let others = [args.submission.is_some(), args.submissions.is_some()].contains(&true);
        let reference = if others { tree::reference(&workspace.root)? } else { Files::new() };
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let own_kernel = !others || permitted.changes_kernel(&reference)?;
        let kernel = if own_kernel { PathBuf::new() } else { Builder::of(&workspace).build_kernel(Flavor::Plain)? };
        Ok(Grader {
            qemu: install::qemu()?,
            kernel,
            rules: rubric.hints.clone(),
            home: workspace.target.join("grade"),
            workspace,
            tests,
            reference,
            permitted,
            own_kernel,
            lab: args.lab.clone(),
            partial: args.partial,
            vary: args.vary.clone(),
            options: args.to_repeat(),
            jobs: args.jobs.map_or(cores, NonZero::get),
        })
    }

    /// The files of the reference.
    #[must_use]
    pub fn reference(&self) -> &Files {
        &self.reference
    }

    /// The files of which submissions may consist.
    #[must_use]
    pub fn wanted(&self) -> Wanted<'_> {
        Wanted::new(&self.reference, &self.permitted, self.partial)
    }

    /// The programs that the tests need.
    fn programs(&self) -> Vec<String> {
        let names: BTreeSet<&str> = self.tests.iter().flat_map(|(_, test)| test.programs()).collect();
        names.into_iter().map(str::to_owned).collect()
    }

    /// A digest of everything that decides about a result: equal keys mean equal results.
    #[must_use]
    pub fn key(&self, name: &str, submission: &Submission) -> String {
        let tests = format!("{:?}{:?}{:?}", self.tests, self.permitted.patterns, self.rules);
        let options = format!("{} {:?} {:?}", self.partial, self.lab, self.vary.as_ref().map(|word| (word, name)));
        let Submission { refused, read_as, left_out, problem, .. } = submission;
        let read = format!("{FORM} {refused:?} {read_as:?} {left_out:?} {problem:?}");
        let ours = [tests.as_bytes(), options.as_bytes(), read.as_bytes()];
        digest(ours.into_iter().chain(pieces(&self.reference)).chain(pieces(&submission.files)))
    }

    /// Grades this checkout, in place.
    pub(crate) fn grade_here(&self, name: Option<&str>) -> Result<Graded> {
        let start = Instant::now();
        let name = name.or_else(|| self.workspace.root.file_name()?.to_str()).unwrap_or("this checkout");
        let progress = spinner("building");
        let built = compile::build(&self.workspace, &self.programs(), self.own_kernel, self.jobs)?;
        progress.finish_and_clear();
        self.test(&self.workspace, name, "", built, self.jobs, start)
    }

    /// Grades a submission, in a build directory.
    ///
    /// # Errors
    /// The grader could not do its work.
    pub fn grade(
        &self,
        name: &str,
        options: &str,
        submission: &Submission,
        dir: &BuildDir,
        jobs: usize,
    ) -> Result<Graded> {
        let start = Instant::now();
        if let Some(problem) = &submission.problem {
            let mut graded = self.not_run(name, problem.status, problem.why.clone());
            self.describe(&mut graded, submission);
            return Ok(graded);
        }
        let laid = tree::lay(&self.reference, submission, &self.permitted, self.partial);
        let workspace = dir.lay(&self.workspace, &laid.files)?;
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let compilers = if jobs > 1 { jobs } else { cores.div_ceil(self.jobs) };
        let built = compile::build(&workspace, &self.programs(), self.own_kernel, compilers)?;
        let mut graded = self.test(&workspace, name, options, built, jobs, start)?;
        if graded.status == Status::NotBuilt && !laid.missing.is_empty() {
            let broken = graded.broken.unwrap_or_default();
            graded.broken = Some(format!("{}\nit does not build without them:\n{broken}", laid.missing.join("\n")));
            graded.status = Status::FilesMissing;
        }
        self.describe(&mut graded, submission);
        graded.notes.extend(notes("may not be changed, and was restored", &laid.restored));
        graded.notes.extend(notes("missing", &laid.missing));
        Ok(graded)
    }

    /// Adds to a result how the submission was read.
    fn describe(&self, graded: &mut Graded, submission: &Submission) {
        graded.key = self.key(&graded.name, submission);
        graded.packing.extend(some("", &submission.read_as));
        graded.notes.extend(notes("left out", &submission.left_out));
        graded.notes.extend(notes("refused", &submission.refused));
    }

    /// The result of a submission that could not be run.
    #[must_use]
    pub fn not_run(&self, name: &str, status: Status, why: String) -> Graded {
        Graded {
            name: name.to_owned(),
            key: String::new(),
            lab: self.lab.clone(),
            status,
            seconds: 0.0,
            broken: Some(why),
            relies_on: String::new(),
            packing: Vec::new(),
            notes: Vec::new(),
            tests: self.tests.iter().map(|(part, test)| blank(part, test)).collect(),
        }
    }

    fn test(
        &self,
        workspace: &Workspace,
        name: &str,
        options: &str,
        built: Built,
        jobs: usize,
        start: Instant,
    ) -> Result<Graded> {
        let (programs, kernel) = match built {
            Built::Images(programs, kernel) => (programs, kernel),
            Built::Broken(why) => {
                let seconds = start.elapsed().as_secs_f64();
                return Ok(Graded { seconds, ..self.not_run(name, Status::NotBuilt, why) });
            }
        };
        let kernels = vec![kernel.unwrap_or_else(|| self.kernel.clone())];
        let testbed = Testbed::of(workspace.clone(), self.qemu.clone(), Images { kernels, programs })?;
        let tests = self.run_all(&testbed, name, options, jobs)?;
        Ok(Graded {
            name: name.to_owned(),
            key: String::new(),
            lab: self.lab.clone(),
            status: Status::Graded,
            seconds: start.elapsed().as_secs_f64(),
            broken: None,
            packing: Vec::new(),
            notes: Vec::new(),
            relies_on: relies_on(Version::of(&self.qemu)),
            tests,
        })
    }

    fn run_all(&self, testbed: &Testbed, name: &str, options: &str, jobs: usize) -> Result<Vec<TestResult>> {
        let options = format!("{}{options}", self.options);
        let draw = self.vary.as_ref().map_or(0, |word| draw(word, name));
        let progress = if jobs > 1 { spinner("").with_message(String::new()) } else { ProgressBar::hidden() };
        let results = in_parallel(jobs, &self.tests, |(part, test)| {
            progress.set_message(format!("{name}: {}", test.name));
            trial::run(testbed, &self.rules, part, &test.varied(draw), &options)
        });
        progress.finish_and_clear();
        match interrupt::pending() {
            Some(signal) => bail!("interrupted by signal {signal}"),
            None => Ok(results),
        }
    }

    /// A build directory that no other grader uses.
    ///
    /// # Errors
    /// None can be made.
    pub fn build_dir(&self) -> Result<BuildDir> {
        BuildDir::below(&self.home)
    }
}

/// Applies `work` to all items, several at a time; the results are in the order of the items.
pub fn in_parallel<T: Sync, R: Send>(jobs: usize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        while let Some((index, item)) =
            Some(next.fetch_add(1, Relaxed)).and_then(|index| Some((index, items.get(index)?)))
        {
            done.push((index, work(item)));
        }
        done
    };
    let mut done: Vec<(usize, R)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker does not panic")).collect()
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// A number that depends on the word of a course and a name.
fn draw(word: &str, name: &str) -> u64 {
    u64::from_str_radix(&digest([word.as_bytes(), name.as_bytes()])[..16], 16).unwrap_or(0)
}

/// The emulator on which the verdict relies to keep programs out of the kernel.
fn relies_on(qemu: Option<Version>) -> String {
    match qemu.map(|version| (version, version.caveat())) {
        None => "an emulator that does not say which version it is".to_owned(),
        Some((_, Some(caveat))) => format!("no machine code of its own in the submission: {caveat}"),
        Some((version, None)) => format!("QEMU {version}, which keeps programs out of the kernel's memory"),
    }
}

fn notes(what: &str, paths: &[String]) -> Vec<String> {
    some(&format!("{what}: "), paths)
}

/// The first of these, and how many more there are, each with a prefix.
fn some(front: &str, all: &[String]) -> Vec<String> {
    let mut some: Vec<String> = all.iter().take(NOTES).map(|one| format!("{front}{one}")).collect();
    if all.len() > NOTES {
        some.push(format!("{front}{} in all", all.len()));
    }
    some
}

/// A progress message on stderr, if that is a terminal.
#[must_use]
pub fn spinner(message: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}");
    let bar = ProgressBar::new_spinner().with_message(message.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// The directory of results below this one.
#[must_use]
pub fn results_in(output: &Path) -> PathBuf {
    output.join("results")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_keeps_its_order() {
        let items: Vec<u32> = (0..50).collect();
        assert_eq!(in_parallel(4, &items, |item| item * 2), items.iter().map(|item| item * 2).collect::<Vec<_>>());
    }

    #[test]
    fn draws_differ_and_stay() {
        assert_eq!(draw("2026", "ann"), draw("2026", "ann"));
        assert_ne!(draw("2026", "ann"), draw("2026", "bob"));
        assert_ne!(draw("2026", "ann"), draw("2027", "ann"));
    }

    #[test]
    fn the_emulator_is_relied_on() {
        assert!(relies_on(Some(Version(7, 2, 22))).starts_with("no machine code"));
        assert!(relies_on(Some(Version(9, 2, 0))).starts_with("QEMU 9.2.0"));
    }

    #[test]
    fn not_every_file_is_told() {
        let paths: Vec<String> = (0..30).map(|n| n.to_string()).collect();
        let notes = notes("refused", &paths);
        assert_eq!((notes.len(), notes[20].as_str()), (21, "refused: 30 in all"));
    }
}
