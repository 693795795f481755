//! How many faults this environment had, by kind.

use crate::resident::Local;

/// Counts since the environment began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Every upcall, whatever came of it.
    pub upcalls: u64,
    /// A write to a copy-on-write page: the page was made private.
    pub copy_on_write: u64,
    /// First touch of a heap page: a zeroed page was put there.
    pub heap_pages: u64,
    /// First touch of a stack page: the stack grew by a zeroed page.
    pub stack_pages: u64,
    /// Resolved by the program's own handler.
    pub by_program: u64,
}

#[unsafe(link_section = ".resident")]
static STATS: Local<Stats> =
    Local::new(Stats { upcalls: 0, copy_on_write: 0, heap_pages: 0, stack_pages: 0, by_program: 0 });

/// The counts so far.
#[must_use]
pub fn get() -> Stats {
    STATS.get()
}

/// Start again from zero, as a forked child does.
pub fn reset() {
    STATS.set(Stats::default());
}

/// Count something.
#[inline]
pub(crate) fn count(change: impl FnOnce(&mut Stats)) {
    STATS.update(change);
}
