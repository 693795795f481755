//! Programs that ask for what must be refused: `user/hostile` does the checking, call by call and
//! error by error; see `GROUPS` in its `main.rs`.

use tests::{Case, graded, named};
use xtask::images::Flavor;

/// Every group has a machine to itself, a small one: what is exhausted is exhausted sooner.
const GROUPS: [&str; 21] = [
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
    "access",
    "tlb",
    "fork",
    "death",
    "orphans",
    "families",
    "long",
    "slots",
    "exhaust",
];

pub fn cases() -> Vec<Case> {
    let left_behind = [("leftbehind", "goes on"), ("leftbehind-idle", "idle")].map(left_behind);
    GROUPS.into_iter().map(hostile).chain(left_behind).collect()
}

/// The machine ends as the first program did, whatever state that left its children in.
fn left_behind((name, argument): (&str, &'static str)) -> Case {
    named(name, "leftbehind").args(&[argument]).memory("32M").exits(7).check(move |run| {
        let goes_on = "^the first program has ended, and this one goes on$";
        run.in_order(&["^the first program ends$", "^nothing can run, .*: these are ended$"]);
        run.count(goes_on, usize::from(argument != "idle")).never("^deadlock");
    })
}

/// Those that courses grade.
const GRADED: [&str; 5] = ["fork", "tlb", "pages", "envs", "ipc"];

fn hostile(group: &'static str) -> Case {
    let name = format!("hostile-{group}");
    if GRADED.contains(&group) {
        return graded(&name).timeout(300);
    }
    let case = named(&name, "hostile").args(&[group]).memory("32M").timeout(300);
    let case = case.check(move |run| {
        run.once(&format!("^{group}: [1-9][0-9]* checks, 0 failed$")).never("^FAILED");
    });
    match group {
        // Its children are looked at in the middle of what they do.
        "tables" => case.one_processor(),
        // Instructions are counted. Without a timer, none of its unfinished children ever runs.
        "long" => case.memory("256M").icount().tick(0).quiet().only(Flavor::Count),
        _ => case,
    }
}
