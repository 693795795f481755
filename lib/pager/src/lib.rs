//! What a page fault means: regions, pagers and copy-on-write fork.
//!
//! An address space is a map from ranges of addresses to [`Region`]s, and each region is served by
//! a [`Pager`]: whoever can say what belongs into a page that is not there. What is in the pages that
//! *are* there, and what the others differ in from the default of their region, stands in the page
//! table and nowhere else. So reserving a terabyte costs one region, and nothing is written down
//! twice.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`region`] | ranges and who serves them: a sorted table, searched by halving |
//! | [`fault`] | what happens on a fault: copy-on-write, then the pager of the region |
//! | [`quick`] | the same for faults that come often and are simple |
//! | [`pagers`] | zeros, shared memory, files, guards |
//! | [`space`] | changes to ranges: unmap, protect, advise, move |
//! | [`fork`] | a child that shares every page, or whole tables of them, copy-on-write |
//! | [`tables`] | tables that are shared since then, made private or given up |
//!
//! Nothing here calls the kernel, but through the trait [`Kernel`]. libos implements it once with
//! system calls; the tests implement it with a simulated machine whose processor has a TLB.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod batch;
pub mod error;
pub mod fault;
pub mod fork;
pub mod pagers;
pub mod quick;
pub mod region;
pub mod space;
pub mod tables;
mod touch;

pub use error::Error;
pub use fault::resolve;
pub use pagers::{File, Guard, Shared, Zeros};
pub use region::{Inherit, Pager, Region, Regions};
pub use touch::{Access, Cause, Resolution, Touch};

use abi::{EnvId, Frame, PAGE_SIZE, PageOp, Perms, Pte, Va};
use core::ops::Range;

/// The only door to the kernel.
///
/// Errors are those of the calls: see [`abi::Error`]. Addresses are the caller's own unless an
/// operation names another environment.
pub trait Kernel: 'static {
    /// See [`Kernel::entries`].
    type Entries: Iterator<Item = (Va, Pte)>;

    /// What the page table holds at `va`: a page, a mark, or nothing.
    fn pte(&self, va: Va) -> Pte;

    /// The same, where a page is known to be, as after a protection fault.
    #[inline]
    fn present(&self, va: Va) -> Pte {
        self.pte(va)
    }

    /// The entry of a level above 1 that translates `va`. The tables above are known to be there.
    fn table(&self, va: Va, level: u32) -> Pte;

    /// How many empty entries follow each other from this one, which is empty, to the end of its table. (Fewer is
    /// slower, and as good.)
    fn empty_entries(&self, _va: Va, _level: u32) -> u64 {
        1
    }

    /// How many entries of a table are not empty.
    fn count_entries(&self, table: Frame) -> u32;

    /// Everything in a range that is not nothing, upwards. What is changed before the iterator gets there may be
    /// seen in either state; what it has returned last must stay until it goes on.
    fn entries(&self, range: Range<Va>) -> Self::Entries;

    /// Carry out a page operation, all of it.
    ///
    /// # Errors
    /// Those of the call. What was done before the offending page stays done.
    fn op(&mut self, op: PageOp) -> Result<(), abi::Error>;

    /// Carry out a page operation with one call, and say whether all of it is done. If nothing of it was done it
    /// can be repeated by [`Kernel::op`], which tells the reason.
    #[inline]
    fn once(&mut self, op: PageOp) -> bool {
        self.op(op).is_ok()
    }

    /// Carry out several, in as few calls as it takes.
    ///
    /// # Errors
    /// That of the first one that fails; those before it are done.
    fn ops(&mut self, ops: &[PageOp]) -> Result<(), abi::Error>;

    /// Copy bytes from readable memory (of the program, or of the boot archive) into pages that are
    /// there and writable.
    fn copy(&mut self, from: Va, to: Va, bytes: u64);

    /// The end of a program that needs what a student has not written yet, where `todo!` would need the same.
    fn unfinished(&self, exercise: &str) -> ! {
        panic!("not yet implemented: {exercise}")
    }

    /// A page of zeros, the same frame in every environment, that may be mapped read-only.
    fn zeros(&self) -> Va;

    /// Fresh zeroed pages.
    ///
    /// # Errors
    /// As [`Kernel::op`].
    #[inline]
    fn alloc(&mut self, va: Va, pages: u64, perms: Perms) -> Result<(), abi::Error> {
        self.op(PageOp::alloc(ME, va, count(pages)?, perms))
    }

    /// Map pages of one's own, or of the boot archive, at another place too.
    ///
    /// # Errors
    /// As [`Kernel::op`].
    #[inline]
    fn map(&mut self, source: Va, va: Va, pages: u64, perms: Perms) -> Result<(), abi::Error> {
        self.op(PageOp::map(ME, source, ME, va, count(pages)?, perms))
    }

    /// Change what pages may be used for.
    ///
    /// # Errors
    /// As [`Kernel::op`].
    #[inline]
    fn protect(&mut self, va: Va, pages: u64, perms: Perms) -> Result<(), abi::Error> {
        self.op(PageOp::protect(ME, va, count(pages)?, perms))
    }

    /// Remove pages and marks. There must be one at each address.
    ///
    /// # Errors
    /// As [`Kernel::op`].
    #[inline]
    fn unmap(&mut self, va: Va, pages: u64) -> Result<(), abi::Error> {
        self.op(PageOp::unmap(ME, va, count(pages)?))
    }

    /// Store a word of 40 bits where no page is.
    ///
    /// # Errors
    /// As [`Kernel::op`].
    #[inline]
    fn mark(&mut self, va: Va, word: u64) -> Result<(), abi::Error> {
        self.op(PageOp::mark(ME, va, 1, word))
    }

    /// Make a page private and writable, by a copy if somebody else has it too.
    ///
    /// # Errors
    /// As [`Kernel::op`].
    #[inline]
    fn own(&mut self, va: Va) -> Result<(), abi::Error> {
        self.op(PageOp::own(va, 1))
    }
}

/// As an operation counts pages.
#[inline(always)]
fn count(pages: u64) -> Result<u32, abi::Error> {
    u32::try_from(pages).map_err(|_| abi::Error::BadCount(pages))
}

/// As an environment: the caller.
const ME: EnvId = EnvId::SELF;

/// The number of pages in a range that starts and ends at page boundaries.
#[inline]
#[must_use]
pub const fn pages(range: &Range<Va>) -> u64 {
    (range.end.0 - range.start.0) / PAGE_SIZE
}
