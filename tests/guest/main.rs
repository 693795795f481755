//! The guest tests: `cargo xtask test`. One module for each subject.

mod apps;
mod boot;
mod counts;
mod disks;
mod documented_output;
mod grading;
mod hostile;
mod image;
mod iommu;
mod jos_lab3;
mod jos_lab4;
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
use tests::{Case, Testbed};
use xtask::{images::Flavor, interrupt, kill_on_exit, say, workspace::Workspace};

fn main() -> ExitCode {
    kill_on_exit::init();
    let arguments = Arguments::from_args();
    say!("building the kernels and the programs");
    let built = Workspace::load().and_then(|workspace| Testbed::build(workspace, &Flavor::ALL, false));
    let testbed = match built {
        Ok(testbed) => Arc::new(testbed),
        Err(error) => {
            say!("{error:#}");
            return ExitCode::from(abi::ExitStatus::TOOL_FAILED.0);
        }
    };
    let conclusion = run(&arguments, &testbed);
    interrupt::obey();
    conclusion.exit_code()
}

fn run(arguments: &Arguments, testbed: &Arc<Testbed>) -> Conclusion {
    let cases: Vec<Case> = [jos_lab3::cases(), jos_lab4::cases(), shell::cases(), boot::cases()].concat();
    let mut trials: Vec<Trial> = cases.iter().flat_map(|case| case.trials(testbed)).collect();
    trials.extend(hostile::cases().iter().flat_map(|case| case.trials(testbed)));
    trials.extend(smp::cases().iter().flat_map(|case| case.trials(testbed)));
    trials.extend(pagers::cases().iter().flat_map(|case| case.trials(testbed)));
    trials.extend(apps::cases().iter().flat_map(|case| case.trials(testbed)));
    trials.extend(documented_output::cases().iter().flat_map(|case| case.trials(testbed)));
    trials.extend(disks::cases().iter().flat_map(|case| case.trials(testbed)));
    trials.extend(boot::trials(testbed));
    trials.extend(disks::trials(testbed));
    trials.extend(image::trials(testbed));
    trials.extend(iommu::trials(testbed));
    trials.extend(pagers::trials(testbed));
    trials.extend(counts::trials(testbed));
    trials.extend(grading::trials(testbed));
    trials.extend(storm::trials(testbed));
    trials.extend(outside::trials(testbed));
    trials.extend(handouts::trials(testbed));
    trials.extend(mutants::trials(testbed));
    libtest_mimic::run(arguments, trials)
}
