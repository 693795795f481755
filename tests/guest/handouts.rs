//! The handout of each lab: it builds without a warning, and every test of the lab fails on it, because of an exercise.
//! (That no line of an answer is left in it is checked whenever one is made.)

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use tests::{Lab, guest};
use xtask::images::{Builder, Flavor};
use xtask::session::scratch;
use xtask::workspace::{self, Workspace};

pub fn trials(lab: &Arc<Lab>) -> Vec<Trial> {
    let root = &lab.workspace.root;
    let rubric = std::fs::read_to_string(root.join("tests/rubric.toml")).expect("the rubric can be read");
    let rubric: toml::Table = rubric.parse().expect("the rubric is TOML");
    let labs = rubric["lab"].as_array().expect("the rubric has labs");
    let trial = |of: &toml::Value| {
        let name = of["name"].as_str().expect("a lab has a name").to_owned();
        let tests = of["tests"].as_array().expect("a lab has tests").iter();
        let tests: Vec<String> = tests.map(|test| test.as_str().expect("a name").to_owned()).collect();
        let lab = Arc::clone(lab);
        Trial::test(format!("handout-{name}"), move || {
            Ok(judge(&lab.workspace, &name, &tests).map_err(|error| format!("{error:#}"))?)
        })
    };
    labs.iter().map(trial).collect()
}

fn judge(solution: &Workspace, name: &str, tests: &[String]) -> Result<()> {
    let scratch = scratch()?;
    let root = scratch.path().join("handout");
    make(solution, name, &root)?;
    // A directory for each lab: to cargo, their crates are the same.
    let target = solution.target.join("handout").join(name);
    let handout = Workspace { root, target, programs: Vec::new() };
    let builder = Builder { workspace: &handout, verbose: false };
    for cargo in [builder.kernel("clippy", Flavor::Plain), builder.programs("clippy")] {
        cargo.run().context("the handout is to build without warnings")?;
    }
    let lab = Lab::of(handout, &[Flavor::Plain])?;
    ensure!(!tests.is_empty(), "no test is graded");
    for test in tests {
        let run = guest(test).boot(&lab, Flavor::Plain);
        let run =
            run.map_err(|failed| anyhow::anyhow!("{test}: {}", failed.message().unwrap_or_default()))?;
        let says = !run.matching(&format!("not yet implemented: exercise [1-9] of {name}: ")).is_empty();
        let fails = run.status != abi::ExitStatus::SUCCESS;
        ensure!(
            says && fails,
            "{test} says no exercise, or does not fail ({}):\n{}",
            run.status,
            run.console
        );
    }
    Ok(())
}

fn make(solution: &Workspace, name: &str, directory: &Path) -> Result<()> {
    let mut command = Command::new(workspace::cargo());
    command
        .args(["run", "--quiet", "--package", "grade", "--", "handout", "--lab", name, "-o"])
        .arg(directory);
    let status = command.current_dir(&solution.root).status().context("cannot run cargo")?;
    ensure!(status.success(), "no handout was made: {status}");
    Ok(())
}
