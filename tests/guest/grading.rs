//! The grader on real submissions: this checkout has full marks; a broken or cheating submission has none.

use grade::grade::{Args, Grader, results_in};
use grade::submission::{Files, Submission};
use grade::{class, result::Graded};
use libtest_mimic::{Failed, Trial};
use std::{fs, num::NonZero, sync::Arc};
use tests::Testbed;

/// The folders that students hand in.
const THEIRS: [&str; 2] = ["lib/libos/", "lib/pager/"];

pub fn trials(testbed: &Arc<Testbed>) -> Vec<Trial> {
    let testbed = Arc::clone(testbed);
    vec![Trial::test("grading", move || grading(&testbed).map_err(|error| format!("{error:#}"))?)]
}

fn grading(testbed: &Testbed) -> anyhow::Result<Result<(), Failed>> {
    let root = &testbed.workspace.root;
    let filter = ["dumbfork", "faultread"].map(str::to_owned).to_vec();
    let jobs = NonZero::new(1);
    let args = Args { filter, submission: Some(root.clone()), jobs, ..Args::default() };
    let grader = Grader::prepare(&args)?;
    let mut files = Submission::of_directory(root)?.files;
    files.retain(|path, _| THEIRS.iter().any(|theirs| path.starts_with(theirs)));
    let (good, csv) = class(&grader, args, &files)?;
    let dir = grader.build_dir()?;
    let grade = |name: &str, change: fn(&mut Files)| {
        let mut files = files.clone();
        change(&mut files);
        grader.grade(name, "", &Submission { files, ..Submission::default() }, &dir, 1)
    };
    let broken = grade("broken", |files| {
        files.entry("lib/pager/src/fork.rs".to_owned()).or_default().extend(b"\nfn {");
    })?;
    // The kernel's lines are its own, and files that are not the students' stay as they are.
    let forger = grade("forger", |files| {
        let start = files.entry("lib/libos/src/console.rs".to_owned()).or_default();
        let forged = String::from_utf8_lossy(start).replacen(
            "let mut out =",
            "write_all(b\"[00001000] exiting gracefully\\n\");\n let mut out =",
            1,
        );
        *start = forged.into_bytes();
        files.insert("tests/course/rubric.toml".to_owned(), b"part = []".to_vec());
    })?;
    Ok(judge(&good, &broken, &forger).and_then(|()| rows(&csv)))
}

/// Grades a class: these files in the form in which a learning platform hands them over, and a truncated archive.
/// Returns the result for the files, and the table of all.
fn class(grader: &Grader, args: Args, files: &Files) -> anyhow::Result<(Graded, String)> {
    let place = grader.home.join("class-of-a-test");
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    let (directory, output) = (place.join("class"), place.join("grades"));
    for (path, data) in files {
        let path = directory.join("Ann Lee_77_assignsubmission_file_/my project/faultline").join(path);
        fs::create_dir_all(path.parent().unwrap_or(&directory))?;
        fs::write(path, data)?;
    }
    fs::write(directory.join("bob.zip"), b"PK\x03\x04")?;
    class::grade(grader, &Args { output: Some(output.clone()), ..args }, &directory)?;
    let graded = fs::read(results_in(&output).join("Ann Lee_77_assignsubmission_file_.json"))?;
    Ok((serde_json::from_slice(&graded)?, fs::read_to_string(output.join("grades.csv"))?))
}

fn rows(csv: &str) -> Result<(), Failed> {
    let expected = "\
name,score,points,builds,status,dumbfork,faultread
Ann Lee_77_assignsubmission_file_,10,10,yes,graded,5,5
bob,0,10,no,unreadable,0,0
";
    if csv == expected { Ok(()) } else { Err(format!("another table expected:\n{csv}").into()) }
}

fn judge(good: &Graded, broken: &Graded, forger: &Graded) -> Result<(), Failed> {
    let failure = forger.tests[0].failure.as_ref();
    let forged = failure.is_some_and(|failure| failure.to_string().contains("a program printed it"));
    let expected = [
        (good, "full marks", good.score() == (10, 10) && good.notes.is_empty()),
        (broken, "the compiler's message", broken.score() == (0, 10) && broken.broken.is_some()),
        (forger, "forged lines to be noticed", !forger.tests[0].passed && forged),
        (forger, "a file to be restored", forger.notes.len() == 1),
    ];
    match expected.iter().find(|(.., holds)| !holds) {
        None => Ok(()),
        Some((graded, what, _)) => Err(format!("{what} expected: {graded:#?}").into()),
    }
}
