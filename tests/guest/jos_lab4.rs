//! The sixteen programs of the fourth JOS lab. The expected output is in the rubric (`tests/course/rubric.toml`), since
//! courses grade by it. This module adds other machines and arguments for these programs, and programs that were never
//! graded.

use tests::{Case, Run, graded, guest, named};
use xtask::images::Flavor;

/// The first environment, and its first child.
const FIRST: &str = "00001000";
const CHILD: &str = "00001001";

pub fn cases() -> Vec<Case> {
    [as_graded(), on_other_machines(), ungraded()].concat()
}

fn as_graded() -> Vec<Case> {
    const NAMES: [&str; 13] = [
        "dumbfork",
        "faultread",
        "faultwrite",
        "faultdie",
        "faultregs",
        "faultalloc",
        "faultallocbad",
        "faultnostack",
        "faultbadhandler",
        "faultevilhandler",
        "forktree",
        "sendpage",
        "pingpong",
    ];
    let mut cases: Vec<Case> = NAMES.into_iter().map(graded).collect();
    cases.push(graded("spin").one_processor());
    cases.push(graded("stresssched").cpus(4).only(Flavor::Plain));
    // A checking kernel walks the page tables of three hundred environments after every call: too slow.
    cases.push(graded("primes").timeout(240).only(Flavor::Plain));
    cases
}

fn on_other_machines() -> Vec<Case> {
    vec![
        // Preempted all the time, and still no state is lost.
        graded("faultregs").called("faultregs-preempted").tick(50),
        graded("forktree-by-page"),
        graded("forktree").called("forktree-small").memory("32M"),
        graded("forktree").called("forktree-preempted").tick(100),
        graded("pingpong").called("pingpong-preempted").tick(100),
        named("stresssched-1", "stresssched").one_processor().check(|run| {
            run.count("stresssched on CPU 0$", 20).count("new env", 21).count("exiting gracefully", 21);
            run.count("free env", 21).once("^1 of 1 processors ran children$");
        }),
    ]
}

fn ungraded() -> Vec<Case> {
    vec![
        guest("fasthandler").check(|run| {
            run.once("^parent: every register as it was$").once("^child: every register as it was$");
            run.once("^and is gone$");
        }),
        guest("pingpongs").check(pingpong),
        guest("yield").check(|run| {
            for id in [FIRST, CHILD, "00001002"] {
                run.once(&format!("^Hello, I am environment {id}.$"));
                let rounds: Vec<_> = (0..5).map(|i| format!("^Back in environment {id}, iteration {i}.$")).collect();
                run.in_order(&rounds).once(&format!("^All done in environment {id}.$"));
            }
            run.count("^Back in", 15);
        }),
        // In real time, a busy host can take the processor away from one of the two at any moment.
        guest("turns").icount().check(|run| _ = run.once("^the other one had [0-9]+ turns")),
        named("turns-ticks", "turns").args(&["ticks"]).icount().tick(100).only(Flavor::Plain).check(|run| {
            run.once("^[0-9]+ ticks were counted while [0-9]+ passed$");
        }),
        named("turns-heirs", "turns").args(&["heirs"]).icount().tick(200).only(Flavor::Plain).check(|run| {
            run.once("^[0-9]+ turns while others ended$");
        }),
        guest("fairness").icount().check(|run| {
            let from = |id: &str| run.matching(&format!("^00001000 recv from {id}$")).len();
            let (one, other) = (from(CHILD), from("00001002"));
            run.expect(one.min(other) * 3 >= one.max(other), format!("unfair: {one} to {other}"));
            run.expect(one + other >= 20, format!("{} messages", one + other));
        }),
    ]
}

fn pingpong(run: &Run) {
    let mut steps = vec![format!("^send 0 from {FIRST} to {CHILD}$")];
    for step in 0..=10 {
        let (to, from) = if step % 2 == 0 { (CHILD, FIRST) } else { (FIRST, CHILD) };
        steps.push(format!("^{to} got {step} from {from}"));
    }
    run.in_order(&steps).count(" got ", 11).count("exiting gracefully", 2);
}
