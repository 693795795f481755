//! Trees of environments that share pages copy-on-write, and end at the same time.

use crate::kit::{Ends, Must, add, child, cpus, fail, get, rounds, set, until};
use libos::mmap::{MmapMut, MmapOptions};
use libos::{PAGE_SIZE, println, sys};

const PAGES: usize = 24;
const SIZE: usize = PAGE_SIZE as usize;
/// Words of the board: the number of environments that have started, and whether they may end.
const THERE: usize = 0;
const GO: usize = 1;

/// All environments have these pages, from the first environment of the tree, and write to all of them.
pub fn trees() {
    let (depth, width) = if cpus() < 4 { (2, 3) } else { (3, 2) };
    let (mut done, mut size) = (0, 0);
    for round in rounds(25) {
        set(THERE, 0);
        set(GO, 0);
        let mut memory = MmapOptions::new().len(PAGES * SIZE).map_anon().must("memory");
        (0..PAGES).for_each(|page| memory[page * SIZE] = round as u8);
        size = (0..=depth).map(|level| width_to(width, level)).sum();
        let root = child(|| grow(&mut memory, depth, width, round));
        until("all are there", || get(THERE) == size);
        set(GO, 1);
        // Meanwhile the parent, which also has the pages, gives them up.
        drop(memory);
        root.ends();
        done = round + 1;
    }
    println!("exits: {done} trees of {size}");
}

/// An environment ends that has more children than are processed at once: another processor may then continue, and free
/// its page map. (A checking kernel checks whether the first one still has that loaded.)
pub fn orphans() {
    const CHILDREN: u64 = 70;
    let mut done = 0;
    for round in rounds(30) {
        child(|| (0..CHILDREN).for_each(|_| _ = sys::exofork().must("exofork"))).ends();
        done = round + 1;
    }
    println!("orphans: {done} times {CHILDREN} children");
}

fn width_to(width: u64, level: u32) -> u64 {
    width.pow(level)
}

/// Writes, makes children that do the same, waits for the whole tree, writes again, and ends.
fn grow(memory: &mut MmapMut, depth: u32, width: u64, round: u64) {
    let half = PAGES / 2;
    let children = (0..width).map(|branch| {
        (depth > 0).then(|| {
            child(|| {
                (0..half).for_each(|page| memory[page * SIZE + 1 + depth as usize] = branch as u8 + 1);
                grow(memory, depth - 1, width, round);
            })
        })
    });
    // At most three.
    let mut made = [None; 3];
    children.zip(&mut made).for_each(|(child, place)| *place = child);
    let number = add(THERE);
    until("the whole tree is there", || get(GO) != 0);
    for page in 0..PAGES {
        memory[page * SIZE + 10] = number as u8;
    }
    for page in 0..PAGES {
        let bytes = &memory[page * SIZE..][..16];
        // The values of the ancestors are there, and no others.
        let good = bytes[0] == round as u8 && bytes[10] == number as u8 && bytes[11..].iter().all(|b| *b == 0);
        let above = bytes[1..10].iter().filter(|byte| **byte != 0).count();
        if !good || (page >= half && above != 0) {
            fail!("page {page} of number {number}: {bytes:?}");
        }
    }
    made.into_iter().flatten().for_each(Ends::ends);
}
