//! Counts of the faults of this environment, by kind.

use crate::resident::Local;
use pager::Cause;

/// Counts since the environment began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// All upcalls, resolved or not.
    pub upcalls: u64,
    /// Reads of untouched memory: the shared page of zeros was mapped.
    pub zero_maps: u64,
    /// Writes to untouched memory: a fresh page of zeros was mapped.
    pub zero_fills: u64,
    /// Writes to a shared page: the page was made private.
    pub copies: u64,
    /// Writes to a page that is shared on purpose: a table above it was made private.
    pub unshared: u64,
    /// Pages of files that were brought in.
    pub file_pages: u64,
    /// First touches of a stack page: the stack grew.
    pub stack_pages: u64,
    /// Faults that a pager of the program resolved.
    pub by_pager: u64,
    /// Faults that the program's fault handler resolved.
    pub by_program: u64,
    /// Faults on a page for which even the page table was missing.
    pub tables: u64,
}

/// Index of the count of upcalls that took the slow path.
const UPCALLS: usize = Cause::COUNT;
const BY_PROGRAM: usize = Cause::COUNT + 1;
const TABLES: usize = Cause::COUNT + 2;

#[unsafe(link_section = ".resident")]
static COUNTS: [Local<u64>; Cause::COUNT + 3] = [const { Local::new(0) }; Cause::COUNT + 3];

/// Faults that were resolved on the fast path: one addition each. The last count is for the program's fast handler.
#[unsafe(link_section = ".resident")]
static FAST: [Local<u64>; Cause::COUNT + 1] = [const { Local::new(0) }; Cause::COUNT + 1];
const FAST_BY_PROGRAM: usize = Cause::COUNT;

/// The counts so far.
#[must_use]
pub fn get() -> Stats {
    let of = |cause: Cause| COUNTS[cause as usize].get() + FAST[cause as usize].get();
    let fast: u64 = FAST.iter().map(Local::get).sum();
    Stats {
        upcalls: COUNTS[UPCALLS].get() + fast,
        zero_maps: of(Cause::ZeroMap),
        zero_fills: of(Cause::ZeroFill),
        copies: of(Cause::Copy),
        unshared: of(Cause::Unshared),
        file_pages: of(Cause::FilePage),
        stack_pages: of(Cause::StackGrowth),
        by_pager: of(Cause::Custom),
        by_program: COUNTS[BY_PROGRAM].get() + FAST[FAST_BY_PROGRAM].get(),
        tables: COUNTS[TABLES].get(),
    }
}

/// Resets all counts, as a forked child does.
pub fn reset() {
    COUNTS.iter().chain(&FAST).for_each(|count| count.set(0));
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

/// Counts a fault that was resolved on the slow path.
#[inline]
pub(crate) fn count(cause: Cause) {
    add_one(cause as usize);
}

/// Counts a fault that the program's fast handler resolved.
#[inline(always)]
pub(crate) fn count_fast_program() {
    FAST[FAST_BY_PROGRAM].update(|count| *count += 1);
}

/// Counts a fault that was resolved on the fast path.
#[inline(always)]
pub(crate) fn count_fast(cause: Cause) {
    FAST[cause as usize].update(|count| *count += 1);
}
