//! Marks: where the contents of a missing page are.
//!
//! ```text
//!     39  38 37                                   0
//!    +------+--------------------------------------+
//!    | kind |                number                |     the 40 bits of a mark
//!    +------+--------------------------------------+
//! ```
//!
//! An empty entry is kind 0: the page was never touched, and is zeros. Kind 1 is a slot of the disk. Kinds 2 and 3 are
//! free: compressed memory, as a tier in front of the disk, can be one of them. Nothing but the fault that meets such a
//! mark, and the discard that releases it, would need to know.

use abi::{PAGE_SIZE, Pte};
use core::fmt;
use core::num::NonZeroU32;

/// The position of the kind in a mark.
const KIND: u32 = 38;

/// The kind of a mark that names a slot.
const DISK: u64 = 1;

/// A place for one page on the disk. Slot 0 is never used: it is left for a description of the disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(NonZeroU32);

impl Slot {
    /// The slot with this number; none has the number 0.
    #[inline]
    #[must_use]
    pub fn new(number: u32) -> Option<Slot> {
        NonZeroU32::new(number).map(Slot)
    }

    /// The number.
    #[inline]
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0.get()
    }

    /// The slot `count` slots further on.
    #[inline]
    #[must_use]
    pub fn ahead(self, count: usize) -> Slot {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Slot(self.0.saturating_add(count))
    }

    /// The first sector, of 512 bytes, of the slot.
    #[inline]
    #[must_use]
    pub const fn sector(self) -> u64 {
        self.number() as u64 * (PAGE_SIZE / 512)
    }

    /// The slot in which a sector is.
    #[must_use]
    pub fn of_sector(sector: u64) -> Option<Slot> {
        Slot::new(u32::try_from(sector / (PAGE_SIZE / 512)).ok()?)
    }

    /// The word of a mark that names the slot.
    #[inline]
    #[must_use]
    pub const fn word(self) -> u64 {
        DISK << KIND | self.number() as u64
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "slot {}", self.number())
    }
}

/// Where the contents of a page are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In a page that is present.
    Memory,
    /// Nowhere: the page was never touched, and is zeros.
    Zeros,
    /// On the disk, or on the way to it or from it.
    Disk(Slot),
    /// A mark that was not made here.
    Unknown,
}

impl Place {
    /// The place that a page table entry names.
    #[inline]
    #[must_use]
    pub fn of(entry: Pte) -> Place {
        if entry.is_present() {
            return Place::Memory;
        }
        if entry.is_empty() {
            return Place::Zeros;
        }
        let number = entry.word() & ((1 << KIND) - 1);
        let slot = u32::try_from(number).ok().and_then(Slot::new);
        match slot.filter(|_| entry.word() >> KIND == DISK) {
            Some(slot) => Place::Disk(slot),
            None => Place::Unknown,
        }
    }
}
