//! The costs of calls, faults and forks: no count may be greater than the recorded one.

use abi::{ExitStatus, window::MachineInfo};
use libtest_mimic::{Failed, Trial};
use std::sync::Arc;
use tests::Testbed;
use xtask::bench::{self, Bench, Rows};

pub fn trials(testbed: &Arc<Testbed>) -> Vec<Trial> {
    let (counting, timing) = (Arc::clone(testbed), Arc::clone(testbed));
    vec![
        Trial::test("counts", move || compare(&counting).map_err(|error| format!("{error:#}"))?),
        Trial::test("native", move || Ok(time(&timing).map_err(|error| format!("{error:#}"))?)),
    ]
}

/// Upcalls without a kernel complete, whatever time they take: so nothing is compiled with optimisation.
fn time(testbed: &Testbed) -> anyhow::Result<()> {
    let status = bench::native(&testbed.workspace, &[], testbed.program("bench")?)?;
    anyhow::ensure!(status == ExitStatus::SUCCESS, "timing ended with {status}");
    Ok(())
}

fn compare(testbed: &Testbed) -> anyhow::Result<Result<(), Failed>> {
    let rows = Rows::load(&testbed.workspace)?;
    let bench = Bench { qemu: testbed.qemu.clone(), images: testbed.counting_images(), rows };
    let results = bench.measure(false)?;
    let mut problems = bench::grown(&bench::record(&testbed.workspace), &results)?;
    if let Some((count, what)) = results.longest.filter(|(count, _)| *count > MachineInfo::LONGEST_BOUND) {
        problems.push(format!("an entry to the kernel took {count} instructions: {what}"));
    }
    if problems.is_empty() {
        return Ok(Ok(()));
    }
    problems.push("if this is intended, `cargo xtask bench --update` records the new counts".to_owned());
    Ok(Err(problems.join("\n").into()))
}
