//! What processors must forget when a page map changes, and the frames that wait for that.

use crate::space::{Loaded, PARKED, Space};
use crate::{Machine, Memory};
use abi::{Frame, Va};

/// What keeping a frame costs until other processors have forgotten it, and then freeing it.
pub const PARK: u32 = 75;
/// What letting other processors forget a page map costs, however many they are.
pub const FLUSH: u32 = 60;
/// The price of a flush for each processor, whether it has to forget anything or not.
pub const FLUSH_EACH: u32 = 20;

impl<M: Machine> Space<M> {
    /// Changes begin, by who has just taken the lock, and does not run in this space.
    pub fn begin(&mut self) {
        self.loaded = if M::is_elsewhere(self.root) {
            Loaded::Elsewhere
        } else if M::is_here(self.root) {
            Loaded::Here
        } else {
            Loaded::Nowhere
        };
    }

    /// Changes end, before the lock is given up: from now on no processor knows what was taken away.
    #[inline]
    pub fn settle(&mut self, memory: &Memory<M>) {
        if self.loaded != Loaded::Here || self.stale_here {
            self.flush(memory);
            self.loaded = Loaded::Here;
        }
    }

    /// From here on no processor has cached anything that is not so any more.
    #[cold]
    pub(crate) fn flush(&mut self, memory: &Memory<M>) {
        if core::mem::take(&mut self.stale_here) {
            M::invalidate_all(self.root);
        }
        self.flush_elsewhere();
        let parked = core::mem::take(&mut self.parked_len);
        self.parked[..parked].iter().for_each(|frame| memory.release(*frame));
    }

    /// The same for other processors alone. Nothing is given back.
    #[inline]
    pub(crate) fn flush_elsewhere(&mut self) {
        if core::mem::take(&mut self.stale) {
            M::flush_elsewhere(self.root);
        }
    }

    /// Other processors will have to forget what they have cached. That is paid for now: it happens at the latest when
    /// the lock is given up, when no budget is asked any more.
    #[cold]
    #[inline(never)]
    pub(crate) fn is_stale_elsewhere(&mut self) {
        if !self.stale {
            self.stale = true;
            self.has_worked(FLUSH + FLUSH_EACH * M::cpus().len() as u32);
        }
    }

    /// An entry that points to a table changed.
    pub(crate) fn forget_all(&mut self) {
        self.forget_walks();
        match self.loaded {
            Loaded::Here => self.stale_here = true,
            Loaded::Nowhere => {}
            Loaded::Elsewhere => self.is_stale_elsewhere(),
        }
    }

    /// An entry was taken away or lost rights.
    #[inline]
    pub(crate) fn forget(&mut self, page: Va) {
        match self.loaded {
            Loaded::Here => M::invalidate(self.root, page),
            Loaded::Nowhere => {}
            Loaded::Elsewhere => self.is_stale_elsewhere(),
        }
    }

    /// Give up a frame that was named by an entry which is forgotten.
    #[inline]
    pub(crate) fn release(&mut self, memory: &Memory<M>, frame: Frame) {
        match self.loaded {
            Loaded::Elsewhere => self.park(memory, frame),
            _ => memory.release_with(frame, &mut self.work),
        }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn park(&mut self, memory: &Memory<M>, frame: Frame) {
        if self.parked_len == PARKED {
            self.flush(memory);
        }
        self.is_stale_elsewhere();
        self.has_worked(PARK);
        self.parked[self.parked_len] = frame;
        self.parked_len += 1;
    }
}
