//! Edits of a page map: the TLB invalidations that they need, and the frames that wait for those.

use crate::Machine;
use crate::page_map::{DEFERRED, Editable, Loaded, PageMap};
use abi::{Frame, Va};
use core::ops::{Deref, DerefMut};

/// The cost of deferring the release of a frame until other processors have invalidated their translations, and then
/// freeing it.
pub const DEFER: u32 = 75;
/// The fixed cost of a TLB shootdown, for any number of processors.
pub const FLUSH: u32 = 60;
/// The cost of a TLB shootdown for each processor, whether it has to invalidate anything or not.
pub const FLUSH_EACH: u32 = 20;

/// An edit of a page map by the holder of its lock. Dropping it performs the TLB invalidations that are pending: after
/// that no TLB holds a translation that was taken away, so the lock can be released.
#[must_use = "a page map is changed through an edit"]
pub struct Edit<'a, M: Machine>(&'a mut PageMap<M>);

impl<M: Machine> PageMap<M> {
    /// Begins an edit by a processor that may not have this page map loaded: finds out which TLBs may hold translations
    /// of it.
    pub fn edit(&mut self) -> Edit<'_, M> {
        self.0.loaded = if M::is_elsewhere(self.root) {
            Loaded::Elsewhere
        } else if M::is_here(self.root) {
            Loaded::Here
        } else {
            Loaded::Nowhere
        };
        Edit(self)
    }

    /// Begins an edit by the processor that has this page map loaded, and no other has.
    #[inline(always)]
    pub fn edit_here(&mut self) -> Edit<'_, M> {
        debug_assert!(!M::is_elsewhere(self.root), "the page map is loaded elsewhere");
        Edit(self)
    }
}

impl<M: Machine> Deref for Edit<'_, M> {
    type Target = Editable<M>;

    #[inline(always)]
    fn deref(&self) -> &Editable<M> {
        &self.0.0
    }
}

impl<M: Machine> DerefMut for Edit<'_, M> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Editable<M> {
        &mut self.0.0
    }
}

impl<M: Machine> Drop for Edit<'_, M> {
    #[inline]
    fn drop(&mut self) {
        if self.loaded != Loaded::Here || self.stale_here {
            self.flush();
            self.loaded = Loaded::Here;
        }
    }
}

impl<M: Machine> Editable<M> {
    /// Performs all pending TLB invalidations, local and remote, then frees the deferred frames.
    #[cold]
    pub(crate) fn flush(&mut self) {
        if core::mem::take(&mut self.stale_here) {
            M::invalidate_all(self.root);
        }
        self.flush_elsewhere();
        let deferred = core::mem::take(&mut self.deferred_len);
        self.deferred[..deferred].iter().for_each(|frame| M::memory().release(*frame));
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
    pub(crate) fn owe_shootdown(&mut self) {
        if !self.stale {
            self.stale = true;
            self.has_worked(FLUSH + FLUSH_EACH * M::cpus().len() as u32);
        }
    }

    /// Invalidates all translations after a change of an entry that points to a table.
    pub(crate) fn invalidate_all(&mut self) {
        self.drop_walks();
        match self.loaded {
            Loaded::Here => self.stale_here = true,
            Loaded::Nowhere => {}
            Loaded::Elsewhere => self.owe_shootdown(),
        }
    }

    /// Invalidates the translation of a page whose entry was removed or lost rights.
    #[inline]
    pub(crate) fn invalidate(&mut self, page: Va) {
        match self.loaded {
            Loaded::Here => M::invalidate(self.root, page),
            Loaded::Nowhere => {}
            Loaded::Elsewhere => self.owe_shootdown(),
        }
    }

    /// Drops the reference of an entry whose translation has been [invalidated](Self::invalidate): at once, or after
    /// the pending shootdown.
    #[inline]
    pub(crate) fn release(&mut self, frame: Frame) {
        match self.loaded {
            Loaded::Elsewhere => self.defer(frame),
            _ => M::memory().release_with(frame, &mut self.work),
        }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn defer(&mut self, frame: Frame) {
        if self.deferred_len == DEFERRED {
            self.flush();
        }
        self.owe_shootdown();
        self.has_worked(DEFER);
        self.deferred[self.deferred_len] = frame;
        self.deferred_len += 1;
    }
}
