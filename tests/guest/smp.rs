//! Tests on several processors: `user/attack/src/bin/smp` does the checks; see `CHECKS` in its `main.rs`. All other
//! tests also run on several processors: see `Case::trials`.

use abi::window::LockKind;
use tests::{Case, Run, named};
use xtask::images::Flavor;
use xtask::scale::Measurement;

/// The checks, each on four processors.
const CHECKS: [&str; 26] = [
    "processors",
    "yield",
    "registers",
    "shootdown",
    "runs",
    "tables",
    "protect",
    "unmap-run",
    "unmap-tables",
    "protect-tables",
    "stop",
    "jump",
    "upcalls",
    "destroy",
    "race",
    "exits",
    "orphans",
    "ipc",
    "ring",
    "pairs",
    "dead",
    "awaited",
    "stopped",
    "buffers",
    "faults",
    "console",
];

/// Checks that also run on other numbers of processors.
const MORE: [(&str, &[u32]); 13] = [
    ("processors", &[1, 2, 3, 8, 16, 64]),
    ("shootdown", &[2, 8]),
    ("protect", &[2]),
    ("unmap-run", &[2]),
    ("unmap-tables", &[2]),
    ("protect-tables", &[2]),
    ("stop", &[2]),
    ("upcalls", &[3]),
    ("destroy", &[2, 8]),
    ("exits", &[3, 16]),
    ("ipc", &[2, 8]),
    ("faults", &[8, 16]),
    ("console", &[2, 8]),
];

/// Checks that are too slow for the checking kernel: many environments with many pages.
const SLOW: [&str; 4] = ["runs", "destroy", "exits", "faults"];

/// The seeds for `soak`, which does everything at once.
const SEEDS: [u64; 3] = [1, 2, 3];
/// The time limit of a test, in seconds. Each takes about five; but processors that wait for one another do so for as
/// long as the host suspends one of them, so a busy host needs many times as long.
const TIMEOUT_SECONDS: u64 = 1200;
/// The duration of a soak in seconds of the guest's time, which on a busy host may be minutes.
const SECONDS: u64 = 4;
/// An environment variable that sets a longer duration, for every check.
const SECONDS_VARIABLE: &str = "FAULTLINE_SOAK_SECONDS";

pub fn cases() -> Vec<Case> {
    let four = CHECKS.into_iter().map(|check| {
        let case = smp(check, 4);
        if SLOW.contains(&check) { case.only(Flavor::Plain) } else { case }
    });
    let more = MORE.into_iter().flat_map(|(check, counts)| {
        counts.iter().map(move |&cpus| smp(check, cpus).one_processor().only(Flavor::Plain))
    });
    four.chain(more).chain(SEEDS.into_iter().map(soak)).chain([scale(), twice(), late()]).collect()
}

/// Work of environments on their own pages does not disturb other processors, and neither do questions and answers
/// between two environments on one processor: their only common lock is that of the free frames. The machine has no
/// timer, so that only this work is measured.
fn scale() -> Case {
    let case = named("smp-scale-4", "scale").args(&["1000"]).cpus(4).tick(0).timeout(300).only(Flavor::Plain);
    case.check(|run| {
        let found: Vec<Measurement> = run.lines().filter_map(Measurement::parse).collect();
        let kinds: Vec<&str> = found.iter().map(|found| found.kind.as_str()).collect();
        run.expect(kinds == ["faults", "page-calls", "round-trips"], format!("{kinds:?} measured"));
        for found in &found {
            let whole = found.worked == 4 && found.operations == 4 * 1000 && found.ticks != 0;
            run.expect(whole, format!("not all processors worked: {found:?}"));
            let shared = |kind: &LockKind| found.contended[*kind as usize] != 0 && *kind != LockKind::Frames;
            let disturbed = LockKind::ALL.into_iter().find(shared);
            run.expect(disturbed.is_none(), format!("{disturbed:?} was contended for: {found:?}"));
        }
    })
}

/// The duration in the environment variable.
fn asked_for() -> Option<u64> {
    let text = std::env::var(SECONDS_VARIABLE).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{SECONDS_VARIABLE}={text} is not a number of seconds")))
}

fn soak(seed: u64) -> Case {
    let seconds = asked_for().unwrap_or(SECONDS);
    let args = [format!("seed={seed}"), format!("seconds={seconds}")];
    let case = named(&format!("smp-soak-{seed}"), "smp").args(&["soak", &args[0], &args[1]]).cpus(4);
    // The checking kernel is slow here, so it runs one seed only.
    let case = if seed == SEEDS[0] { case } else { case.only(Flavor::Plain) };
    case.quiet().timeout(600 + 30 * seconds).check(move |run| {
        run.once(&format!("^soak: seed {seed}, [1-9][0-9]* replaced, .*")).never("^FAILED").never(" 0(,|$)");
        let lines = run.matching("a line|letters:|aaa");
        run.expect(!lines.is_empty(), "no lines");
        for line in lines {
            run.expect(is_whole(line), format!("a line that is not whole: {line}"));
        }
    })
}

/// Whether a line is `a line of N letters: ` followed by N letters.
fn is_whole(line: &str) -> bool {
    let Some((count, letters)) = line.strip_prefix("a line of ").and_then(|rest| rest.split_once(" letters: ")) else {
        return false;
    };
    count.parse() == Ok(letters.len()) && letters.bytes().all(|letter| letter == b'a')
}

/// Fault injection: two processors hold one environment, and the checking kernel must see it.
fn twice() -> Case {
    let case = named("two-processors-have-one", "stresssched").cpus(4).only(Flavor::Check);
    case.panics("hold-twice").check(|run| {
        run.once(r"^kernel panic: .*check\.rs:[0-9]+:[0-9]+:$");
        // The processor that takes the environment reports it, or any other one that enters the kernel before that.
        run.once(
            r"^environment [0-9a-f]{8} (is on processors [0-3] and [0-3]|runs on processor [0-3], and .* holds it)$",
        );
    })
}

/// Fault injection: a processor starts so late that the others no longer wait for it. It is left out, and does no harm.
fn late() -> Case {
    let case = named("late-processor", "smp").args(&["processors"]).cpus(4).only(Flavor::Check);
    case.provoke("late=2").check(|run| {
        run.in_order(&[
            "^the processor with local APIC 2 does not answer, and is left out$",
            "^processors: 3 of 3 ran children$",
        ]);
    })
}

fn smp(check: &'static str, cpus: u32) -> Case {
    let seconds = asked_for().unwrap_or(0);
    let case = named(&format!("smp-{check}-{cpus}"), "smp").args(&[check, &format!("seconds={seconds}")]);
    case.cpus(cpus).timeout(TIMEOUT_SECONDS + 30 * seconds).check(move |run| {
        let seen = !run.matching(&format!("^{check}: .*[1-9]")).is_empty();
        run.expect(seen, "nothing was seen").never("^FAILED");
        match check {
            "processors" => {
                let all = run.matching(&format!("^processors: {cpus} of {cpus} ran children$")).len();
                run.count("^processors: ", all.max(1));
            }
            "console" => lines(run),
            "buffers" => buffers(run),
            _ => {}
        }
    })
}

/// Every child's lines are present, whole and in order, and no other line holds a part of one.
fn lines(run: &Run) {
    let summaries = run.matching("^console: [0-9]+ children, [0-9]+ lines each$");
    let first = summaries.first().into_iter().flat_map(|line| line.split(' '));
    let numbers: Vec<usize> = first.filter_map(|word| word.parse().ok()).collect();
    let [children, lines] = numbers[..] else {
        run.expect(false, "no summary");
        return;
    };
    for child in 0..children {
        let letter = char::from(b'a' + child as u8);
        let whole: Vec<String> =
            (0..lines).map(|line| format!("^child {child} of {children}, line {line}: {letter}{{120}}$")).collect();
        run.in_order(&whole);
    }
    let all = children * lines * summaries.len();
    run.count("child [0-9]+ of", all).count("[a-z]{60}", all);
}

/// Expects a line for every call that succeeded, and never a part of one.
fn buffers(run: &Run) {
    let good: usize = run
        .matching("^buffers: kind 2: ")
        .iter()
        .filter_map(|line| line.split(' ').filter_map(|word| word.parse::<usize>().ok()).nth(1))
        .sum();
    run.expect(good > 0, "no good call");
    run.count("a line|that come", good).count("^buffers: a line in pages that come and go$", good);
}
