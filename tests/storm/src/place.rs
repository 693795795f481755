//! The addresses of operations.
//!
//! There are only a few short ranges, so that operations meet again and again, and they are where page maps are
//! interesting: the first page, the ends of page tables of each level, the last page that a call may name, the
//! surroundings of the exception stack.

use abi::layout::{
    ARCHIVE, ARCHIVE_END, DIRECT_MAP, EXCEPTION_STACK_TOP, KERNEL_HALF, KERNEL_IMAGE, MACHINE, SCRATCH, SLOT_SIZE,
    TEXT, USER_LIMIT, UVPT, uvpt,
};
use abi::{Level, PAGE_SIZE, Va, page::span};

/// Pages of a range at which operations start.
pub const STARTS: u64 = 8;
/// Pages of a range that operations can reach, in runs of up to [`MOST`].
pub const REACH: u64 = 12;
/// The longest run that makes pages or tables.
pub const MOST: u64 = 4;

/// The number of pages of libos's exception stack.
const STACK_PAGES: u64 = 4;
const STACK_LOW: u64 = EXCEPTION_STACK_TOP.0 - STACK_PAGES * PAGE_SIZE;

const fn around(boundary: u64) -> u64 {
    boundary - 4 * PAGE_SIZE
}

/// The first pages of the ranges.
pub const RANGES: [u64; 8] = [
    around(3 * SLOT_SIZE + 512 * PAGE_SIZE), // two tables of level 1
    around(4 * SLOT_SIZE),                   // two tables of level 3
    around(3 * SLOT_SIZE + (1 << 30)),       // two tables of level 2
    ALONE,                                   // all alone
    STACK_LOW - 5 * PAGE_SIZE,               // a pinned stack at the end: behind it is what libos needs
    USER_LIMIT.0 - STARTS * PAGE_SIZE,       // the end
    ALONE - (1 << 44),                       // so far below a stack there that 32 bits do not count it
    ZERO,                                    // not for others: they start with zeroed registers
];

const ALONE: u64 = 100 * SLOT_SIZE + 0x1234_5000;

/// The first page of the address space.
pub const ZERO: u64 = 0;

/// The memory that the hostile program sets up for itself, where no operation changes anything: under the page table of
/// its own text, so that there is little to check.
pub const CODE: u64 = TEXT.0 + 0x1f_0000;
/// Arguments of puppets, and buffers: see [`crate::puppet`].
pub const DESK: u64 = CODE + 2 * PAGE_SIZE;
/// The first address that the page table of that text translates.
pub const TEXT_TABLE: u64 = TEXT.0;
/// Memory that only serves to make memory short.
pub const BALLAST: u64 = 200 * SLOT_SIZE;
/// An address where nothing is ever mapped, for entry points of upcalls and for bad buffers.
pub const NOWHERE: u64 = 7 * SLOT_SIZE + 0x5000;

/// Pages that exist from the beginning, and may be shared further.
pub const FIXTURES: [u64; 3] = [TEXT.0, ARCHIVE.0, ARCHIVE.0 + PAGE_SIZE];

/// Whether an address is on the exception stack of the hostile program, where every fault leaves something.
#[must_use]
pub fn is_stack(at: u64) -> bool {
    (STACK_LOW..EXCEPTION_STACK_TOP.0).contains(&at)
}

/// The last bytes that the self map shows of a page table: a live table if they could be named.
const TABLE: u64 = uvpt(Va(3 * SLOT_SIZE), Level::L1).0;

/// Addresses that no call may name, or only as a source.
pub const BAD: [u64; 20] = [
    3 * SLOT_SIZE + 1,
    RANGES[0] + 8,
    RANGES[1] + 0xfff,
    USER_LIMIT.0,
    USER_LIMIT.0 + PAGE_SIZE,
    MACHINE.0 + 8,
    ARCHIVE.0,
    ARCHIVE.0 + PAGE_SIZE,
    ARCHIVE_END.0 - PAGE_SIZE,
    ARCHIVE_END.0,
    UVPT.0,
    TABLE,
    1 << 47,
    RANGES[0] | 1 << 48,
    (EXCEPTION_STACK_TOP.0 - PAGE_SIZE) | 1 << 63,
    0xffff_7fff_ffff_f000,
    KERNEL_HALF.0,
    DIRECT_MAP.0 + 0x10_0000,
    KERNEL_IMAGE.0,
    0xffff_ffff_ffff_f000,
];

/// Offsets in a page at which words are read and written.
pub const WORDS: [u64; 4] = [0, 8, 2048, 4088];

/// Entries that point to the page tables of the ranges, by their first address and level, each once.
pub fn tables() -> impl Iterator<Item = (u64, Level)> {
    let ends = || RANGES.iter().flat_map(|&start| [start, start + (REACH - 1) * PAGE_SIZE]);
    let above = move |level| ends().filter(|&va| va < SCRATCH.0).map(move |va| va - va % span(level));
    Level::TABLES.into_iter().flat_map(move |level| {
        let earlier = move |place: usize, va| above(level).take(place).any(|other| other == va);
        above(level).enumerate().filter(move |&(place, va)| !earlier(place, va)).map(move |(_, va)| (va, level))
    })
}

/// The ranges that operations on pages and on page tables may map.
pub fn realm() -> impl Iterator<Item = (u64, u64)> {
    // A run of page tables ends in the next slot.
    let slots = RANGES.iter().filter(|start| (SLOT_SIZE..SCRATCH.0).contains(start));
    let slots = slots.map(|start| start - start % SLOT_SIZE).map(|slot| (slot, slot + 3 * SLOT_SIZE));
    slots.chain([(ZERO, TEXT.0)]).chain(pages())
}

/// The ranges that operations on pages can reach, without the pinned pages.
pub fn pages() -> impl Iterator<Item = (u64, u64)> {
    RANGES.iter().map(|&start| {
        let end = (start + REACH * PAGE_SIZE).min(USER_LIMIT.0);
        (start, if (start..end).contains(&STACK_LOW) { STACK_LOW } else { end })
    })
}
