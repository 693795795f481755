//! Grades many submissions: several at a time, in shards if there are very many, and resuming where an earlier run was
//! interrupted.

use crate::format::Format;
use crate::grade::{Args, Grader, in_parallel, results_in, spinner};
use crate::result::{Graded, Status};
use crate::submission::{digest, replace};
use crate::tree::BuildDir;
use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use std::fmt::Write as _;
use std::{collections::BTreeMap, fs, path::Path, sync::Mutex};
use xtask::{interrupt, machine::shell_word, say};

pub mod list;
use list::{HandedIn, Listed, list};

/// Grades all submissions in a directory; returns whether everybody has full marks.
///
/// # Errors
/// The grader could not do its work; results so far are kept.
pub fn grade(grader: &Grader, args: &Args, directory: &Path) -> Result<bool> {
    let Listed { mut handed_in, left_out } = list(directory, &grader.wanted())?;
    if let Some(shard) = args.shard {
        handed_in = shard.share(handed_in);
    }
    let output = args.output.clone().unwrap_or_else(|| grader.home.join("grades"));
    let progress = bar(handed_in.len());
    let dirs = Mutex::new(Vec::new());
    let done = in_parallel(grader.jobs, &handed_in, |handed_in| {
        let HandedIn { name, .. } = handed_in;
        progress.set_message(name.clone());
        let dir = dirs.lock().ok().and_then(|mut dirs| dirs.pop()).map_or_else(|| grader.build_dir(), Ok);
        let graded = dir.and_then(|dir| {
            let graded = one(grader, &output, handed_in, &dir);
            dirs.lock().map(|mut dirs| dirs.push(dir)).ok();
            graded
        });
        progress.inc(1);
        // The error is the result of this submission only; the others have their own.
        graded.unwrap_or_else(|error| grader.not_run(name, Status::GraderError, format!("{error:#}")))
    });
    progress.finish_and_clear();
    if let Some(signal) = interrupt::pending() {
        bail!("interrupted by signal {signal}; the same command continues");
    }
    conclude(done, &left_out, args.format, Some(&output))
}

/// The result of one submission: that of an earlier run if nothing has changed, else a new one, which is stored.
fn one(grader: &Grader, output: &Path, handed_in: &HandedIn, dir: &BuildDir) -> Result<Graded> {
    let name = &handed_in.name;
    let submission = handed_in.read(&grader.wanted());
    let key = grader.key(name, &submission);
    let options = format!(" --submission {}", shell_word(handed_in.path().as_os_str()));
    kept(&results_in(output).join(file_of(name, "json")), &key, || grader.grade(name, &options, &submission, dir, 1))
}

/// The result in this file if it has this key, else a new one, which is written there.
fn kept(file: &Path, key: &str, grade: impl FnOnce() -> Result<Graded>) -> Result<Graded> {
    let known = fs::read(file).ok().and_then(|text| serde_json::from_slice::<Graded>(&text).ok());
    if let Some(known) = known.filter(|known| known.key == key) {
        return Ok(known);
    }
    let graded = grade()?;
    if !graded.is_uncertain() {
        replace(file, Format::Json.write(&graded)?.as_bytes())?;
    }
    Ok(graded)
}

/// Merges the results of several graders.
///
/// # Errors
/// There are none, or they contradict each other.
pub fn merge(args: &Args) -> Result<bool> {
    let reading = spinner("reading results");
    let mut merged: BTreeMap<String, Graded> = BTreeMap::new();
    for directory in &args.merge {
        let results = results_in(directory);
        let results = if results.is_dir() { results } else { directory.clone() };
        let entries = fs::read_dir(&results).with_context(|| format!("cannot list {}", results.display()))?;
        for path in entries.map(|entry| Ok(entry.context("a directory entry")?.path())).collect::<Result<Vec<_>>>()? {
            if path.extension().is_none_or(|end| end != "json") {
                continue;
            }
            let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let graded: Graded = serde_json::from_slice(&text)
                .with_context(|| format!("{} is not a result of the grader", path.display()))?;
            if let Some(other) = merged.insert(graded.name.clone(), graded.clone()) {
                let alike = other.key == graded.key && other.score() == graded.score();
                ensure!(alike, "{} was graded twice, with different results; one is {}", graded.name, path.display());
            }
        }
    }
    reading.finish_and_clear();
    ensure!(!merged.is_empty(), "there are no results to merge");
    conclude(merged.into_values().collect(), &[], args.format, args.output.as_deref())
}

/// The longest part of a name, in bytes, that goes into a file name. A file name has 255 bytes, with its ending.
const NAME_MOST: usize = 200;

/// The name of the file for a student: the student's name, unless that is too long.
fn file_of(name: &str, end: &str) -> String {
    if name.len() <= NAME_MOST {
        return format!("{name}.{end}");
    }
    let start = &name[..name.floor_char_boundary(NAME_MOST)];
    format!("{start}-{}.{end}", &digest([name.as_bytes()])[..16])
}

/// Prints the table, and writes the files. A file that cannot be written does not keep the others from being written.
fn conclude(class: Vec<Graded>, left_out: &[String], format: Format, output: Option<&Path>) -> Result<bool> {
    print!("{}", table(&class));
    left_out.iter().for_each(|entry| println!("left out: {entry}"));
    if let Some(output) = output {
        let failed = write_all(&class, format, output);
        say!("the results are in {}", output.display());
        ensure!(failed.is_empty(), "not all of them could be written:\n{}", failed.join("\n"));
    }
    let uncertain: Vec<&str> =
        class.iter().filter(|graded| graded.is_uncertain()).map(|graded| graded.name.as_str()).collect();
    ensure!(
        uncertain.is_empty(),
        "some tests could not be run for {}; the same command tries them again",
        uncertain.join(", ")
    );
    Ok(class.iter().all(Graded::is_full))
}

/// Writes all results; returns the files that could not be written, and why.
fn write_all(class: &[Graded], format: Format, output: &Path) -> Vec<String> {
    let csv = || replace(&output.join("grades.csv"), &csv(class)?);
    let directory = output.join(format!("{format:?}").to_lowercase());
    let write = |graded: &Graded| {
        let file = directory.join(file_of(&graded.name, format.extension()));
        replace(&file, format.write(graded)?.as_bytes())
    };
    // JSON files are written as soon as their results exist.
    let own = class.iter().filter(|_| format != Format::Json).map(write);
    let done = [csv()].into_iter().chain(own);
    done.filter_map(Result::err).map(|error| format!("{error:#}")).collect()
}

/// A line for each submission, then the tests that fail most.
fn table(class: &[Graded]) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for (part, _) in class.iter().flat_map(Graded::parts) {
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    let width = class.iter().map(|graded| graded.name.chars().count()).max().unwrap_or(0).max(4);
    let mut text = format!("{:width$}", "name");
    parts.iter().for_each(|part| _ = write!(text, "  {part:>7}"));
    let _ = writeln!(text, "  {:>7}", "all");
    for graded in class {
        let _ = write!(text, "{:width$}", graded.name);
        let own = graded.parts();
        for part in &parts {
            let score = own.iter().find(|(other, _)| other == part).map_or((0, 0), |(_, score)| *score);
            let _ = write!(text, "  {:>7}", format!("{}/{}", score.0, score.1));
        }
        let (score, points) = graded.score();
        let _ = writeln!(text, "  {:>7}{}", format!("{score}/{points}"), remark(graded));
    }
    text + &failing(class)
}

fn remark(graded: &Graded) -> String {
    match (graded.status(), graded.notes.is_empty()) {
        (Status::Graded, true) => String::new(),
        (Status::Graded, false) => "  has notes".to_owned(),
        (Status::GraderError, _) => "  grader error: not everything could be run".to_owned(),
        (status, _) => format!("  {}", status.word()),
    }
}

/// The tests that fail most, among the submissions that were run.
fn failing(class: &[Graded]) -> String {
    let mut failures: BTreeMap<&str, usize> = BTreeMap::new();
    let ran: Vec<&Graded> = class.iter().filter(|graded| graded.broken.is_none()).collect();
    for test in ran.iter().flat_map(|graded| &graded.tests).filter(|test| !test.passed) {
        *failures.entry(&test.name).or_default() += 1;
    }
    let mut failures: Vec<(&str, usize)> = failures.into_iter().collect();
    failures.sort_by_key(|&(name, count)| (std::cmp::Reverse(count), name));
    let mut text = String::new();
    for (place, (name, count)) in failures.iter().enumerate() {
        let lead = if place == 0 { "\nwhat fails most, of those that build:\n" } else { "" };
        let _ = writeln!(text, "{lead}{count:>5} of {}  {name}", ran.len());
    }
    text
}

fn csv(class: &[Graded]) -> Result<Vec<u8>> {
    let mut tests: Vec<&str> = Vec::new();
    for test in class.iter().flat_map(|graded| &graded.tests) {
        if !tests.contains(&test.name.as_str()) {
            tests.push(&test.name);
        }
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["name", "score", "points", "builds", "status"].iter().chain(&tests))?;
    for graded in class {
        let (score, points) = graded.score();
        let builds = if graded.broken.is_none() { "yes" } else { "no" };
        let of =
            |name: &&str| graded.tests.iter().find(|test| test.name == **name).map(|test| test.score().to_string());
        let (score, points) = (score.to_string(), points.to_string());
        let fields = [&graded.name, &score, &points, builds, graded.status().word()].map(str::to_owned);
        writer.write_record(fields.into_iter().chain(tests.iter().map(|name| of(name).unwrap_or_default())))?;
    }
    writer.into_inner().context("cannot write CSV")
}

fn bar(count: usize) -> ProgressBar {
    let bar = ProgressBar::new(count as u64);
    match ProgressStyle::with_template("{elapsed} {wide_bar} {pos}/{len} {msg} ({eta} left)") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::TestResult;
    use std::cell::Cell;

    fn graded(name: &str, passed: [bool; 2]) -> Graded {
        let test = |(part, name, passed): (&str, &str, bool)| TestResult {
            part: part.to_owned(),
            name: name.to_owned(),
            points: 5,
            passed,
            hidden: false,
            seconds: 1.0,
            failure: None,
            error: None,
        };
        let tests = [("A", "dumbfork", passed[0]), ("B", "spin", passed[1])].map(test).to_vec();
        Graded {
            name: name.to_owned(),
            key: "k".to_owned(),
            lab: None,
            status: Status::Graded,
            seconds: 2.0,
            broken: None,
            packing: Vec::new(),
            notes: Vec::new(),
            relies_on: String::new(),
            tests,
        }
    }

    fn class() -> Vec<Graded> {
        let without =
            |name: &str, status: Status| Graded { broken: Some("no".to_owned()), status, ..graded(name, [false; 2]) };
        let broken = without("cid", Status::NotBuilt);
        let damaged = without("dan", Status::Unreadable);
        vec![graded("ann", [true; 2]), graded("bob", [true, false]), broken, damaged]
    }

    #[test]
    fn one_table_for_all() {
        let expected = "\
name        A        B      all
ann       5/5      5/5    10/10
bob       5/5      0/5     5/10
cid       0/5      0/5     0/10  does not build
dan       0/5      0/5     0/10  unreadable

what fails most, of those that build:
    1 of 2  spin
";
        assert_eq!(table(&class()), expected);
    }

    #[test]
    fn a_row_for_each() {
        let expected = "\
name,score,points,builds,status,dumbfork,spin
ann,10,10,yes,graded,5,5
bob,5,10,yes,graded,5,0
cid,0,10,no,does not build,0,0
dan,0,10,no,unreadable,0,0
";
        assert_eq!(String::from_utf8(csv(&class()).unwrap()).unwrap(), expected);
    }

    #[test]
    fn what_is_known_is_not_graded_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("results/ann.json");
        let runs = Cell::new(0);
        let grade = |key: &str, uncertain: bool| {
            kept(&file, key, || {
                runs.set(runs.get() + 1);
                let mut graded = Graded { key: key.to_owned(), ..graded("ann", [true; 2]) };
                graded.tests[0].error = uncertain.then(|| "no emulator".to_owned());
                Ok(graded)
            })
            .unwrap()
        };
        grade("1", true);
        grade("1", false);
        assert_eq!(runs.get(), 2, "what could not be run is tried again");
        assert_eq!(grade("1", false).score(), (10, 10));
        assert_eq!(runs.get(), 2, "what is known is not graded again");
        grade("2", false);
        assert_eq!(runs.get(), 3, "what has changed is graded again");
    }

    fn args(words: &[&str]) -> Args {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        <Line as clap::Parser>::try_parse_from([&["grade"], words].concat()).unwrap().args
    }

    #[test]
    fn shards_are_put_together() {
        let directory = tempfile::tempdir().unwrap();
        let places = ["a", "b", "all"].map(|place| directory.path().join(place));
        let keep = |place: &Path, graded: &Graded| {
            kept(&results_in(place).join(format!("{}.json", graded.name)), &graded.key, || Ok(graded.clone())).unwrap();
        };
        keep(&places[0], &graded("ann", [true; 2]));
        keep(&places[1], &graded("bob", [true, false]));
        let [a, b, all] = places.each_ref().map(|place| place.to_str().unwrap());
        assert!(!merge(&args(&["--merge", a, b, "--output", all])).unwrap(), "not everybody has full marks");
        let csv = fs::read_to_string(places[2].join("grades.csv")).unwrap();
        assert_eq!(csv.lines().count(), 3, "{csv}");
        assert!(merge(&args(&["--merge", a])).unwrap());
        keep(&places[1], &graded("ann", [false; 2]));
        assert!(merge(&args(&["--merge", a, b])).is_err(), "ann has two different results");
    }

    #[test]
    fn a_result_that_cannot_be_written_is_one_of_many() {
        let directory = tempfile::tempdir().unwrap();
        let long = "x".repeat(252);
        let class = [graded(&long, [true; 2]), graded("ann", [true; 2]), graded("bob", [true; 2])];
        let conclude =
            || conclude(class.to_vec(), &[], Format::Text, Some(directory.path())).map_err(|e| e.to_string());
        assert_eq!(conclude(), Ok(true));
        assert_eq!(fs::read_dir(directory.path().join("text")).unwrap().count(), 3);
        fs::remove_file(directory.path().join("text/ann.txt")).unwrap();
        fs::create_dir(directory.path().join("text/ann.txt")).unwrap();
        fs::remove_file(directory.path().join("text/bob.txt")).unwrap();
        let error = conclude().unwrap_err();
        assert!(error.contains("ann.txt") && !error.contains("bob.txt"), "{error}");
        assert!(directory.path().join("text/bob.txt").is_file(), "the others are written");
    }

    #[test]
    fn files_have_names_that_fit() {
        let long = "\u{e4}".repeat(126);
        let (one, other) = (file_of(&long, "json"), file_of(&format!("{long}x"), "json"));
        assert!(one != other && one.len() <= 255 && one.starts_with("\u{e4}\u{e4}"), "{one}");
        assert_eq!(file_of("ann", "json"), "ann.json");
    }
}
