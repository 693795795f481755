//! A trial: boots the program of a test, and explains its failure.

use crate::hints::{self, Signs};
use crate::result::TestResult;
use crate::rubric::{Rule, Test};
use abi::ExitStatus;
use engine::expect::{Unmet, clip};
use engine::{Failure, Request, Run, Testbed};
use std::time::Instant;
use xtask::images::Flavor;

/// How many unmet demands are reported: the others mostly follow from those.
const UNMET: usize = 4;

/// Runs a test. `options` are those of `cargo xtask grade` that repeat it.
#[must_use]
pub fn run(testbed: &Testbed, rules: &[Rule], part: &str, test: &Test, options: &str) -> TestResult {
    let start = Instant::now();
    let mut result = blank(part, test);
    match testbed.boot(Flavor::Plain, &test.request()) {
        Ok(run) => {
            result.failure = judge(testbed, rules, test, &run, options);
            result.passed = result.failure.is_none();
        }
        Err(error) => result.error = Some(format!("{error:#}")),
    }
    result.seconds = start.elapsed().as_secs_f64();
    result
}

/// The failure of the test, if it failed.
fn judge(testbed: &Testbed, rules: &[Rule], test: &Test, run: &Run, options: &str) -> Option<Failure> {
    let wanted = ExitStatus(test.status);
    run.ends(wanted).frees_frames(wanted).see(&test.see);
    let mut unmet = run.unmet();
    if unmet.is_empty() {
        return None;
    }
    let lines: Vec<&str> = run.lines().collect();
    let told: Vec<String> = unmet.iter().map(ToString::to_string).collect();
    let signs = Signs { test: &test.name, end: run.end, wanted, lines: &lines, unmet: &told };
    if unmet.len() > UNMET {
        let more = unmet.split_off(UNMET).len();
        unmet.push(Unmet::new(format!("and {more} more expectations that were not met")));
    }
    let request = test.request();
    let failure = testbed.explain(Flavor::Plain, &request, run);
    Some(Failure {
        unmet,
        hints: hints::find(test.hint.as_deref(), rules, &signs),
        console: failure.console.iter().map(|line| clip(line)).collect(),
        repeat: commands(&test.name, &request, options, run.lost_frames(wanted) != 0),
        ..failure
    })
}

/// The commands that repeat the run. If the kernel has `lost` frames, the checking kernel stops where that happens.
fn commands(name: &str, request: &Request, options: &str, lost: bool) -> Vec<String> {
    let mut commands = vec![format!("cargo xtask grade{options} {name}")];
    commands.extend(lost.then(|| request.check_command()));
    commands.extend([request.command(Flavor::Plain), request.debug_command()]);
    commands
}

/// The result of a test that was not run.
#[must_use]
pub fn blank(part: &str, test: &Test) -> TestResult {
    TestResult {
        part: part.to_owned(),
        name: test.name.clone(),
        points: test.points,
        passed: false,
        hidden: test.hidden,
        seconds: 0.0,
        failure: None,
        error: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_can_be_typed() {
        let test: Test =
            toml::from_str("name = 'a'\nprogram = 'p'\nargs = ['x y']\npoints = 1\ntick = 50\nticks = 9").unwrap();
        let expected = [
            "cargo xtask grade --submission s a",
            "cargo xtask run --icount --tick 50 --limit 9 p 'x y'",
            "cargo xtask gdb p 'x y'",
        ];
        assert_eq!(commands("a", &test.request(), " --submission s", false), expected);
        assert_eq!(commands("a", &test.request(), "", true)[1], "cargo xtask run --check --icount p 'x y'");
    }
}
