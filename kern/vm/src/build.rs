//! Page tables for the kernel itself, made at boot out of memory that is not in use yet.

use crate::{Machine, Ranges};
use abi::{Frame, Level, PAGE_SIZE, Pte, Va, page::span};
use core::marker::PhantomData;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The level at which a large page is mapped.
const LARGE_LEVEL: Level = Level::L2;

/// The kernel's page tables under construction.
///
/// `rights` are the flags of the entries that map pages. If they include users, users may use the tables above as
/// well; the entry of the top level decides who may really do what.
pub struct Builder<M> {
    free: Ranges,
    limit: u64,
    root: Frame,
    machine: PhantomData<M>,
}

impl<M: Machine> Builder<M> {
    /// An empty top-level table. Memory comes from `free`, below the physical address `limit`: the part that is
    /// reachable before the tables are in use.
    ///
    /// # Panics
    /// If there is no memory. All functions that need some panic then: without tables the kernel cannot start.
    pub fn new(free: Ranges, limit: u64) -> Self {
        let mut builder = Builder { free, limit, root: Frame(0), machine: PhantomData };
        builder.root = builder.take();
        builder
    }

    /// The top-level table.
    pub fn root(&self) -> Frame {
        self.root
    }

    /// The memory that has not been used.
    pub fn free(&self) -> &Ranges {
        &self.free
    }

    /// Maps physical memory, with large pages where possible: not where users read, since walks of their page maps
    /// ([`PageMap`](crate::PageMap)) know only small ones.
    pub fn map(&mut self, va: u64, physical: Range<u64>, rights: u64) {
        let mut done = 0;
        while physical.start + done < physical.end {
            let (from, to) = (physical.start + done, va + done);
            let large = span(LARGE_LEVEL);
            let fits = (from | to) % large == 0 && from + large <= physical.end && rights & Pte::USER == 0;
            let (level, flag) = if fits { (LARGE_LEVEL, Pte::LARGE) } else { (Level::L1, 0) };
            self.entry(Va(to), level, rights).store(from | rights | flag, Relaxed);
            done += span(level);
        }
    }

    /// Maps fresh zeroed memory at every page of a range of addresses that has none.
    pub fn back(&mut self, va: Range<u64>, rights: u64) {
        self.back_around(va, &[], rights);
    }

    /// Maps fresh zeroed memory as [`Builder::back`] does, except at the pages at these offsets.
    pub fn back_around(&mut self, va: Range<u64>, holes: &[usize], rights: u64) {
        for page in (Va(va.start).page().0..va.end).step_by(PAGE_SIZE as usize) {
            let is_hole = holes.iter().any(|hole| va.start + *hole as u64 == page);
            if !is_hole && self.entry(Va(page), Level::L1, rights).load(Relaxed) == 0 {
                let frame = self.take().address();
                self.entry(Va(page), Level::L1, rights).store(frame | rights, Relaxed);
            }
        }
    }

    /// Backs the part that describes a range of memory, in a table at `base` with one `T` for every possible frame.
    pub fn back_metadata<T>(&mut self, base: u64, memory: &Range<u64>, rights: u64) {
        let entry = |physical: u64| base + physical / PAGE_SIZE * size_of::<T>() as u64;
        self.back(entry(memory.start)..entry(memory.end), rights);
    }

    /// Unmaps a page that was mapped as a small page.
    pub fn unmap(&mut self, va: Va) {
        self.entry(va, Level::L1, 0).store(0, Relaxed);
    }

    /// Takes a frame of zeros. (Not with [`Machine::zero`]: the counters do not exist yet.)
    pub fn take(&mut self) -> Frame {
        let limit = self.limit;
        let fits = |range: &&mut Range<u64>| range.start + PAGE_SIZE <= range.end.min(limit);
        let range = self.free.iter_mut().find(fits).expect("there is memory for the kernel's tables");
        let frame = Frame::containing(range.start);
        range.start += PAGE_SIZE;
        M::table(frame).iter().for_each(|word| word.store(0, Relaxed));
        frame
    }

    /// The entry for `va` at `level`; missing tables above it are made.
    // exercise 1 of page-tables: the way to an entry in the kernel's own tables
    fn entry(&mut self, va: Va, level: Level, rights: u64) -> &'static AtomicU64 {
        let mut table = self.root;
        for above in level.all_above() {
            let entry = &M::table(table)[va.index(above)];
            if entry.load(Relaxed) == 0 {
                entry.store(self.take().address() | Pte::PRESENT | Pte::WRITABLE, Relaxed);
            }
            let pte = Pte(entry.fetch_or(rights & Pte::USER, Relaxed));
            assert!(!pte.has(Pte::LARGE), "{va} is in a large page");
            table = pte.frame();
        }
        &M::table(table)[va.index(level)]
    }
}
