//! The page-ins of every policy on every trace, compared with `tests/page-ins.json`, and the aims of the default policy.
//!
//! The traces are made for 8,192 frames. Linux ran them in a memory cgroup that left 8,280 frames to the program.

use crate::machine::Machine;
use crate::traces::{FRAMES, NAMES, Trace};
use crate::{Name, optimal};
use replacement::Page;
use serde_json::Value;
use std::{fs, path::Path};

/// The frames that Linux had, and that the recorded figures are for.
const MEASURED: usize = 8_280;
const SEED: u64 = 1;

/// The page-ins of a policy, trace by trace.
type Row = [usize; NAMES.len()];

fn row(traces: &[Trace], count: impl Fn(&Trace) -> usize) -> Row {
    std::array::from_fn(|i| count(&traces[i]))
}

fn play(traces: &[Trace], frames: usize, batch: usize, name: Name) -> Row {
    row(traces, |trace| name.with(name.nodes(frames), |policy| Machine::play(trace, frames, batch, policy)))
}

/// The geometric mean of the quotients of two rows. Traces on which the lower one has no page-ins do not count.
fn mean(row: &Row, least: &Row) -> f64 {
    let quotients = row.iter().zip(least).filter(|(_, least)| **least > 0);
    let logarithms: Vec<f64> = quotients.map(|(count, least)| (*count as f64 / *least as f64).ln()).collect();
    (logarithms.iter().sum::<f64>() / logarithms.len() as f64).exp()
}

/// The recorded page-ins of a policy, or of another system.
fn recorded(name: &str) -> Row {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/page-ins.json");
    let record: Value = serde_json::from_str(&fs::read_to_string(path).expect("a record")).expect("JSON");
    let rows = record.as_array().expect("an array");
    let row = rows.iter().find(|row| row["policy"] == name).unwrap_or_else(|| panic!("no record of {name}"));
    let count = |i: usize| row["page_ins"][i].as_u64().expect("a number") as usize;
    std::array::from_fn(count)
}

/// The traces are those that Linux ran.
#[test]
fn traces_are_those_that_were_measured() {
    let digests = Trace::all(SEED).iter().map(Trace::digest).collect::<Vec<_>>();
    let measured = [
        0x686f_0709_4d56_e325,
        0x0d2a_7da7_cbbb_71c6,
        0x7f21_6bd2_47d0_257f,
        0xf816_e566_4086_d737,
        0xa02b_8413_39e4_146d,
        0xcef2_249c_51bb_7d94,
        0x014e_9089_fb16_2175,
    ];
    assert_eq!(digests, measured, "{NAMES:?}");
}

#[test]
fn page_ins_are_as_recorded() {
    let traces = Trace::all(SEED);
    let counted = [
        ("min", row(&traces, |trace| optimal::min(trace, MEASURED))),
        ("lru", row(&traces, |trace| optimal::lru(trace, MEASURED))),
        ("clock", play(&traces, MEASURED, 1, Name::Clock)),
        ("2q", play(&traces, MEASURED, 1, Name::TwoQueues)),
        ("s3-fifo", play(&traces, MEASURED, 1, Name::S3Fifo)),
        ("lirs", play(&traces, MEASURED, 1, Name::Lirs)),
        ("lirs-32", play(&traces, MEASURED, 32, Name::Lirs)),
    ];
    let different: Vec<_> = counted.iter().filter(|(name, row)| *row != recorded(name)).collect();
    assert!(different.is_empty(), "tests/page-ins.json has other counts than {different:?}");
}

/// LIRS is what a pager takes if it knows nothing of the program.
#[test]
fn lirs_is_a_good_default() {
    let [least, lru, lirs] = ["min", "lru", "lirs"].map(recorded);
    let [linux, generations] = ["linux", "linux-mglru"].map(recorded);
    assert!(mean(&lirs, &least) <= 1.9, "{} times MIN", mean(&lirs, &least));
    for (i, name) in NAMES.into_iter().enumerate() {
        let better = linux[i].min(generations[i]);
        assert!(lirs[i] * 100 <= better * 105, "{name}: {}, and Linux {better}", lirs[i]);
        let most = match name {
            "loop" | "scanhot" => least[i] * 11 / 10,
            "phase" | "zipf" => lru[i] * 105 / 100,
            _ => usize::MAX,
        };
        assert!(lirs[i] <= most, "{name}: {}, more than {most}", lirs[i]);
    }
}

/// With other traces and memories, which no parameter was chosen for, LIRS is the best of all, and nowhere much worse
/// than LRU.
#[test]
fn lirs_is_a_good_default_elsewhere() {
    for (seed, frames) in [(1, FRAMES / 2), (2, FRAMES / 4 * 3), (3, FRAMES), (4, FRAMES / 2 * 3)] {
        let (traces, frames) = (Trace::all(seed), frames as usize);
        let least = row(&traces, |trace| optimal::min(trace, frames));
        let lru = row(&traces, |trace| optimal::lru(trace, frames));
        let of = |name| play(&traces, frames, 1, name);
        let [lirs, others @ ..] = [Name::Lirs, Name::Clock, Name::TwoQueues, Name::S3Fifo].map(of);
        println!("{frames} frames, seed {seed}: {least:?}, LRU {lru:?}, LIRS {lirs:?}");
        for other in others.iter().chain([&lru]) {
            assert!(mean(&lirs, &least) < mean(other, &least), "{frames} frames: {lirs:?}, {other:?}");
        }
        for (i, name) in NAMES.into_iter().enumerate() {
            assert!(lirs[i] * 100 <= lru[i] * 120, "{frames} frames, {name}: {}, and LRU {}", lirs[i], lru[i]);
        }
    }
}

/// With very little memory S3-FIFO is better than LIRS, as docs/replacement.md says, and both are better than LRU.
#[test]
fn s3_fifo_is_better_with_little_memory() {
    const FEW: usize = FRAMES as usize / 32;
    let traces = Trace::all(SEED);
    let least = row(&traces, |trace| optimal::min(trace, FEW));
    let lru = row(&traces, |trace| optimal::lru(trace, FEW));
    let [s3_fifo, lirs] = [Name::S3Fifo, Name::Lirs].map(|name| play(&traces, FEW, 1, name));
    let [s3_fifo, lirs, lru] = [s3_fifo, lirs, lru].map(|row| mean(&row, &least));
    assert!(s3_fifo < lirs && lirs < lru, "{s3_fifo}, {lirs}, {lru} times MIN");
}
/// A program begins a loop after it has worked in phases, which made the queue long.
#[test]
fn lirs_adapts_to_a_loop_after_phases() {
    let [around, .., phases, _, _] = &Trace::all(SEED)[..] else { panic!("{NAMES:?}") };
    let moved = around.accesses.iter().map(|page| Page(page.0 + phases.pages));
    let page_ins = |times: usize| {
        let loops = std::iter::repeat_n(moved.clone(), times).flatten();
        let accesses = phases.accesses.iter().copied().chain(loops).collect();
        let trace = Trace { name: "loop after phases", pages: phases.pages + around.pages, accesses };
        Name::Lirs.with(Name::Lirs.nodes(MEASURED), |policy| Machine::play(&trace, MEASURED, 1, policy))
    };
    let second = page_ins(2) - page_ins(1);
    assert!(second < around.accesses.len() / 2, "{second} page-ins in the second half of the loop");
}
