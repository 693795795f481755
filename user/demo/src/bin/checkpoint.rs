//! A checkpoint of a running program: pages become read-only, and the first write to each saves it.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec;
use libos::{Cause, EnvId, Error, PAGE_SIZE, PageCalls, Pager, Perms, Pte, Region, Resolution, Sys, Touch, Va};
use libos::{mmap::MmapOptions, println, stats, sys, uvpt};

libos::entry!(main);

const MEMORY: Va = Va(0x2000_0000_0000);
/// The distance of a page's saved copy. A program that wants to keep it writes it to a disk.
const SNAPSHOT: u64 = 1 << 32;
const BYTES: usize = 1 << 20;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Memory that can be checkpointed. A page that is not yet saved is read-only: the page table knows that, and no other
/// record is needed.
struct Checkpointed;

impl Pager<Sys> for Checkpointed {
    fn name(&self) -> &'static str {
        "checkpointed"
    }

    fn fault(&self, kernel: &mut Sys, touch: &Touch, region: &Region) -> sys::Result<Resolution> {
        let page = touch.va.page();
        if touch.entry.is_present() {
            save(kernel, page)?;
        } else {
            kernel.alloc(page, 1, region.perms)?;
        }
        Ok(Resolution::Resume(Cause::Custom))
    }
}

/// Copies a page into the snapshot, and makes it writable again.
fn save(kernel: &mut Sys, page: Va) -> sys::Result<()> {
    let copy = Va(page.0 + SNAPSHOT);
    kernel.alloc(copy, 1, Perms::WRITE)?;
    kernel.copy(page, copy, PAGE_SIZE);
    kernel.protect(page, 1, Perms::WRITE)
}

fn is_unsaved(page: Pte) -> bool {
    page.is_present() && !page.has(Pte::WRITABLE)
}

/// The work of the program: it writes all over its memory.
struct Work(u64);

impl Work {
    fn go_on(&mut self, memory: &mut [u8], steps: usize) {
        for _ in 0..steps {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            let place = (self.0 >> 32) as usize % memory.len();
            memory[place] = memory[place].wrapping_add(self.0 as u8 | 1);
        }
    }
}

fn main() -> Result<(), Error> {
    let options = MmapOptions::new().len(BYTES);
    let mut memory = options.at(MEMORY).map_with(&Checkpointed)?;
    let snapshot = options.at(Va(MEMORY.0 + SNAPSHOT)).map_anon()?;
    let mut work = Work(SEED);
    work.go_on(&mut memory, 200);

    // The checkpoint itself: as many calls as there are runs of pages.
    let (mut pages, mut runs) = (0, 0);
    for (first, count, ()) in uvpt::runs(memory.range(), |entry| entry.is_present().then_some(())) {
        sys::protect(EnvId::SELF, first, count, Perms::READ)?;
        (pages, runs) = (pages + count, runs + 1);
    }
    println!("checkpoint: {pages} of {} pages are there, in {runs} runs", memory.len() as u64 / PAGE_SIZE);

    // The rest is done while the program goes on: it writes twice for each page that is swept.
    let (faults, mut swept, mut steps) = (stats::get().by_pager, 0, 0);
    while let Some((page, _)) = uvpt::entries(memory.range()).find(|(_, page)| is_unsaved(*page)) {
        save(&mut Sys, page)?;
        work.go_on(&mut memory, 2);
        (swept, steps) = (swept + 1, steps + 2);
    }
    let new = uvpt::entries(memory.range()).count() as u64 - pages;
    let by_faults = stats::get().by_pager - faults - new;
    println!("meanwhile {steps} writes: {swept} pages saved by the sweep, {by_faults} by faults, {new} are new");
    assert!(swept + by_faults == pages && by_faults > 0);
    assert_eq!(uvpt::entries(snapshot.range()).count() as u64, pages);

    // The expected content: the work is repeated on memory without a checkpoint.
    let (mut again, mut memory_again) = (Work(SEED), vec![0; BYTES]);
    again.go_on(&mut memory_again, 200);
    assert!(snapshot[..] == memory_again, "the snapshot is not the state at the checkpoint");
    assert!(memory[..] != memory_again);
    again.go_on(&mut memory_again, steps);
    assert!(memory[..] == memory_again, "the memory is not what was written to it");
    println!("the snapshot is as the memory was, and the memory as it was written");
    Ok(())
}
