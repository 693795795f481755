//! Random calls from a hostile program under the checking kernel, compared with a model; see the
//! package `storm`.

use abi::ExitStatus;
use libtest_mimic::{Failed, Trial};
use std::sync::Arc;
use std::time::Duration;
use storm::shrink::{self, Run};
use storm::{Keep, Mode, Plan};
use tests::{Request, Testbed};
use xtask::archive::Archive;
use xtask::images::Flavor;
use xtask::machine::{CommandLine, Machine};

/// The runs: mode, number of machines, episodes on each of them, minimal number of calls that result.
const PLANS: [(Mode, u64, u32, u64); 3] =
    [(Mode::Plenty, 14, 160, 1_000_000 / 14 + 1), (Mode::Tight, 2, 16, 5_000), (Mode::Crowd, 2, 16, 5_000)];

/// The size of the boot archive with which memory is short; a file fills it up. The checking kernel need not check those
/// pages.
const ARCHIVE: usize = 13 << 20;

const TIMEOUT: Duration = Duration::from_secs(300);

pub fn trials(testbed: &Arc<Testbed>) -> Vec<Trial> {
    let trials = PLANS.into_iter().flat_map(|(mode, machines, episodes, least)| {
        (1..=machines)
            .map(move |seed| (Plan { mode, seed, first: 0, episodes, verbose: false, keep: Keep::ALL }, least))
    });
    trials
        .map(|(plan, least)| {
            let testbed = Arc::clone(testbed);
            let name = format!("check::storm-{}-{}", plan.mode, plan.seed);
            Trial::test(name, move || play(&testbed, &plan, least))
        })
        .collect()
}

fn play(testbed: &Testbed, plan: &Plan, least: u64) -> Result<(), Failed> {
    let calls = shrink::check(plan, &mut |plan| boot(testbed, plan))?;
    if calls >= least {
        return Ok(());
    }
    Err(format!("{calls} calls, at least {least} expected").into())
}

fn boot(testbed: &Testbed, plan: &Plan) -> Result<Run, String> {
    let memory = storm::plan::MEMORY.parse().map_err(|error| format!("{error:#}"))?;
    let filler = if plan.mode == Mode::Tight {
        let programs = Archive::of(&testbed.counting_images().programs).and_then(|archive| archive.finish());
        let programs = programs.map_err(|error| format!("{error:#}"))?.len();
        Some(("filler".to_owned(), vec![0; ARCHIVE.saturating_sub(programs)]))
    } else {
        None
    };
    let line = CommandLine {
        init: "storm".to_owned(),
        args: plan.to_string().split(' ').map(str::to_owned).collect(),
        // The model plays one environment at a time: a tick must not interrupt one at random.
        tick_us: Some(0),
        ..CommandLine::default()
    };
    let machine = Machine { memory, ..Machine::default() };
    let files = filler.into_iter().collect();
    let request = Request { line, files, machine, timeout: TIMEOUT, ..Request::of("storm") };
    let run = testbed.boot(Flavor::Check, &request).map_err(|error| format!("{error:#}"))?;
    run.ends(ExitStatus::SUCCESS).frees_frames(ExitStatus::SUCCESS);
    let failure = run.unmet().first().map(ToString::to_string);
    Ok(Run { console: run.console, failure })
}
