//! All processors take faults at the same time, each in memory of its own.

use crate::kit::{Crew, Must, add, child, cpus, fail, get, rounds, set, until};
use libos::mmap::{MmapMut, MmapOptions};
use libos::{PAGE_SIZE, println};

const SIZE: usize = PAGE_SIZE as usize;
const PAGES: usize = 48;

/// Children write to pages that they share copy-on-write, and to pages that are not yet present.
pub fn all_at_once() {
    let mut shared = MmapOptions::new().len(PAGES * SIZE).map_anon().must("memory");
    fill(&mut shared, 200);
    let count = (cpus() + 1).min(20);
    let mut done = 0;
    for round in rounds(15) {
        set(0, 0);
        set(1, 0);
        let crew = Crew::new(count, |index| {
            child(|| {
                add(0);
                until("the others", || get(1) != 0);
                let seed = (index as u64 * 7 + round) as u8;
                check(&shared, 200);
                fill(&mut shared, seed);
                let mut fresh = MmapOptions::new().len(PAGES * SIZE).map_anon().must("memory");
                for again in 0..4 {
                    (0..PAGES).for_each(|page| empty(&fresh, page));
                    fill(&mut fresh, seed + again);
                    check(&fresh, seed + again);
                    fresh.discard(0..PAGES * SIZE).must("discard");
                }
                check(&shared, seed);
            })
        });
        until("all are there", || get(0) == count as u64);
        set(1, 1);
        crew.ends();
        check(&shared, 200);
        done = round + 1;
    }
    println!("faults: {done} rounds of {count}");
}

/// Fills pages: each holds its number and its owner, at a few places.
fn fill(memory: &mut MmapMut, seed: u8) {
    for page in 0..PAGES {
        for at in (0..SIZE).step_by(700) {
            memory[page * SIZE + at] = (page as u8).wrapping_add(seed);
        }
    }
}

fn check(memory: &MmapMut, seed: u8) {
    for page in 0..PAGES {
        for at in (0..SIZE).step_by(700) {
            let (found, expected) = (memory[page * SIZE + at], (page as u8).wrapping_add(seed));
            if found != expected || memory[page * SIZE + at + 1] != 0 {
                fail!("page {page}, byte {at}: {found}, {expected} expected");
            }
        }
    }
}

fn empty(memory: &MmapMut, page: usize) {
    // Only some are read first, so that both kinds of first touch occur.
    if page.is_multiple_of(3) && memory[page * SIZE..][..SIZE].iter().any(|byte| *byte != 0) {
        fail!("page {page} is not fresh");
    }
}
