//! The operations of the page calls on one page.

use crate::Machine;
use crate::entry::{change, count, fresh, granted, may_have, note_others, owned, owned_copy, split, with_perms};
use crate::page_map::{Editable, Leaf};
use abi::{Error, Frame, Perms, Pte, Va, call::MARK_OVER_PAGE};
use core::sync::atomic::Ordering::Relaxed;

/// A mapped page, as [`Editable::page`] finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// The frame of the page.
    pub frame: Frame,
    /// Whether the page can be written at this moment.
    pub writable: bool,
}

impl<M: Machine> Editable<M> {
    /// The page at `va`, if one is mapped for the user.
    #[inline]
    pub fn page(&self, va: Va) -> Option<Page> {
        let leaf = self.present(&self.last[1], va).ok().filter(|leaf| leaf.pte.has(Pte::USER))?;
        // The AND over all levels, never the leaf alone.
        Some(Page { frame: leaf.pte.frame(), writable: leaf.writable_above && leaf.pte.has(Pte::WRITABLE) })
    }

    /// The frame of the page at `va`, which must be writable at this moment. The caller is about to write it: A and D
    /// are set, as the processor does.
    ///
    /// # Errors
    /// [`Error::TableShared`]; [`Error::Fault`] if there is no page, or it is not writable.
    pub fn dirty(&self, va: Va) -> Result<Frame, Error> {
        let leaf = self.present(&self.last[1], va).ok().filter(|leaf| leaf.pte.has(Pte::USER | Pte::WRITABLE));
        let leaf = leaf.ok_or(Error::Fault(va.0))?;
        self.require_own_tables(&leaf, va)?;
        if !leaf.writable_above {
            return Err(Error::Fault(va.0));
        }
        leaf.entry.fetch_or(Pte::ACCESSED | Pte::DIRTY, Relaxed);
        Ok(leaf.pte.frame())
    }

    /// Checks that the page at `va` has no other users and can be written at this moment.
    ///
    /// # Errors
    /// [`Error::NotMapped`], [`Error::NoRight`], [`Error::Shared`].
    pub fn is_private(&self, va: Va) -> Result<(), Error> {
        let page = self.page(va).ok_or(Error::NotMapped(va.0))?;
        if !page.writable {
            return Err(Error::NoRight(va.0));
        }
        if M::memory().is_sole(page.frame) { Ok(()) } else { Err(Error::Shared(va.0)) }
    }

    /// The frame at `va`, as the source of a copy.
    ///
    /// # Errors
    /// [`Error::NotMapped`].
    #[inline]
    pub fn source(&self, va: Va) -> Result<Frame, Error> {
        self.present(&self.last[1], va).map(|leaf| leaf.pte.frame())
    }

    /// Grants the page at `va` with these permissions: returns its frame, with a reference for the receiver.
    ///
    /// # Errors
    /// [`Error::NotMapped`], [`Error::NoRight`], [`Error::TooManyRefs`]; [`Error::TableShared`] if a shared table keeps
    /// the page from being writable.
    #[inline]
    pub fn grant(&self, va: Va, perms: Perms) -> Result<Frame, Error> {
        let leaf = self.present(&self.last[1], va)?;
        if perms.contains(Perms::WRITE) {
            if !leaf.pte.has(Pte::WRITABLE) {
                return Err(Error::NoRight(va.0));
            }
            if !leaf.writable_above {
                return Err(self.shared_above(va));
            }
        }
        let frame = leaf.pte.frame();
        M::memory().add_reference(frame)?;
        note_others::<M>(leaf.table);
        Ok(frame)
    }

    /// Maps a fresh page of zeros at `va`, replacing a page or mark there.
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::TableShared`].
    #[inline(always)]
    pub fn alloc(&mut self, va: Va, perms: Perms) -> Result<(), Error> {
        let frame = M::memory().alloc_zeros(&mut self.work)?;
        self.insert(va, fresh(frame, perms))
    }

    /// Maps a fresh page with the contents of a frame at `va`, replacing a page or mark there.
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::TableShared`].
    #[inline]
    pub fn copy(&mut self, va: Va, from: Frame, perms: Perms) -> Result<(), Error> {
        let frame = M::memory().alloc_copy(from, &mut self.work)?;
        self.insert(va, fresh(frame, perms))
    }

    /// Maps a granted frame at `va`, replacing a page or mark there. The reference moves into the entry; an error
    /// drops it.
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::TableShared`].
    #[inline]
    pub fn accept(&mut self, va: Va, frame: Frame, perms: Perms) -> Result<(), Error> {
        self.insert(va, granted(frame, perms))?;
        if perms.contains(Perms::WRITE) {
            note_others::<M>(self.last[0].get().table);
        }
        Ok(())
    }

    /// Changes the permissions of the page at `va`. D stays, and so does A without [`AGE`](abi::call::AGE).
    ///
    /// # Errors
    /// [`Error::NotMapped`], [`Error::NoRight`], [`Error::TableShared`].
    #[inline(always)]
    pub fn protect(&mut self, va: Va, perms: Perms) -> Result<(), Error> {
        let leaf = self.present(&self.last[0], va)?;
        self.require_own_tables(&leaf, va)?;
        if !may_have(leaf.pte, perms) {
            return Err(Error::NoRight(va.0));
        }
        let (perms, cleared) = split(perms);
        change(leaf.entry, leaf.pte, |old| with_perms(old & !cleared, perms));
        self.invalidate(va);
        Ok(())
    }

    /// Removes the page or mark at `va`.
    ///
    /// # Errors
    /// [`Error::NotMapped`], [`Error::TableShared`].
    #[inline]
    pub fn unmap(&mut self, va: Va) -> Result<(), Error> {
        let leaf = self.find(va).filter(|leaf| !leaf.pte.is_empty());
        let leaf = leaf.ok_or(Error::NotMapped(va.0))?;
        self.require_own_tables(&leaf, va)?;
        self.replace(&leaf, va, Pte(0));
        self.prune_if_empty(leaf.table, va);
        Ok(())
    }

    /// Stores a mark, a word of at most 40 bits, where no page is mapped; 0 clears it.
    ///
    /// # Errors
    /// [`Error::BadWord`], [`Error::Mapped`], [`Error::NoMemory`], [`Error::TableShared`].
    #[inline]
    pub fn mark(&mut self, va: Va, word: u64) -> Result<(), Error> {
        if word > Pte::MARK_MAX {
            return Err(Error::BadWord(word));
        }
        match self.find(va) {
            Some(leaf) if leaf.pte.is_present() => return Err(Error::Mapped(va.0)),
            None if word == 0 => return Ok(()),
            _ => {}
        }
        let leaf = self.make(va)?;
        self.replace(&leaf, va, Pte::mark(word));
        self.prune_if_empty(leaf.table, va);
        Ok(())
    }

    /// Stores a mark in place of what is there. The argument is the word, which is not 0, with [`MARK_OVER_PAGE`]. Returns
    /// whether there was a page with its D bit set.
    ///
    /// # Errors
    /// [`Error::BadWord`], [`Error::NoMemory`], [`Error::TableShared`].
    pub fn mark_over(&mut self, va: Va, argument: u64) -> Result<bool, Error> {
        let word = argument & !MARK_OVER_PAGE;
        if word == 0 || word > Pte::MARK_MAX {
            return Err(Error::BadWord(argument));
        }
        let leaf = self.make(va)?;
        Ok(self.replace(&leaf, va, Pte::mark(word)).has(Pte::DIRTY | Pte::PRESENT))
    }

    /// Makes the page at `va` private to this page map and writable; copies it if it has other users. Returns whether
    /// it was copied.
    ///
    /// # Errors
    /// [`Error::NotMapped`], [`Error::Executable`], [`Error::NoMemory`], [`Error::TableShared`].
    #[inline]
    pub fn own(&mut self, va: Va) -> Result<bool, Error> {
        let leaf = self.present(&self.last[0], va)?;
        self.require_own_tables(&leaf, va)?;
        let old = leaf.pte;
        if !old.has(Pte::NO_EXEC) {
            return Err(Error::Executable(va.0));
        }
        if M::memory().is_sole(old.frame()) {
            change(leaf.entry, old, owned);
            self.invalidate(va);
            return Ok(false);
        }
        let copy = M::memory().alloc_copy(old.frame(), &mut self.work)?;
        self.replace(&leaf, va, owned_copy(old, copy));
        Ok(true)
    }

    /// Fills the entry of `va`, which takes over a reference to the frame.
    #[inline(always)]
    fn insert(&mut self, va: Va, new: Pte) -> Result<(), Error> {
        let leaf = self.make(va).inspect_err(|_| M::memory().release(new.frame()))?;
        self.replace(&leaf, va, new);
        Ok(())
    }

    /// Replaces an entry and drops the reference of the old one: first the entry, then its cached translation, then
    /// the frame. (In any other order another environment could get the frame while this one can still reach it.) Returns
    /// the old entry.
    #[inline]
    fn replace(&mut self, leaf: &Leaf, va: Va, new: Pte) -> Pte {
        let mut old = leaf.pte;
        if old.is_present() {
            // The processor may be setting A or D in it.
            old = Pte(leaf.entry.swap(new.0, Relaxed));
            self.invalidate(va);
            self.release(old.frame());
        } else {
            leaf.entry.store(new.0, Relaxed);
        }
        if old.is_empty() != new.is_empty() {
            count::<M>(leaf.table, if new.is_empty() { -1 } else { 1 });
        }
        old
    }
}
