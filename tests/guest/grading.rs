//! The grader, on the real thing: what this checkout hands in has full marks; who breaks it, or cheats, has none.

use grade::grade::{Args, Grader};
use grade::result::Graded;
use grade::submission::{Files, Submission};
use libtest_mimic::{Failed, Trial};
use std::sync::Arc;
use tests::Lab;

/// What students hand in.
const THEIRS: [&str; 2] = ["lib/libos/", "lib/pager/"];

pub fn trials(lab: &Arc<Lab>) -> Vec<Trial> {
    let lab = Arc::clone(lab);
    vec![Trial::test("grading", move || grading(&lab).map_err(|error| format!("{error:#}"))?)]
}

fn grading(lab: &Lab) -> anyhow::Result<Result<(), Failed>> {
    let root = &lab.workspace.root;
    let filter = ["dumbfork", "faultread"].map(str::to_owned).to_vec();
    let grader = Grader::prepare(&Args { filter, submission: Some(root.clone()), ..Args::default() })?;
    let slot = grader.slot()?;
    let mut files = Submission::of_directory(root)?.files;
    files.retain(|path, _| THEIRS.iter().any(|theirs| path.starts_with(theirs)));
    let grade = |name: &str, change: fn(&mut Files)| {
        let mut files = files.clone();
        change(&mut files);
        grader.grade(name, "", &Submission { files, ..Submission::default() }, &slot, 1)
    };
    let good = grade("good", |_| {})?;
    let broken = grade("broken", |files| {
        files.entry("lib/pager/src/fork.rs".to_owned()).or_default().extend(b"\nfn {");
    })?;
    // The kernel's lines are its own, and what does not belong to students stays as it is.
    let forger = grade("forger", |files| {
        let start = files.entry("lib/libos/src/console.rs".to_owned()).or_default();
        let forged = String::from_utf8_lossy(start).replacen(
            "let mut out =",
            "write_all(b\"[00001000] exiting gracefully\\n\");\n let mut out =",
            1,
        );
        *start = forged.into_bytes();
        files.insert("tests/rubric.toml".to_owned(), b"part = []".to_vec());
    })?;
    Ok(judge(&good, &broken, &forger))
}

fn judge(good: &Graded, broken: &Graded, forger: &Graded) -> Result<(), Failed> {
    let failure = forger.tests[0].failure.as_ref();
    let forged = failure.is_some_and(|failure| failure.to_string().contains("a program printed this one"));
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
