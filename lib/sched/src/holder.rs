//! Which processor has an environment.

use crate::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Which processor holds something that only one can have at a time, by its number plus one.
///
/// It is taken and given back with [`Sched`](crate::Sched) locked; whoever waits for that looks without the
/// lock, and then sees all that the one before did with it.
#[derive(Debug)]
pub struct Holder(AtomicU32);

impl Holder {
    /// Nobody.
    #[must_use]
    pub fn nobody() -> Holder {
        Holder(AtomicU32::new(0))
    }

    /// Let this processor hold it, if no other does.
    #[inline]
    pub fn hold(&self, processor: u32) -> bool {
        let now = self.0.load(Acquire);
        let can = now == 0 || now == processor + 1;
        if can {
            self.0.store(processor + 1, Relaxed);
        }
        can
    }

    #[inline]
    pub(crate) fn give_back(&self) {
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

    /// The processor that holds it.
    #[inline]
    pub fn processor(&self) -> Option<u32> {
        self.0.load(Acquire).checked_sub(1)
    }
}

impl Default for Holder {
    fn default() -> Holder {
        Holder::nobody()
    }
}
