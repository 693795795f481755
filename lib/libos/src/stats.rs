//! How many faults this environment had, by kind.

use crate::resident::Local;
use pager::Cause;

/// Counts since the environment began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Every upcall, whatever came of it.
    pub upcalls: u64,
    /// Untouched memory was read: the shared page of zeros was mapped.
    pub zero_maps: u64,
    /// Untouched memory was written: a fresh page of zeros was put there.
    pub zero_fills: u64,
    /// A shared page was written: the page was made private.
    pub copies: u64,
    /// A page was written that is shared on purpose: a table above was made private.
    pub unshared: u64,
    /// A page of a file was brought in.
    pub file_pages: u64,
    /// First touch of a stack page: the stack grew.
    pub stack_pages: u64,
    /// Resolved by a pager of the program's own.
    pub by_pager: u64,
    /// Resolved by the program's fault handler.
    pub by_program: u64,
    /// Faults on a page for which there was not even a page table.
    pub tables: u64,
}

/// Upcalls that took the long way.
const UPCALLS: usize = Cause::COUNT;
const BY_PROGRAM: usize = Cause::COUNT + 1;
const TABLES: usize = Cause::COUNT + 2;

#[unsafe(link_section = ".resident")]
static COUNTS: [Local<u64>; Cause::COUNT + 3] = [const { Local::new(0) }; Cause::COUNT + 3];

/// Faults that were resolved quickly: one addition each. The last is of the program's quick handler.
#[unsafe(link_section = ".resident")]
static QUICK: [Local<u64>; Cause::COUNT + 1] = [const { Local::new(0) }; Cause::COUNT + 1];
const QUICK_BY_PROGRAM: usize = Cause::COUNT;

/// The counts so far.
#[must_use]
pub fn get() -> Stats {
    let of = |cause: Cause| COUNTS[cause as usize].get() + QUICK[cause as usize].get();
    let quick: u64 = QUICK.iter().map(Local::get).sum();
    Stats {
        upcalls: COUNTS[UPCALLS].get() + quick,
        zero_maps: of(Cause::ZeroMap),
        zero_fills: of(Cause::ZeroFill),
        copies: of(Cause::Copy),
        unshared: of(Cause::Unshared),
        file_pages: of(Cause::FilePage),
        stack_pages: of(Cause::StackGrowth),
        by_pager: of(Cause::Custom),
        by_program: COUNTS[BY_PROGRAM].get() + QUICK[QUICK_BY_PROGRAM].get(),
        tables: COUNTS[TABLES].get(),
    }
}

/// Start again from zero, as a forked child does.
pub fn reset() {
    COUNTS.iter().chain(&QUICK).for_each(|count| count.set(0));
}

#[inline]
fn add_one(which: usize) {
    COUNTS[which].update(|count| *count += 1);
}

#[inline]
pub(crate) fn count_upcall() {
    add_one(UPCALLS);
}

#[inline]
pub(crate) fn count_program() {
    add_one(BY_PROGRAM);
}

#[inline]
pub(crate) fn count_table() {
    add_one(TABLES);
}

/// A fault was resolved.
#[inline]
pub(crate) fn count(cause: Cause) {
    add_one(cause as usize);
}

/// A quick handler of the program resolved a fault.
#[inline(always)]
pub(crate) fn count_quick_program() {
    QUICK[QUICK_BY_PROGRAM].update(|count| *count += 1);
}

/// A fault was resolved, and that is all there was to it.
#[inline(always)]
pub(crate) fn count_quick(cause: Cause) {
    QUICK[cause as usize].update(|count| *count += 1);
}
