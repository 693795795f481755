//! The guest tests: `cargo xtask test`. One module for each subject.

mod apps;
mod boot;
mod classic;
mod counts;
mod documents;
mod earlier;
mod grading;
mod hostile;
mod image;
mod outside;
mod pagers;
mod shell;
mod smp;
mod storm;

mod handouts;
mod mutants;

use libtest_mimic::{Arguments, Conclusion, Trial};
use std::process::ExitCode;
use std::sync::Arc;
use tests::{Case, Lab};
use xtask::{interrupt, leash, say};

fn main() -> ExitCode {
    leash::enter();
    let arguments = Arguments::from_args();
    let lab = match Lab::open() {
        Ok(lab) => Arc::new(lab),
        Err(error) => {
            say!("{error:#}");
            return ExitCode::from(abi::ExitStatus::TOOL_FAILED.0);
        }
    };
    let conclusion = run(&arguments, &lab);
    interrupt::obey();
    conclusion.exit_code()
}

fn run(arguments: &Arguments, lab: &Arc<Lab>) -> Conclusion {
    let cases: Vec<Case> = [classic::cases(), earlier::cases(), shell::cases(), boot::cases()].concat();
    let mut trials: Vec<Trial> = cases.iter().flat_map(|case| case.trials(lab)).collect();
    trials.extend(hostile::cases().iter().flat_map(|case| case.trials(lab)));
    trials.extend(smp::cases().iter().flat_map(|case| case.trials(lab)));
    trials.extend(pagers::cases().iter().flat_map(|case| case.trials(lab)));
    trials.extend(apps::cases().iter().flat_map(|case| case.trials(lab)));
    trials.extend(documents::cases().iter().flat_map(|case| case.trials(lab)));
    trials.extend(boot::trials(lab));
    trials.extend(image::trials(lab));
    trials.extend(pagers::trials(lab));
    trials.extend(counts::trials(lab));
    trials.extend(grading::trials(lab));
    trials.extend(storm::trials(lab));
    trials.extend(outside::trials(lab));
    trials.extend(handouts::trials(lab));
    trials.extend(mutants::trials(lab));
    libtest_mimic::run(arguments, trials)
}
