//! Programs that make requests that must be refused: `user/attack/src/bin/hostile` does the checks, call by call and
//! error by error; see `GROUPS` in its `main.rs`.

use std::num::NonZeroU32;
use tests::{Case, Disk, graded, named};
use xtask::images::Flavor;

/// The groups. Each runs on its own, small machine, so that resources are exhausted sooner.
const GROUPS: [&str; 22] = [
    "pages",
    "runs",
    "batches",
    "tables",
    "buffers",
    "envs",
    "regs",
    "ipc",
    "stack",
    "recursion",
    "placement",
    "exceptions",
    "segments",
    "registers",
    "access",
    "tlb",
    "fork",
    "death",
    "orphans",
    "families",
    "slots",
    "exhaust",
];

/// The groups that need a disk. Some stop it while it is busy: that disk does 12 requests in a second.
const ABOUT_DEVICES: [(&str, bool); 7] = [
    ("devices", false),
    ("handing-out", false),
    ("dma", false),
    ("interrupts", false),
    ("in-flight", true),
    ("holders", true),
    ("replaced", true),
];

/// Models of processors: one with all features of the emulator; old ones, of AMD and of Intel, without SMAP, SMEP and
/// UMIP; a new one of AMD; and models that lack one kind of protection.
const MODELS: [&str; 7] = ["max", "qemu64", "Haswell", "EPYC", "max,-smap", "max,-smep", "max,-umip"];
/// The groups whose results depend on the processor.
const ABOUT_PROCESSORS: [&str; 4] = ["exceptions", "segments", "registers", "access"];
/// If this variable is `all`, every model runs every group, on 1, 2 and 4 processors: a quarter of an hour.
const ALL_VARIABLE: &str = "FAULTLINE_PROCESSORS";

pub fn cases() -> Vec<Case> {
    let all = std::env::var(ALL_VARIABLE).is_ok_and(|which| which == "all");
    let models = MODELS.into_iter().flat_map(|model| on_model(model, all));
    let left_behind = [("leftbehind", "goes on"), ("leftbehind-idle", "idle")].map(left_behind);
    let devices = ABOUT_DEVICES.map(about_devices);
    GROUPS.into_iter().map(hostile).chain(devices).chain(models).chain(left_behind).chain(long()).collect()
}

/// The groups that depend on the processor, in one machine; or all groups, in many.
fn on_model(model: &'static str, all: bool) -> Vec<Case> {
    if !all && model == MODELS[0] {
        // The other tests already run on this model.
        return Vec::new();
    }
    if !all {
        let case = named(&format!("hostile-on-{model}"), "hostile").args(&ABOUT_PROCESSORS);
        return vec![checked(case, ABOUT_PROCESSORS.to_vec()).memory("32M").processor(model)];
    }
    let with = |group: &'static str, cpus: u32| {
        let case = hostile(group).called(&format!("hostile-{group}-on-{model}-{cpus}"));
        case.only(Flavor::Plain).processor(model).cpus(cpus).one_processor()
    };
    // The group `tables` needs one processor.
    let counts = |group| if group == "tables" { 1..2 } else { 1..5 };
    let of = |group| counts(group).filter(|cpus| *cpus != 3).map(move |cpus| with(group, cpus));
    GROUPS.into_iter().flat_map(of).collect()
}

/// The machine ends with the status of the first program, whatever state its children are in.
fn left_behind((name, argument): (&str, &'static str)) -> Case {
    named(name, "leftbehind").args(&[argument]).memory("32M").exits(7).check(move |run| {
        let goes_on = "^the first program has ended, and this one goes on$";
        run.in_order(&["^the first program ends$", "^nothing can run, .*: these are ended$"]);
        run.count(goes_on, usize::from(argument != "idle")).never("^deadlock");
    })
}

/// Searches for the longest kernel entry on several machines. Instructions are counted. Without a timer, none of the
/// unfinished children on one processor ever runs.
fn long() -> impl Iterator<Item = Case> {
    let machines = [1, 2, 4].into_iter().flat_map(|cpus| [(cpus, Some(0)), (cpus, None)]);
    machines.map(|(cpus, tick)| {
        let timer = if tick.is_some() { "" } else { "-timer" };
        let case = named(&format!("hostile-long-{cpus}{timer}"), "hostile").args(&["long"]).cpus(cpus);
        let case = case.memory("256M").timeout(300).icount().quiet().only(Flavor::Count);
        let case = tick.into_iter().fold(case, Case::tick);
        case.check(move |run| {
            run.once("^long: [1-9][0-9]* checks, 0 failed$").never("^FAILED");
            // Every page call was made, and took its time. (With a timer, a call that is made while programs run on
            // other processors is not counted: its share of the executed instructions is unknown.)
            let counted = run.matching(LONG_CALLS).len();
            let least = if cpus > 1 && tick.is_none() { 6 } else { 11 };
            run.expect(counted >= least, format!("{counted} calls were counted, {least} expected"));
        })
    })
}

const LONG_CALLS: &str = "^longest (alloc|map|copy|protect|unmap|mark|own|share_tables|own_tables|unmap_tables|protect_tables) [1-9][0-9]{3,}$";

/// The groups that courses grade.
const GRADED: [&str; 5] = ["fork", "tlb", "pages", "envs", "ipc"];

fn hostile(group: &'static str) -> Case {
    let name = format!("hostile-{group}");
    if GRADED.contains(&group) {
        return graded(&name).timeout(300);
    }
    let case = named(&name, "hostile").args(&[group]).memory("32M").timeout(300);
    let case = checked(case, vec![group]);
    match group {
        // The checks inspect its children in the middle of calls.
        "tables" => case.one_processor(),
        _ => case,
    }
}

fn about_devices((group, slow): (&'static str, bool)) -> Case {
    let per_second = NonZeroU32::new(12).expect("a number above 0");
    hostile(group).disk(if slow { Disk::empty("16K").limited(per_second) } else { Disk::empty("1M") })
}

/// Expects that no check of these groups fails.
fn checked(case: Case, groups: Vec<&'static str>) -> Case {
    case.check(move |run| {
        for group in &groups {
            run.once(&format!("^{group}: [1-9][0-9]* checks, 0 failed$"));
        }
        run.never("^FAILED");
    })
}
