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

/// Which page map a processor has loaded, for others to see.
#[derive(Debug)]
pub struct Loaded(AtomicU32);

impl Loaded {
    constant! {
        /// None.
        new() -> Loaded {
            Loaded(AtomicU32::new(0))
        }
    }

    /// The page map, as the processor itself knows it.
    #[inline]
    pub fn get(&self) -> u32 {
        self.0.load(Relaxed)
    }

    /// Called by the processor itself, *before* it loads that page map, and after it has loaded another one
    /// that nobody changes: nobody may believe that a page map is not loaded while it is.
    #[inline]
    pub fn set(&self, root: u32) {
        self.0.store(root, Relaxed);
    }

    /// Whether the processor has this page map loaded, or may have cached something of it. Asked by who has just
    /// changed it: if the answer is no, whoever loads it later sees the change. (Loading a page map is a
    /// barrier.)
    #[inline]
    pub fn may_be(&self, root: u32) -> bool {
        atomic::fence(SeqCst);
        self.0.load(Relaxed) == root
    }
}

/// Which processor holds something that only one can have at a time, by its number plus one.
///
/// It is taken under a lock, so that two do not take it at once, and given back without: whoever takes it sees
/// all that the one before did with it.
#[derive(Debug)]
pub struct Holder(AtomicU32);

impl Holder {
    constant! {
        /// None.
        nobody() -> Holder {
            Holder(AtomicU32::new(0))
        }
    }

    /// Let this processor hold it, if no other does. For the holder of the lock.
    #[inline]
    pub fn hold(&self, processor: u32) -> bool {
        let is_free = self.0.load(Acquire) == 0 || self.is(processor);
        if is_free {
            self.0.store(processor + 1, Relaxed);
        }
        is_free
    }

    /// Give it back.
    #[inline]
    pub fn give_back(&self) {
        self.0.store(0, Release);
    }

    /// Whether this processor holds it.
    #[inline]
    pub fn is(&self, processor: u32) -> bool {
        self.0.load(Relaxed) == processor + 1
    }

    /// Whether nobody holds it: all that was done with it can be seen.
    #[inline]
    pub fn is_nobody(&self) -> bool {
        self.0.load(Acquire) == 0
    }
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

/// As a value of its own: held by nobody.
impl Default for Holder {
    fn default() -> Holder {
        Holder::nobody()
    }
}

#[cfg(test)]
mod tests;
