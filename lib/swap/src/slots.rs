//! Slots: which places of the disk are free.
//!
//! A slot has one owner: a mark, or the clean page whose copy it has. With counts it may have several, which share the
//! contents: a server that owns the disk can fork the swapped memory of its clients so. The last owner that releases a
//! slot frees it.
//!
//! A slot that could not be written is set aside: nobody gets it again.

use crate::bits::Bits;
use crate::disk::Disk;
use crate::mark::Slot;
use core::fmt;
use core::ops::Range;

/// The slots of a disk.
#[derive(Debug)]
pub struct Slots<'a> {
    free: Bits<'a>,
    /// The number of owners of each slot beyond the first, or nothing if slots cannot be shared.
    more: &'a mut [u16],
    set_aside: usize,
}

impl<'a> Slots<'a> {
    /// The number of words for a disk with this many slots.
    #[must_use]
    pub const fn words(slots: u32) -> usize {
        Bits::words(slots as usize)
    }

    /// Free slots, each with one owner at most: all numbers below `slots` but 0. `words` has [`Slots::words`] words.
    #[must_use]
    pub fn new(words: &'a mut [u64], slots: u32) -> Slots<'a> {
        let mut free = Bits::none(words);
        (1..slots as usize).for_each(|number| _ = free.add(number));
        Slots { free, more: &mut [], set_aside: 0 }
    }

    /// Free slots that can be shared; `counts` has an element for each slot.
    #[must_use]
    pub fn with_counts(words: &'a mut [u64], counts: &'a mut [u16], slots: u32) -> Slots<'a> {
        counts.fill(0);
        Slots { more: counts, ..Slots::new(words, slots) }
    }

    /// The number of free slots.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// The number of slots that were set aside.
    #[must_use]
    pub fn set_aside_so_far(&self) -> usize {
        self.set_aside
    }

    /// Whether a slot is free.
    #[must_use]
    pub fn is_free(&self, slot: Slot) -> bool {
        self.free.contains(slot.number() as usize)
    }

    /// Takes consecutive slots: as many as `most` if they are found soon, else fewer. Returns the first one, and how
    /// many.
    pub fn take_run(&mut self, most: usize) -> Option<(Slot, usize)> {
        let Range { start, end } = self.free.take_run(most)?;
        Some((Slot::new(u32::try_from(start).ok()?)?, end - start))
    }

    /// Adds an owner.
    ///
    /// # Errors
    /// [`NotShared`]: slots have no counts, or this one has as many owners as can be counted. Then the contents can be
    /// copied to another slot.
    pub fn share(&mut self, slot: Slot) -> Result<(), NotShared> {
        let count = self.more.get_mut(slot.number() as usize).filter(|count| **count < u16::MAX);
        *count.ok_or(NotShared(slot))? += 1;
        Ok(())
    }

    /// Removes an owner. If it was the last one, the slot is free, and the disk may forget its contents.
    pub fn release_on(&mut self, disk: &mut impl Disk, slot: Slot) {
        self.release(slot);
        if self.is_free(slot) {
            disk.forget(slot);
        }
    }

    /// Removes an owner. The slot is free if it was the last one.
    pub fn release(&mut self, slot: Slot) {
        match self.more.get_mut(slot.number() as usize) {
            Some(more) if *more > 0 => *more -= 1,
            _ => {
                let is_new = self.free.add(slot.number() as usize);
                debug_assert!(is_new, "{slot} was free");
            }
        }
    }

    /// Removes the only owner of a slot that could not be written.
    pub fn set_aside(&mut self, _slot: Slot) {
        self.set_aside += 1;
    }
}

/// The slot that cannot have another owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotShared(pub Slot);

impl fmt::Display for NotShared {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} cannot have another owner", self.0)
    }
}

impl core::error::Error for NotShared {}
