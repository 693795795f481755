//! Edits of a page map: the TLB invalidations that they need, and the frames that wait for those.

use crate::space::{Loaded, PARKED, Space};
use crate::{Machine, Memory};
use abi::{Frame, Va};

/// The cost of parking a frame until other processors have invalidated their translations, and then freeing it.
pub const PARK: u32 = 75;
/// The fixed cost of a TLB shootdown, for any number of processors.
pub const FLUSH: u32 = 60;
/// The cost of a TLB shootdown for each processor, whether it has to invalidate anything or not.
pub const FLUSH_EACH: u32 = 20;

impl<M: Machine> Space<M> {
    /// Starts an edit by a processor that has just taken the lock and may not have this page map loaded: records which
    /// TLBs may hold translations of it.
    pub fn begin(&mut self) {
        self.loaded = if M::is_elsewhere(self.root) {
            Loaded::Elsewhere
        } else if M::is_here(self.root) {
            Loaded::Here
        } else {
            Loaded::Nowhere
        };
    }

    /// Finishes an edit, before the lock is released: after that no TLB holds a translation that was taken away.
    #[inline]
    pub fn settle(&mut self, memory: &Memory<M>) {
        if self.loaded != Loaded::Here || self.stale_here {
            self.flush(memory);
            self.loaded = Loaded::Here;
        }
    }

    /// Performs all pending TLB invalidations, local and remote, then frees the parked frames.
    #[cold]
    pub(crate) fn flush(&mut self, memory: &Memory<M>) {
        if core::mem::take(&mut self.stale_here) {
            M::invalidate_all(self.root);
        }
        self.flush_elsewhere();
        let parked = core::mem::take(&mut self.parked_len);
        self.parked[..parked].iter().for_each(|frame| memory.release(*frame));
    }

    /// Performs a pending TLB shootdown on other processors. Frees no frames.
    #[inline]
    pub(crate) fn flush_elsewhere(&mut self) {
        if core::mem::take(&mut self.stale) {
            M::flush_elsewhere(self.root);
        }
    }

    /// Notes that a TLB shootdown is pending, and charges for it at once: at the latest it happens when the lock is
    /// released, when no budget is checked any more.
    #[cold]
    #[inline(never)]
    pub(crate) fn is_stale_elsewhere(&mut self) {
        if !self.stale {
            self.stale = true;
            self.has_worked(FLUSH + FLUSH_EACH * M::cpus().len() as u32);
        }
    }

    /// Invalidates all translations after a change of an entry that points to a table.
    pub(crate) fn forget_all(&mut self) {
        self.forget_walks();
        match self.loaded {
            Loaded::Here => self.stale_here = true,
            Loaded::Nowhere => {}
            Loaded::Elsewhere => self.is_stale_elsewhere(),
        }
    }

    /// Invalidates the translation of a page whose entry was removed or lost rights.
    #[inline]
    pub(crate) fn forget(&mut self, page: Va) {
        match self.loaded {
            Loaded::Here => M::invalidate(self.root, page),
            Loaded::Nowhere => {}
            Loaded::Elsewhere => self.is_stale_elsewhere(),
        }
    }

    /// Drops the reference of an entry whose translation has been [invalidated](Self::forget): at once, or after the
    /// pending shootdown.
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
