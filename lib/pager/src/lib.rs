//! The meaning of page faults: regions, pagers and copy-on-write fork.
//!
//! An address space is a map from ranges of addresses to [`Region`]s, and a [`Pager`] serves each region: it knows the
//! contents of missing pages. The state of pages that are present, and of missing pages that differ from the default
//! of their region (as marks), is in the page table and nowhere else. So reserving a terabyte costs one region, and
//! nothing is recorded twice.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`region`] | ranges and their pagers: a sorted table with binary search |
//! | [`fault`] | the slow path of a fault: copy-on-write, then the pager of the region |
//! | [`fast`] | the fast path, for frequent and simple faults |
//! | [`pagers`] | zeros, shared memory, files, guards |
//! | [`ranges`] | changes to ranges: unmap, protect, advise, move |
//! | [`fork`] | a child that shares every page, or whole tables of them, copy-on-write |
//! | [`mod@runs`] | adjacent pages that are treated alike |
//! | `sealing` | whole tables that are protected against writes |
//! | [`stream`] | pages that are touched one after the other |
//! | `tables` | searches for tables |
//! | [`unshare`] | tables that are shared since a fork: made private or given up |
//!
//! This crate calls the kernel only through the trait [`PageCalls`]. libos implements it with system calls; the tests
//! implement it with a simulated machine whose processor has a TLB.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod batch;
pub mod error;
pub mod fast;
pub mod fault;
pub mod fork;
pub mod pagers;
pub mod ranges;
pub mod region;
mod rights;
pub mod runs;
mod sealing;
pub mod stream;
mod tables;
mod touch;
pub mod unshare;

pub use error::Error;
pub use fault::resolve;
pub use pagers::{File, Guard, Shared, Zeros};
pub use region::{Inherit, Order, Pager, Region, Regions};
pub use stream::Stream;
pub use touch::{Access, Cause, Resolution, Touch};

use abi::{EnvId, Frame, Level, PAGE_SIZE, PageOp, Perms, Pte, Va, ops::count};
use core::ops::Range;

/// The kernel, as this crate uses it.
///
/// Errors are those of the calls: see [`abi::Error`]. Addresses are the caller's own unless an operation names another
/// environment.
pub trait PageCalls: 'static {
    /// See [`PageCalls::entries`].
    type Entries: runs::Entries;

    /// The entry at `va`: a page, a mark, or nothing.
    fn pte(&self, va: Va) -> Pte;

    /// The entry at `va`, where a page is known to be present, as after a protection fault.
    #[inline]
    fn present(&self, va: Va) -> Pte {
        self.pte(va)
    }

    /// The entry of a level above 1 that translates `va`. The tables above are known to be present.
    fn table(&self, va: Va, level: Level) -> Pte;

    /// The number of consecutive empty entries from this one, which is empty, to the end of its table at most. (A
    /// smaller number is correct, too, and slower.)
    fn empty_entries(&self, _va: Va, _level: Level) -> u64 {
        1
    }

    /// The number of nonempty entries of a table.
    fn count_entries(&self, table: Frame) -> u32;

    /// Whether one entry names a page, and nothing else does.
    fn is_sole(page: Frame) -> bool;

    /// All pages and marks in a range, in ascending order. Changes ahead of the iterator may be seen or not; the entry
    /// that it returned last must stay until the next call.
    fn entries(&self, range: Range<Va>) -> Self::Entries;

    /// Calls `f` with the end of the stream of touches near the last fault.
    fn stream<T>(&self, f: impl FnOnce(&Stream) -> T) -> T {
        f(&Stream::none())
    }

    /// Carries out a whole page operation.
    ///
    /// # Errors
    /// Those of the call. Pages before the offending page stay done.
    fn op(&mut self, op: PageOp) -> Result<(), abi::Error>;

    /// Carries out a page operation with one call, and returns whether all of it is done. If nothing was done,
    /// [`PageCalls::op`] can repeat the operation and tells the reason.
    #[inline]
    fn op_fast(&mut self, op: PageOp) -> bool {
        self.op(op).is_ok()
    }

    /// Carries out several page operations, in as few calls as possible.
    ///
    /// # Errors
    /// That of the first one that fails; those before it are done.
    fn ops(&mut self, ops: &[PageOp]) -> Result<(), abi::Error>;

    /// Copies bytes from readable memory (of the program, or of the boot archive) into present, writable pages.
    fn copy(&mut self, from: Va, to: Va, bytes: u64);

    /// Ends a program that needs an exercise which is not done yet, where `todo!` itself would need that exercise.
    fn unfinished(&self, exercise: &str) -> ! {
        panic!("not yet implemented: {exercise}")
    }

    /// A page of zeros, one frame for all environments, that may be mapped read-only.
    fn zeros(&self) -> Va;

    /// Maps fresh zeroed pages.
    ///
    /// # Errors
    /// As [`PageCalls::op`].
    #[inline]
    fn alloc(&mut self, va: Va, pages: u64, perms: Perms) -> Result<(), abi::Error> {
        self.op(PageOp::alloc(ME, va, count(pages)?, perms))
    }

    /// Maps pages of the caller, or of the boot archive, at another place too.
    ///
    /// # Errors
    /// As [`PageCalls::op`].
    #[inline]
    fn map(&mut self, source: Va, va: Va, pages: u64, perms: Perms) -> Result<(), abi::Error> {
        self.op(PageOp::map(ME, source, ME, va, count(pages)?, perms))
    }

    /// Changes the permissions of pages.
    ///
    /// # Errors
    /// As [`PageCalls::op`].
    #[inline]
    fn protect(&mut self, va: Va, pages: u64, perms: Perms) -> Result<(), abi::Error> {
        self.op(PageOp::protect(ME, va, count(pages)?, perms))
    }

    /// Removes pages and marks. Each address must have one.
    ///
    /// # Errors
    /// As [`PageCalls::op`].
    #[inline]
    fn unmap(&mut self, va: Va, pages: u64) -> Result<(), abi::Error> {
        self.op(PageOp::unmap(ME, va, count(pages)?))
    }

    /// Stores a mark, a word of 40 bits, where no page is mapped.
    ///
    /// # Errors
    /// As [`PageCalls::op`].
    #[inline]
    fn mark(&mut self, va: Va, word: u64) -> Result<(), abi::Error> {
        self.op(PageOp::mark(ME, va, 1, word))
    }

    /// Makes a page private and writable, by a copy if it has other users.
    ///
    /// # Errors
    /// As [`PageCalls::op`].
    #[inline]
    fn own(&mut self, va: Va) -> Result<(), abi::Error> {
        self.op(PageOp::own(va, 1))
    }
}

/// The caller, as an environment.
const ME: EnvId = EnvId::SELF;

/// The number of pages in a range that starts and ends at page boundaries.
#[inline]
#[must_use]
pub const fn pages(range: &Range<Va>) -> u64 {
    (range.end.0 - range.start.0) / PAGE_SIZE
}
