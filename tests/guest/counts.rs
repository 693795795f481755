//! What calls, faults and forks cost: no count may be greater than the recorded one.

use libtest_mimic::{Failed, Trial};
use std::sync::Arc;
use tests::Lab;
use xtask::bench::{self, Bench, LONGEST_BOUND};

pub fn trials(lab: &Arc<Lab>) -> Vec<Trial> {
    let lab = Arc::clone(lab);
    vec![Trial::test("counts", move || compare(&lab).map_err(|error| format!("{error:#}"))?)]
}

fn compare(lab: &Lab) -> anyhow::Result<Result<(), Failed>> {
    let bench = Bench { qemu: lab.qemu.clone(), images: lab.counting_images(), rows: Vec::new() };
    let results = bench.measure(false)?;
    let mut complaints = bench::grown(&bench::record(&lab.workspace), &results)?;
    if let Some((count, what)) = results.longest.filter(|(count, _)| *count > LONGEST_BOUND) {
        complaints.push(format!("an entry to the kernel took {count} instructions: {what}"));
    }
    if complaints.is_empty() {
        return Ok(Ok(()));
    }
    complaints.push("`cargo xtask bench --update` records the counts anew, if this is meant".to_owned());
    Ok(Err(complaints.join("\n").into()))
}
