//! The handout of each lab: it builds without a warning, and every test of the lab fails on it, because of an exercise.
//! (That no line of an answer is left in it is checked whenever one is made.)

use anyhow::{Context, Result, ensure};
use grade::rubric::{self, Rubric};
use grade::{handout, submission::Submission, tree::BuildDir};
use libtest_mimic::Trial;
use std::sync::Arc;
use tests::{End, Request, Testbed};
use xtask::images::Flavor;
use xtask::session::scratch;
use xtask::workspace::Workspace;

pub fn trials(testbed: &Arc<Testbed>) -> Vec<Trial> {
    let rubric = Rubric::load(&testbed.workspace.root).expect("the rubric has no mistake");
    let trial = |of: rubric::Lab| {
        let testbed = Arc::clone(testbed);
        Trial::test(format!("handout-{}", of.name), move || {
            Ok(judge(&testbed.workspace, &of.name, &of.tests).map_err(|error| format!("{error:#}"))?)
        })
    };
    rubric.labs.into_iter().map(trial).collect()
}

fn judge(solution: &Workspace, name: &str, tests: &[String]) -> Result<()> {
    let scratch = scratch()?;
    let made = scratch.path().join("handout");
    handout::main(&handout::Args { lab: name.to_owned(), output: made.clone() })?;
    // Built where the grader builds: what handouts and submissions have in common is compiled once.
    let dir = BuildDir::below(&solution.target.join("grade"))?;
    let handout = dir.lay(solution, &Submission::of_directory(&made)?.files)?;
    let testbed = Testbed::build(handout, &[Flavor::Plain], true).context("the handout must build without warnings")?;
    ensure!(!tests.is_empty(), "no test is graded");
    for test in tests {
        let run = testbed.boot(Flavor::Plain, &Request::of(test))?;
        let says = !run.matching(&format!("not yet implemented: exercise [1-9] of {name}: ")).is_empty();
        let fails = run.end != End::Status(abi::ExitStatus::SUCCESS);
        ensure!(says && fails, "{test} names no exercise, or does not fail ({}):\n{}", run.end, run.console);
    }
    Ok(())
}
