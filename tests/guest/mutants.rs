//! The grader, on mistakes: each patch of `tests/course/mutants/` must fail the test that it names, and each correct
//! variant of fork must pass.
//!
//! All of them take a quarter of an hour, so only a few are tried, unless the environment says `FAULTLINE_MUTANTS=all`.

use grade::grade::{Args, Grader};
use grade::mutants::{self, Mutant};
use grade::result::Graded;
use libtest_mimic::{Failed, Trial};
use std::path::PathBuf;
use std::sync::Arc;
use tests::Testbed;

/// One mutant for each lab, one for the kernel, and one correct variant.
const FEW: [&str; 6] = [
    "cow-lost-on-second-fork",
    "direction-flag-cleared",
    "missing-table-read",
    "same-page-twice",
    "unmap-without-flush",
    "downwards",
];
const ALL_VARIABLE: &str = "FAULTLINE_MUTANTS";

/// The files that a mistake in the kernel may change.
const KERNEL_FILES: [&str; 2] = ["kern/**", "lib/**"];

/// The tests that a correct fork must pass, in addition to the tests of its lab.
const CLASSIC: [&str; 4] = ["dumbfork", "sendpage", "stresssched", "lazyheap"];

pub fn trials(testbed: &Arc<Testbed>) -> Vec<Trial> {
    let root = &testbed.workspace.root;
    let all = std::env::var(ALL_VARIABLE).is_ok_and(|which| which == "all");
    let mutants = match mutants::load(root) {
        Ok(mutants) => mutants,
        Err(error) => return vec![Trial::test("mutants", move || Err(format!("{error:#}").into()))],
    };
    let chosen = mutants.into_iter().filter(|mutant| all || FEW.contains(&mutant.name.as_str()));
    let trial = |mutant: Mutant| {
        let root = root.clone();
        Trial::test(format!("mutant::{}", mutant.name), move || {
            judge(&mutant, &grade(&mutant, root).map_err(|error| format!("{error:#}"))?)
        })
    };
    chosen.map(trial).collect()
}

fn grade(mutant: &Mutant, root: PathBuf) -> anyhow::Result<Graded> {
    let filter = match &mutant.killed_by {
        Some(test) => vec![test.clone()],
        None => ["forktree", "hostile-fork"].into_iter().chain(CLASSIC).map(str::to_owned).collect(),
    };
    let is_kernel = mutant.lab == "kernel" || mutant.lab == "page-tables";
    let files = if is_kernel { KERNEL_FILES.map(str::to_owned).to_vec() } else { Vec::new() };
    let grader = Grader::prepare(&Args { filter, files, submission: Some(root), ..Args::default() })?;
    let submission = mutant.submission(grader.reference())?;
    grader.grade(&mutant.name, "", &submission, &grader.build_dir()?, 1)
}

fn judge(mutant: &Mutant, graded: &Graded) -> Result<(), Failed> {
    let whole = graded.broken.is_none() && graded.notes.is_empty() && !graded.is_uncertain();
    let as_expected = match &mutant.killed_by {
        Some(test) => graded.tests.iter().any(|result| result.name == *test && !result.passed),
        None => graded.is_full(),
    };
    let expected = if mutant.killed_by.is_some() { "to fail" } else { "full marks" };
    if whole && as_expected { Ok(()) } else { Err(format!("{expected} expected: {graded:#?}").into()) }
}
