//! Random accesses to memory that is larger than the pool of frames: `swapstorm [FRAMES [PAGES [ACCESSES [SEED]]]]`.
//!
//! Every page has a number of its own and a count of the writes to it. Each access checks both, so a page that was lost,
//! swapped with another or not written back is found.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec;
use core::error::Error;
use libos::disk::Disk;
use libos::{Args, PAGE_SIZE, println, swap, time, windows};

libos::entry!(main);

const WORDS: usize = PAGE_SIZE as usize / 8;

fn main(mut args: Args) -> Result<(), Box<dyn Error>> {
    let mut number = |otherwise| args.next().map_or(Ok(otherwise), str::parse::<usize>);
    let (frames, pages, accesses, seed) = (number(256)?, number(1024)?, number(20_000)?, number(1)?);
    let free = windows::free_frames();
    swap::begin(Disk::open(0)?, frames)?;
    let mut memory = swap::map(pages * PAGE_SIZE as usize)?;
    let mut counts = vec![0_u64; pages];
    let mut state = seed as u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (words, _) = memory.as_chunks_mut::<8>();
    let (start, idle) = (time::ticks(), windows::idle());
    for access in 0..accesses {
        let page = random(pages);
        let at = page * WORDS + random(WORDS / 2);
        let expected = if counts[page] == 0 { [0; 2] } else { [page as u64, counts[page]] };
        let found = [words[page * WORDS], words[page * WORDS + 1]].map(u64::from_le_bytes);
        if found != expected {
            return Err(alloc::format!("access {access}: page {page} has {found:?} instead of {expected:?}").into());
        }
        if random(2) == 0 {
            counts[page] += 1;
            words[page * WORDS] = (page as u64).to_le_bytes();
            words[page * WORDS + 1] = counts[page].to_le_bytes();
        } else {
            core::hint::black_box(words[at]);
        }
    }
    let (took, idle) = (time::ticks() - start, windows::idle() - idle);
    let told = swap::counts().unwrap_or_default();
    println!("{accesses} accesses to {pages} pages with {frames} frames: {told:?}");
    println!("{} each, {} idle", (took - idle) / accesses as u64, idle / accesses as u64);
    println!("frames used: {}", free - windows::free_frames());
    if let Some(failure) = swap::take_failure() {
        println!("the last failure: {failure}");
    }
    Ok(())
}
