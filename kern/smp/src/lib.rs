//! Synchronization of processors through words of memory: TLB shootdown and reference counts, whose steps must be right
//! in every order of events. No unsafe code and no hardware; the tests try all orders (`loom`).

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(not(test))]
use core::sync::atomic;
#[cfg(test)]
use loom::sync::atomic;

use atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use atomic::{AtomicU32, AtomicU64};

/// Requests to a processor to flush its TLB: how many there were, and how many were served. Counters, not a flag: a
/// request that comes while another one is being served must not be lost.
#[derive(Debug, Default)]
pub struct Flushes {
    asked: AtomicU64,
    done: AtomicU64,
}

impl Flushes {
    /// No requests. (In the tests, whose atomics cannot be constants: the default.)
    #[cfg(not(test))]
    pub const fn none() -> Flushes {
        Flushes { asked: AtomicU64::new(0), done: AtomicU64::new(0) }
    }

    /// Requests a flush of everything that changed before. Returns the ticket for [`Flushes::is_done`].
    pub fn ask(&self) -> u64 {
        self.asked.fetch_add(1, SeqCst) + 1
    }

    /// Whether the flush with this ticket has happened.
    pub fn is_done(&self, ticket: u64) -> bool {
        self.done.load(Acquire) >= ticket
    }

    /// Serves all requests made until now by one flush. Called by the processor itself.
    #[inline]
    pub fn serve(&self, flush: impl FnOnce()) {
        let asked = self.asked.load(Acquire);
        if self.done.load(Relaxed) < asked {
            flush();
            self.done.store(asked, Release);
        }
    }
}

/// The page map that a processor has loaded, for other processors to see; during a switch from one to another, both.
#[derive(Debug, Default)]
pub struct Loaded {
    now: AtomicU32,
    next: AtomicU32,
}

impl Loaded {
    /// No page map.
    #[cfg(not(test))]
    pub const fn none() -> Loaded {
        Loaded { now: AtomicU32::new(0), next: AtomicU32::new(0) }
    }

    /// The page map, as the processor itself knows it.
    #[inline]
    pub fn get(&self) -> u32 {
        self.now.load(Relaxed)
    }

    /// Announces a page map. Called by the processor itself, before it loads that page map.
    #[inline]
    pub fn begin(&self, root: u32) {
        self.next.store(root, Release);
    }

    /// Confirms a page map. Called by the processor itself, when it has loaded that page map and has nothing cached of
    /// the previous one.
    #[inline]
    pub fn end(&self, root: u32) {
        self.now.store(root, Release);
    }

    /// Whether the processor has this page map loaded, or may have cached translations of it. Called by a processor
    /// that has just changed the page map: if the answer is no, a processor that loads it later sees the change.
    /// (Loading a page map is a barrier.)
    #[inline]
    pub fn may_be(&self, root: u32) -> bool {
        atomic::fence(SeqCst);
        // In this order: a processor that already switches to a third page map had this one in `now` before it changes
        // `next`.
        self.next.load(Acquire) == root || self.now.load(Acquire) == root
    }
}

/// The maximal reference count. Far from the width of the counter, so that a race between processors cannot wrap it.
const MAX_REFS: u32 = 1 << 31;

/// Adds a reference to an object that has one. `false` if there are too many.
#[inline]
#[must_use]
pub fn add_reference(refs: &AtomicU32) -> bool {
    if refs.fetch_add(1, Relaxed) >= MAX_REFS {
        refs.fetch_sub(1, Relaxed);
        return false;
    }
    true
}

/// Drops a reference. Returns whether it was the last one: then everything done through the others is visible, and the
/// caller owns the object alone.
#[inline]
#[must_use]
pub fn release(refs: &AtomicU32) -> bool {
    let before = refs.fetch_sub(1, Release);
    debug_assert!(before != 0, "released once too often");
    if before == 1 {
        atomic::fence(Acquire);
    }
    before == 1
}

/// Whether there is exactly one reference, which is the caller's: then everything done through former ones is visible.
#[inline]
pub fn is_sole(refs: &AtomicU32) -> bool {
    refs.load(Acquire) == 1
}

#[cfg(test)]
mod tests;
