//! Uses twice the memory of the machine: a pager keeps 256 pages, and compresses the others onto the heap.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};
use bytemuck::{cast_slice, cast_slice_mut};
use core::{array, ops::Range, sync::atomic::Ordering::Relaxed};
use libos::mmap::{MmapMut, MmapOptions};
use libos::{Cause, Error, Inherit, PAGE_SIZE, PageCalls, Pager, Pte, Region, Resolution, Sys, Touch, Va};
use libos::{pages, println, stats, sys, windows};
use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use spin::{Mutex, MutexGuard};

libos::entry!(main);

/// The number of resident pages.
const MOST: usize = 256;
const WORDS: usize = PAGE_SIZE as usize / 8;
/// As a slot: the page was never compressed.
const NONE: u64 = 0;

struct Store {
    /// The resident pages, the oldest first, each with the slot of its compressed copy.
    there: VecDeque<(Va, u64)>,
    /// Compressed pages; the first slot is number 1. A page that is not resident has its slot as a mark.
    slots: Vec<Box<[u8]>>,
    // Not on the stack, because the stack of a fault handler is small.
    table: CompressTable,
    buffer: [u8; get_maximum_output_size(PAGE_SIZE as usize)],
    evicted: u64,
    compressed: u64,
}

/// The pager. Its lock is free on every fault: only the pager itself takes it, and it does not touch its own region.
struct Compressor(Mutex<Store>);

static COMPRESSOR: Compressor = Compressor(Mutex::new(Store {
    there: VecDeque::new(),
    slots: Vec::new(),
    table: CompressTable::small(),
    buffer: [0; get_maximum_output_size(PAGE_SIZE as usize)],
    evicted: 0,
    compressed: 0,
}));

impl Store {
    /// Evicts the page that has been resident for longest.
    fn evict(&mut self, kernel: &mut Sys) -> sys::Result<()> {
        let Some((page, mut slot)) = self.there.pop_front() else { return Ok(()) };
        // A page that was only read is already in its slot, or it is still all zeros.
        if kernel.pte(page).has(Pte::DIRTY) {
            let compress = |bytes: &pages::Page| {
                compress_into_with_table(bytes, &mut self.buffer, &mut self.table).expect("the buffer is large")
            };
            let size = pages::look(page, compress);
            if slot == NONE {
                self.slots.push(Box::default());
                slot = self.slots.len() as u64;
            }
            self.slots[slot as usize - 1] = self.buffer[..size].into();
            self.compressed += 1;
        }
        self.evicted += 1;
        kernel.unmap(page, 1)?;
        kernel.mark(page, slot)
    }

    /// Restores a page from its slot.
    fn restore(&self, kernel: &mut Sys, page: Va, slot: u64, region: &Region) -> sys::Result<()> {
        pages::fill(page, region.perms, |bytes| {
            let size = decompress_into(&self.slots[slot as usize - 1], bytes).expect("what was compressed");
            assert_eq!(size, bytes.len());
        })?;
        // That has made it dirty. Mapped again, onto itself, it is clean.
        kernel.map(page, page, 1, region.perms)
    }
}

impl Pager<Sys> for Compressor {
    fn name(&self) -> &'static str {
        "compressed"
    }

    fn fault(&self, kernel: &mut Sys, touch: &Touch, region: &Region) -> sys::Result<Resolution> {
        if touch.entry.is_present() {
            return Ok(Resolution::Unhandled);
        }
        let mut store = self.0.lock();
        if store.there.len() == MOST {
            store.evict(kernel)?;
        }
        let (page, slot) = (touch.va.page(), touch.entry.word());
        match slot {
            NONE => kernel.alloc(page, 1, region.perms)?,
            slot => store.restore(kernel, page, slot, region)?,
        }
        store.there.push_back((page, slot));
        Ok(Resolution::Resume(Cause::Custom))
    }

    fn discard(&self, kernel: &mut Sys, range: &Range<Va>) {
        let mut store = self.0.lock();
        for (_, mark) in kernel.entries(range.clone()).filter(|(_, entry)| !entry.is_present()) {
            store.slots[mark.word() as usize - 1] = Box::default();
        }
        store.there.retain(|(page, _)| !range.contains(page));
    }

    /// Children do not inherit the pager: a child would need a store of its own.
    fn on_fork(&self) -> Inherit {
        Inherit::Not
    }
}

/// The content of the memory: each page has other words than its neighbours, many times over.
fn word(page: usize, index: usize) -> u64 {
    ((page as u64 + 1) * 0x9e37_79b9_7f4a_7c15) ^ (index as u64 / 16)
}

/// Reads all pages, in another order than they were written.
fn check(memory: &MmapMut, changed: impl Fn(usize) -> bool) {
    let pages: &[[u64; WORDS]] = cast_slice(memory);
    for page in (0..pages.len()).map(|n| n * 7919 % pages.len()) {
        let words = pages[page].iter().enumerate();
        let wrong = words.filter(|&(index, &found)| found != word(page, index) ^ u64::from(changed(page)));
        assert_eq!(wrong.count(), 0, "page {page} is not what it was");
    }
}

fn report(what: &str) -> MutexGuard<'static, Store> {
    let store = COMPRESSOR.0.lock();
    let faults = stats::get().by_pager;
    println!("{what}: {faults} faults, {} pages evicted, {} compressed", store.evicted, store.compressed);
    store
}

fn main() -> Result<(), Error> {
    let machine = (windows::machine().total_frames.load(Relaxed) * PAGE_SIZE) as usize;
    let mut memory = MmapOptions::new().len(2 * machine).map_with(&COMPRESSOR)?;
    let pages = memory.len() / PAGE_SIZE as usize;
    println!("{pages} pages, {} KiB, on a machine of {} KiB", memory.len() >> 10, machine >> 10);

    for (number, page) in cast_slice_mut::<u8, [u64; WORDS]>(&mut memory).iter_mut().enumerate() {
        *page = array::from_fn(|index| word(number, index));
    }
    drop(report("written"));

    check(&memory, |_| false);
    let compressed = report("read in another order").compressed;
    assert_eq!(compressed, pages as u64, "pages that were only read are not compressed again");

    let change = |page: usize| page % 16 == 3;
    let all: &mut [[u64; WORDS]] = cast_slice_mut(&mut memory);
    for page in (0..pages).filter(|&page| change(page)) {
        all[page].iter_mut().for_each(|word| *word ^= 1);
    }
    check(&memory, change);
    let store = report("one page of 16 changed, and all read again");
    let changed = (0..pages).filter(|&page| change(page)).count() as u64;
    assert_eq!(store.compressed, compressed + changed, "pages that were written are");

    let kept: usize = store.slots.iter().map(|slot| slot.len()).sum();
    println!("compressed they take {} KiB: {} times less", kept >> 10, memory.len() / kept);
    assert!(store.there.len() == MOST && kept < machine);
    Ok(())
}
