//! Virtual addresses, page frames, permissions and page table entries.

use crate::Error;
use bitflags::bitflags;
use core::fmt;

/// Bytes in a page and in a page frame.
pub const PAGE_SIZE: u64 = 4096;

/// Entries in a table of any level.
pub const TABLE_ENTRIES: usize = 512;

/// A level of page tables: an entry of level 1 points to a page, an entry of another level to a table of the level
/// below. The top-level table has entries of level 4.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[repr(u32)]
pub enum Level {
    /// An entry translates 4 KiB: a page.
    L1 = 1,
    /// An entry translates 2 MiB.
    L2,
    /// An entry translates 1 GiB.
    L3,
    /// An entry translates 512 GiB.
    L4,
}

impl Level {
    /// All levels, from the top down, as a walk takes them.
    pub const DOWN: [Level; 4] = [Level::L4, Level::L3, Level::L2, Level::L1];
    /// The levels whose entries point to tables, from the top down.
    pub const TABLES: [Level; 3] = [Level::L4, Level::L3, Level::L2];

    /// The level with this number.
    #[inline]
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Level> {
        match number {
            1 => Some(Level::L1),
            2 => Some(Level::L2),
            3 => Some(Level::L3),
            4 => Some(Level::L4),
            _ => None,
        }
    }

    /// The level of the entries in the tables that entries of this level point to; none below level 1.
    #[inline]
    #[must_use]
    pub const fn below(self) -> Option<Level> {
        Level::from_number(self as u64 - 1)
    }

    /// The level of the entries that point to tables of entries of this level; none above level 4.
    #[inline]
    #[must_use]
    pub const fn above(self) -> Option<Level> {
        match self {
            Level::L1 => Some(Level::L2),
            Level::L2 => Some(Level::L3),
            Level::L3 => Some(Level::L4),
            Level::L4 => None,
        }
    }

    /// All levels above this one, from the top down.
    #[inline]
    pub fn all_above(self) -> impl Iterator<Item = Level> {
        Level::DOWN.into_iter().take_while(move |above| *above > self)
    }

    /// All levels from the top down to this one.
    #[inline]
    pub fn down_to(self) -> impl Iterator<Item = Level> {
        Level::DOWN.into_iter().take_while(move |level| *level >= self)
    }

    /// This level and those below it whose entries point to tables, from the top down.
    #[inline]
    pub fn tables_down(self) -> impl DoubleEndedIterator<Item = Level> {
        Level::TABLES.into_iter().filter(move |level| *level <= self)
    }

    /// The number of low bits of an address that an entry of this level does not translate.
    #[inline]
    #[must_use]
    const fn shift(self) -> u32 {
        3 + 9 * self as u32
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", *self as u32)
    }
}

/// Bytes that an entry of this level translates.
#[inline]
#[must_use]
pub const fn span(level: Level) -> u64 {
    1 << level.shift()
}

/// A virtual address from any source: it need not be valid.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
#[repr(transparent)]
pub struct Va(pub u64);

impl Va {
    /// The address `pages` pages further up.
    #[inline]
    #[must_use]
    pub const fn add_pages(self, pages: u64) -> Va {
        Va(self.0.wrapping_add(pages.wrapping_mul(PAGE_SIZE)))
    }

    /// Bytes from the start of the page.
    #[inline]
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.0 % PAGE_SIZE
    }

    /// The first byte of the page that holds this address.
    #[inline]
    #[must_use]
    pub const fn page(self) -> Va {
        Va(self.0 - self.offset())
    }

    /// The first page boundary at or above this address.
    #[inline]
    #[must_use]
    pub const fn page_up(self) -> Va {
        Va(self.0.wrapping_add(PAGE_SIZE - 1)).page()
    }

    /// Whether this is the first byte of a page.
    #[inline]
    #[must_use]
    pub const fn is_page_aligned(self) -> bool {
        self.offset() == 0
    }

    /// The first address that entry `index` translates, in a table with entries of this level that translates
    /// addresses from this one on.
    #[inline]
    #[must_use]
    pub const fn entry(self, index: usize, level: Level) -> Va {
        Va(self.0 + ((index as u64) << level.shift()))
    }

    /// The index of the entry that translates the address, in a table with entries of this level.
    #[inline]
    #[must_use]
    pub const fn index(self, level: Level) -> usize {
        ((self.0 >> level.shift()) & 0x1ff) as usize
    }
}

impl fmt::Debug for Va {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for Va {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::LowerHex for Va {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// A page frame: 4 KiB of physical memory, by number (physical address / 4096).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Frame(pub u32);

impl Frame {
    /// The frame that holds a physical address below 16 TiB.
    #[inline]
    #[must_use]
    pub const fn containing(physical: u64) -> Frame {
        Frame((physical / PAGE_SIZE) as u32)
    }

    /// The frame whose first byte has this physical address: none if the address lies within a frame, or above 16 TiB.
    #[inline]
    #[must_use]
    pub const fn at(physical: u64) -> Option<Frame> {
        let frame = Frame::containing(physical);
        if frame.address() == physical { Some(frame) } else { None }
    }

    /// The physical address of the first byte.
    #[inline]
    #[must_use]
    pub const fn address(self) -> u64 {
        self.0 as u64 * PAGE_SIZE
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "frame {:#x}", self.0)
    }
}

bitflags! {
    /// The permissions of a page, and notes of libos about it.
    ///
    /// The bits have their positions in a page table entry, except that [`Perms::EXEC`] is inverted there. A mapped
    /// page is always readable. A page is never both writable and executable.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[repr(transparent)]
    pub struct Perms: u64 {
        /// The page can be written.
        const WRITE = 1 << 1;
        /// For libos: the page must be copied before it is written.
        const COW = 1 << 9;
        /// For libos: the page stays shared in a fork.
        const KEEP = 1 << 10;
        /// Seven bits that libos and programs may use as they like.
        const SOFT = 0x7f << 52;
        /// Instructions can be fetched from the page.
        const EXEC = 1 << 63;
    }
}

impl Perms {
    /// Readable, and nothing else.
    pub const READ: Perms = Perms::empty();

    /// Decodes these bits as permissions, if a user may ask for them.
    ///
    /// # Errors
    /// The offending bits: undefined ones, or writable and executable at once.
    #[inline]
    pub const fn checked(bits: u64) -> Result<Perms, Error> {
        const BOTH: u64 = Perms::WRITE.bits() | Perms::EXEC.bits();
        let stray = bits & !Perms::all().bits();
        if stray != 0 {
            Err(Error::BadPerms(stray))
        } else if bits & BOTH == BOTH {
            Err(Error::BadPerms(BOTH))
        } else {
            Ok(Perms::from_bits_truncate(bits))
        }
    }
}

/// A page table entry, as the processor and UVPT show it. `docs/memory.md` draws its bits.
///
/// Every bit has one owner:
///
/// | bits | entry of a page | entry of a table | mark |
/// | --- | --- | --- | --- |
/// | 0 to 2, 5, 6, 63 | P W U, A D, NX: the processor's | the same; D is not set | 0 |
/// | 3, 4, 7, 8 | 0: caching, page attributes, global pages | 0: caching, large pages | 0 |
/// | 9, 10 | [`Perms::COW`], [`Perms::KEEP`] | 0: for tables that are lent | 0 |
/// | 11 | 0: an IOMMU that walks these tables refuses it | 0, as there | 0 |
/// | 12 to 51 | frame number | frame number | word |
/// | 52 to 57 | [`Perms::SOFT`] | 0: for the kernel | 0 |
/// | 58 | [`Perms::SOFT`] | [`Pte::SEALED`] | 0 |
/// | 59 | [`Pte::MAY`] | [`Pte::EDIT`] | 0 |
/// | 60 to 62 | 0: protection keys | 0 | 0 |
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Pte(pub u64);

impl Pte {
    /// P: the entry translates.
    pub const PRESENT: u64 = 1 << 0;
    /// W: writes are allowed, if every other level allows them too.
    pub const WRITABLE: u64 = 1 << 1;
    /// U: user mode may use it.
    pub const USER: u64 = 1 << 2;
    /// A: the processor has used the entry.
    pub const ACCESSED: u64 = 1 << 5;
    /// D: the processor has written through the entry.
    pub const DIRTY: u64 = 1 << 6;
    /// In a table above level 1: the entry maps a large page.
    pub const LARGE: u64 = 1 << 7;
    /// The environment that has the page may make it writable. Only the kernel sets this bit.
    pub const MAY: u64 = 1 << 59;
    /// In an entry of a table: the table is private to this page map, so what is below may be changed.
    pub const EDIT: u64 = 1 << 59;
    /// In an entry of a table: the program has protected everything below against writes. W is EDIT without SEALED.
    pub const SEALED: u64 = 1 << 58;
    /// NX: no instruction fetches.
    pub const NO_EXEC: u64 = 1 << 63;
    /// The frame number, in place.
    pub const FRAME: u64 = 0x000f_ffff_ffff_f000;
    /// The largest word that a mark can hold: 40 bits.
    pub const MARK_MAX: u64 = (1 << 40) - 1;

    /// An entry for a page.
    #[inline]
    #[must_use]
    pub const fn page(frame: Frame, perms: Perms) -> Pte {
        let perms = perms.bits() ^ Pte::NO_EXEC;
        Pte(frame.address() | perms | Pte::PRESENT | Pte::USER)
    }

    /// An entry that holds a software word of at most 40 bits; word 0 is the empty entry.
    #[inline]
    #[must_use]
    pub const fn mark(word: u64) -> Pte {
        Pte((word & Pte::MARK_MAX) << 12)
    }

    /// Whether the entry is empty.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the entry translates.
    #[inline]
    #[must_use]
    pub const fn is_present(self) -> bool {
        self.has(Pte::PRESENT)
    }

    /// Whether all of these bits are set.
    #[inline]
    #[must_use]
    pub const fn has(self, bits: u64) -> bool {
        self.0 & bits == bits
    }

    /// Whether a present entry above level 1 points to a table that may be shared.
    #[inline]
    #[must_use]
    pub const fn is_shared_table(self) -> bool {
        self.0 & (Pte::PRESENT | Pte::EDIT) == Pte::PRESENT
    }

    /// The frame that a present entry names.
    #[inline]
    #[must_use]
    pub const fn frame(self) -> Frame {
        Frame(((self.0 & Pte::FRAME) >> 12) as u32)
    }

    /// The permissions of a present entry.
    #[inline]
    #[must_use]
    pub const fn perms(self) -> Perms {
        Perms::from_bits_truncate(self.0 ^ Pte::NO_EXEC)
    }

    /// The software word of an entry that is not present; 0 if there is none.
    #[inline]
    #[must_use]
    pub const fn word(self) -> u64 {
        (self.0 & Pte::FRAME) >> 12
    }
}

impl fmt::Debug for Pte {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("empty");
        }
        if !self.is_present() {
            return write!(f, "mark {:#x}", self.word());
        }
        write!(f, "frame {:#x} ", self.frame().0)?;
        let flags = [
            (Pte::WRITABLE, 'W'),
            (Pte::USER, 'U'),
            (Pte::ACCESSED, 'A'),
            (Pte::DIRTY, 'D'),
            (Perms::COW.bits(), 'C'),
            (Perms::KEEP.bits(), 'K'),
            (Pte::MAY, 'M'),
        ];
        for (bit, letter) in flags {
            fmt::Write::write_char(f, if self.has(bit) { letter } else { '-' })?;
        }
        f.write_str(if self.has(Pte::NO_EXEC) { "-" } else { "X" })
    }
}
