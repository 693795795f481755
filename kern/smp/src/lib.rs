//! What processors tell each other, in words of memory: the parts of the kernel that must hold in every
//! order of events. No unsafe code and no hardware; the tests try all orders there are (`loom`).

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(not(test))]
use core::sync::atomic;
#[cfg(test)]
use loom::sync::atomic;

use atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use atomic::{AtomicU32, AtomicU64};

/// A function that is constant, except for the tests, whose atomics are not.
macro_rules! constant {
    ($(#[$doc:meta])* $name:ident() -> $type:ty $body:block) => {
        $(#[$doc])*
        #[must_use]
        #[cfg(not(test))]
        pub const fn $name() -> $type $body
        $(#[$doc])*
        #[must_use]
        #[cfg(test)]
        pub fn $name() -> $type $body
    };
}

/// Requests to a processor to forget what it has cached: how many there were, and how many have been seen
/// to. Not a flag: a request that comes while another is being seen to must not be lost.
#[derive(Debug)]
pub struct Flushes {
    asked: AtomicU64,
    done: AtomicU64,
}

impl Flushes {
    constant! {
        /// Nobody has asked.
        new() -> Flushes {
            Flushes { asked: AtomicU64::new(0), done: AtomicU64::new(0) }
        }
    }

    /// Ask for a flush of everything that changed before. Returns what to wait for.
    pub fn ask(&self) -> u64 {
        self.asked.fetch_add(1, SeqCst) + 1
    }

    /// Whether that flush has happened.
    pub fn is_done(&self, ticket: u64) -> bool {
        self.done.load(Acquire) >= ticket
    }

    /// Called by the processor itself: all that was asked for until now is done by one flush.
    #[inline]
    pub fn serve(&self, flush: impl FnOnce()) {
        let asked = self.asked.load(Acquire);
        if self.done.load(Relaxed) < asked {
            flush();
            self.done.store(asked, Release);
        }
    }
}

/// Which page map a processor has loaded, for others to see: while it goes over from one to another, both.
#[derive(Debug)]
pub struct Loaded {
    now: AtomicU32,
    next: AtomicU32,
}

impl Loaded {
    constant! {
        /// None.
        new() -> Loaded {
            Loaded { now: AtomicU32::new(0), next: AtomicU32::new(0) }
        }
    }

    /// The page map, as the processor itself knows it.
    #[inline]
    pub fn get(&self) -> u32 {
        self.now.load(Relaxed)
    }

    /// Called by the processor itself, before it loads that page map.
    #[inline]
    pub fn begin(&self, root: u32) {
        self.next.store(root, Release);
    }

    /// Called by the processor itself, when it has loaded that page map: of the last one nothing is cached any more.
    #[inline]
    pub fn end(&self, root: u32) {
        self.now.store(root, Release);
    }

    /// Whether the processor has this page map loaded, or may have cached something of it. Asked by who has just
    /// changed it: if the answer is no, whoever loads it later sees the change. (Loading a page map is a
    /// barrier.)
    #[inline]
    pub fn may_be(&self, root: u32) -> bool {
        atomic::fence(SeqCst);
        // In this order: who is already going over to a third one had this one loaded before it says so.
        self.next.load(Acquire) == root || self.now.load(Acquire) == root
    }
}

/// More references than this are refused. Far from the width of the counter, so that a race
/// between processors cannot wrap it.
const MAX_REFS: u32 = 1 << 31;

/// Add a reference to something that has one, if there are not too many.
#[inline]
#[must_use]
pub fn share(refs: &AtomicU32) -> bool {
    if refs.fetch_add(1, Relaxed) >= MAX_REFS {
        refs.fetch_sub(1, Relaxed);
        return false;
    }
    true
}

/// Drop a reference. Returns whether it was the last: then all that was done through the others can be seen, and nobody
/// else has it.
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

/// Whether there is exactly one reference, which is the caller's: then all that was done through others can be
/// seen.
#[inline]
#[must_use]
pub fn is_sole(refs: &AtomicU32) -> bool {
    refs.load(Acquire) == 1
}

impl Default for Flushes {
    fn default() -> Flushes {
        Flushes::new()
    }
}

impl Default for Loaded {
    fn default() -> Loaded {
        Loaded::new()
    }
}

#[cfg(test)]
mod tests;
