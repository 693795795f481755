//! Machines of all sizes, and machines in which every run is the same.

use abi::ExitStatus;
use libtest_mimic::{Failed, Trial};
use std::sync::Arc;
use tests::{Case, Run, Testbed, guest, named};
use xtask::images::Flavor;

pub fn cases() -> Vec<Case> {
    // 6G: memory continues above 4 GiB, behind the hole for devices.
    let machines = ["32M", "512M", "4G", "6G"].into_iter().flat_map(machine_of);
    let machines = machines.chain(UNFIT.map(|(model, lacks)| unfit(model, lacks)));
    machines.chain([1, 4].map(interrupted)).collect()
}

/// At the first instruction of a system call, GS is still the program's. An exception can come there, as anywhere, and
/// must still find its processor.
fn interrupted(cpus: u32) -> Case {
    let case = named(&format!("interrupted-entries-{cpus}"), "forktree").cpus(cpus).only(Flavor::Check);
    case.one_processor().provoke("break-entries").check(|run| _ = run.count(": I am '", 15))
}

/// Processors that the kernel cannot use, and the missing features that it reports.
const UNFIT: [(&str, &str); 5] = [
    ("qemu32", "NX, LM"),
    ("qemu64,-nx", "NX"),
    ("qemu64,-lm", "LM"),
    ("qemu64,-syscall", "SYSCALL"),
    ("qemu64,-sse2", "SSE2"),
];

fn unfit(model: &'static str, lacks: &'static str) -> Case {
    let case = named(&format!("unfit-{model}"), "hello").processor(model).only(Flavor::Plain).one_processor();
    case.exits(ExitStatus::UNFIT_PROCESSOR.0).check(move |run| {
        // The firmware's text may precede it on the same line.
        run.once(&format!("this processor lacks {lacks}$")).never("hello");
    })
}

fn machine_of(size: &'static str) -> Vec<Case> {
    let case = named(&format!("boot-{size}"), "forktree").memory(size).check(move |run| {
        run.count(": I am '", 15);
        let free = run.report.as_ref().map_or(0, |report| report.free_start) * abi::PAGE_SIZE;
        let memory = size.parse::<xtask::machine::Memory>().map_or(0, |memory| memory.0);
        // The kernel's own memory: its image, its page tables, the boot archive.
        let least = memory / 100 * 97 - (12 << 20);
        run.expect(free >= least, format!("{free} bytes of {memory} are free, at least {least} expected"));
    });
    // A checking kernel checks every page table of a big machine after every call.
    if size.ends_with('G') { vec![case.only(Flavor::Plain)] } else { vec![case] }
}

/// Runs a program under `--icount` twice: not one byte may differ.
pub fn trials(testbed: &Arc<Testbed>) -> Vec<Trial> {
    ["forktree", "stresssched", "fairness", "faultregs", "tour"]
        .into_iter()
        .map(|program| {
            let testbed = Arc::clone(testbed);
            Trial::test(format!("deterministic-{program}"), move || same_twice(&testbed, program))
        })
        .collect()
}

fn same_twice(testbed: &Testbed, program: &str) -> Result<(), Failed> {
    let case = guest(program).icount();
    let first = case.boot(testbed, Flavor::Count)?;
    let second = case.boot(testbed, Flavor::Count)?;
    if let Some((a, b)) = first.lines().zip(second.lines()).find(|(a, b)| a != b) {
        return Err(format!("two runs of {program} differ:\n  {a}\n  {b}").into());
    }
    let facts = |run: &Run| {
        let report = run.report.as_ref().map(|report| (report.free_start, report.free_end, report.longest));
        (run.console.len(), run.end, report)
    };
    if facts(&first) == facts(&second) {
        Ok(())
    } else {
        Err(format!("two runs of {program} differ: {:?}, {:?}", facts(&first), facts(&second)).into())
    }
}
