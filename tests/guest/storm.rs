//! Random calls from a hostile program under the checking kernel, compared with a model; see the
//! package `storm`.

use libtest_mimic::{Failed, Trial};
use std::sync::Arc;
use std::time::Duration;
use storm::shrink::{self, Run};
use storm::{Keep, Mode, Plan};
use tests::{Lab, Request};
use xtask::images::Flavor;
use xtask::machine::Machine;

/// The runs: mode, number of machines, episodes on each of them, minimal number of calls that result.
const PLANS: [(Mode, u64, u32, u64); 3] =
    [(Mode::Plenty, 14, 160, 1_000_000 / 14 + 1), (Mode::Tight, 2, 16, 5_000), (Mode::Crowd, 2, 16, 5_000)];

/// The size of the file in the boot archive that makes memory short. The checking kernel need not check those pages.
const FILLER: usize = 5 << 20;

const TIMEOUT: Duration = Duration::from_secs(300);

pub fn trials(lab: &Arc<Lab>) -> Vec<Trial> {
    let trials = PLANS.into_iter().flat_map(|(mode, machines, episodes, least)| {
        (1..=machines).map(move |seed| {
            (Plan { mode, seed, first: 0, episodes, verbose: false, keep: Keep::ALL }, least)
        })
    });
    trials
        .map(|(plan, least)| {
            let lab = Arc::clone(lab);
            let name = format!("check::storm-{}-{}", plan.mode, plan.seed);
            Trial::test(name, move || play(&lab, &plan, least))
        })
        .collect()
}

fn play(lab: &Lab, plan: &Plan, least: u64) -> Result<(), Failed> {
    let calls = shrink::check(plan, &mut |plan| boot(lab, plan))?;
    if calls >= least {
        return Ok(());
    }
    Err(format!("{calls} calls, at least {least} expected").into())
}

fn boot(lab: &Lab, plan: &Plan) -> Result<Run, String> {
    let memory = storm::plan::MEMORY.parse().map_err(|error| format!("{error:#}"))?;
    let filler = (plan.mode == Mode::Tight).then(|| ("filler".to_owned(), vec![0; FILLER]));
    let request = Request {
        program: "storm".to_owned(),
        args: plan.to_string().split(' ').map(str::to_owned).collect(),
        files: filler.into_iter().collect(),
        input: None,
        // The model plays one environment at a time: a tick must not interrupt one at random.
        tick_us: Some(0),
        provoke: None,
        trace: false,
        timeout: TIMEOUT,
    };
    let machine = Machine { memory, ..Machine::default() };
    let outcome = lab.boot(Flavor::Check, &machine, &request).map_err(|error| format!("{error:#}"))?;
    let missing = outcome.report.map_or(0, |report| report.missing_frames());
    let failure = match outcome.status {
        status if !status.is_success() => Some(status.to_string()),
        _ if missing != 0 => Some(format!("{missing} page frames are missing")),
        _ => None,
    };
    Ok(Run { console: String::from_utf8_lossy(&outcome.console).into_owned(), failure })
}
