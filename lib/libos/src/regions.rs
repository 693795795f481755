//! The address space of this environment: its regions, and the pagers that serve them.
//!
//! A fault goes to the pager of the region that it hits; see [`pager`] for the pagers, and [`mmap`](crate::mmap) for
//! mappings that clean up after themselves. This module has the regions that every program begins with, and functions
//! to add, change and remove others.
//!
//! | range | pager | |
//! | --- | --- | --- |
//! | the program's segments | `code`, `constants`, `data` | pages of its file, as they are touched |
//! | the heap | `heap` | zeros; see [`heap`](mod@crate::heap) |
//! | the stack, and below it | `stack`, `stack guard` | see [`stack`](crate::stack) |
//! | below the exception stack | `exception stack guard` | |

use crate::layout::{SCRATCH, STACK_TOP, USER_LIMIT};
use crate::{
    EnvId, Error, PAGE_SIZE, Perms, Va,
    page_calls::{self, Sys},
    resident::Guarded,
    symbols, sys,
};
use core::ops::Range;
use executable::Program;
use pager::fast::Known;
pub use pager::ranges::Advice;
use pager::ranges::{self, Table};
use pager::{Cause, Regions, Zeros, region::Filled};

/// A range of addresses, and the pager that serves it.
pub type Region = pager::Region<Sys>;

/// The addresses for mappings that do not ask for one.
pub const MAPPINGS: Range<Va> = crate::layout::HEAP_END..SCRATCH;

/// The number of slots at the beginning. They are part of the memory that fork copies at once.
const FIRST_SLOTS: usize = 32;
/// The address of the table after it outgrows the first slots.
const TABLE: Va = Va(SCRATCH.0 + 0x80_0000);
const TABLE_END: Va = Va(SCRATCH.0 + 0xc0_0000);

/// The limit of the stack if the program does not set one: 1 MiB.
pub const DEFAULT_STACK_BYTES: u64 = 1 << 20;

static STACK: Zeros = Zeros { name: "stack", cause: Cause::StackGrowth };
/// The region of a new program's stack.
pub(crate) const FIRST_STACK: Region =
    Region::new(Va(STACK_TOP.0 - DEFAULT_STACK_BYTES)..STACK_TOP, Perms::WRITE, &STACK);

/// The table of regions.
struct Book {
    slots: *mut Region,
    capacity: usize,
    filled: Filled,
}

/// The first slots. The table begins with the stack, since changing the table uses some stack. Unused slots hold an
/// arbitrary region.
#[unsafe(link_section = ".resident")]
static mut FIRST: [Region; FIRST_SLOTS] = [FIRST_STACK; FIRST_SLOTS];

#[unsafe(link_section = ".resident")]
static BOOK: Guarded<Book> =
    Guarded::new(Book { slots: (&raw mut FIRST).cast(), capacity: FIRST_SLOTS, filled: Filled::new(1) });

impl Book {
    fn slots(&self) -> &'static mut [Region] {
        // SAFETY: `slots` is `FIRST`, or memory of this type from `TABLE` on; both are resident, initialised up to
        // `capacity`, and reached through `BOOK` only, which gives out one exclusive reference at a time.
        unsafe { core::slice::from_raw_parts_mut(self.slots, self.capacity) }
    }
}

/// The table of this environment, for the functions of [`pager::ranges`].
struct Own;

impl Table<Sys> for Own {
    fn edit<T>(&self, f: impl FnOnce(&mut Regions<Sys>) -> T) -> T {
        BOOK.edit(|book| {
            page_calls::known(Known::forget);
            f(&mut Regions::new(book.slots(), &mut book.filled))
        })
    }
}

/// The regions, in ascending order.
#[inline]
#[must_use]
pub fn all() -> &'static [Region] {
    // SAFETY: nothing edits the table while the caller reads it: an environment is a single thread. (A pager that
    // edits the table while it interrupts a reader spoils the reader's view.)
    BOOK.look(|book| unsafe { core::slice::from_raw_parts(book.slots, book.filled.slots()) })
}

/// The region that contains an address.
#[inline]
#[must_use]
pub fn find(va: Va) -> Option<Region> {
    let regions = all();
    let known = |known: &Known| known.at(regions, va).map(Option::<&Region>::copied);
    page_calls::known(known).unwrap_or_else(|| look_up(regions, va))
}

#[inline(never)]
fn look_up(regions: &[Region], va: Va) -> Option<Region> {
    page_calls::edit_known(|known, streams| {
        known.look_up(&Sys, regions, va, streams);
        known.at(regions, va).flatten().copied()
    })
}

/// Calls `f`, and again with a larger table if the table is full.
fn with_room<T>(mut f: impl FnMut() -> Result<T, pager::Error>) -> Result<T, Error> {
    loop {
        match f() {
            Err(pager::Error::TooManyRegions(_)) => grow()?,
            result => return Ok(result?),
        }
    }
}

/// Doubles the table. It moves once, to a place where there is room.
fn grow() -> Result<(), Error> {
    let (capacity, moved) = BOOK.look(|book| (book.capacity, book.slots as u64 == TABLE.0));
    let bytes = |slots: usize| (slots * size_of::<Region>()) as u64;
    let end = Va(TABLE.0 + bytes(2 * capacity)).page_up();
    let start = if moved { Va(TABLE.0 + bytes(capacity)) } else { TABLE };
    if end > TABLE_END {
        return Err(pager::Error::TooManyRegions(capacity).into());
    }
    // Allocate the new part before the table uses it: the table must always be resident.
    sys::alloc(EnvId::SELF, start, (end.0 - start.0) / PAGE_SIZE, Perms::WRITE)?;
    BOOK.edit(|book| {
        let table = TABLE.0 as *mut Region;
        let from = if moved { capacity } else { 0 };
        for slot in from..2 * capacity {
            let region = if slot < book.filled.slots() { book.slots()[slot] } else { book.slots()[0] };
            // SAFETY: the pages are mapped, and nothing else uses this range.
            unsafe { table.add(slot).write(region) };
        }
        (book.slots, book.capacity) = (table, 2 * capacity);
    });
    Ok(())
}

/// The pages of the table outside of the section `.resident`: fork copies them at once.
pub(crate) fn table_pages() -> Range<Va> {
    let moved = BOOK.look(|book| (book.slots as u64 == TABLE.0).then_some(book.capacity));
    TABLE..Va(TABLE.0 + (moved.unwrap_or(0) * size_of::<Region>()) as u64)
}

/// The segments of this program.
pub(crate) fn own_program() -> Option<Program> {
    Program::parse(symbols::own_file()?.data).ok()
}

/// Removes the regions that a forked child does not inherit.
pub(crate) fn forget_what_is_not_inherited() {
    let is_lost = |region: &&Region| !region.pager.on_fork().has_region();
    while let Some(lost) = all().iter().find(is_lost).map(Region::range) {
        if Own.edit(|regions| regions.remove(&lost)).is_err() {
            return;
        }
    }
}

/// Add a region.
///
/// # Errors
/// `Memory`: the range is not valid, overlaps another region, or there are too many regions.
pub fn add(region: Region) -> Result<(), Error> {
    with_room(|| Own.edit(|regions| regions.add(region)))
}

/// Add a region at a free address, a multiple of `align`. Returns its range. A large region begins with a page table of
/// its own, so that whole tables can be moved and removed.
///
/// `make` turns the range that was found into the region.
///
/// # Errors
/// `Memory`: the range is empty, or no gap is large enough.
pub fn add_anywhere(bytes: u64, align: u64, make: impl Fn(Range<Va>) -> Region) -> Result<Range<Va>, Error> {
    const TABLE: u64 = abi::page::span(abi::Level::L2);
    let align = if bytes >= TABLE { align.max(TABLE) } else { align };
    with_room(|| Own.edit(|regions| regions.add_in_gap(&MAPPINGS, bytes, align, &make)))
}

/// Remove all regions, pages and marks in a range, which may be empty.
///
/// # Errors
/// `Memory`: the range is not valid, or there are too many regions.
pub fn unmap(range: &Range<Va>) -> Result<(), Error> {
    with_room(|| ranges::unmap(&mut Sys, &Own, range))
}

/// Change the rights of a range: none (it can be read), `WRITE` or `EXEC`.
///
/// # Errors
/// `Memory`: a part of the range is in no region, the rights exclude each other, or the kernel refuses to make a page
/// writable that this environment got read-only.
pub fn protect(range: &Range<Va>, perms: Perms) -> Result<(), Error> {
    with_room(|| ranges::protect(&mut Sys, &Own, range, perms))
}

/// Gives advice about the future use of a range.
///
/// # Errors
/// `Memory`: a part of the range is in no region, its pager does not support the advice, or there is no memory for
/// pages that are wanted now.
pub fn advise(range: &Range<Va>, advice: Advice) -> Result<(), Error> {
    with_room(|| ranges::advise(&mut Sys, &Own, range, advice))
}

/// Makes another pager serve the region at an address, from the next fault on. Frames of a pager that cannot be inherited
/// are never copied.
pub(crate) fn replace_pager(va: Va, pager: &'static dyn pager::Pager<Sys>) -> Result<(), Error> {
    let old = find(va).ok_or(pager::Error::NoRegion(va))?;
    let new = Region { pager, perms: old.perms | Perms::KEEP, ..old };
    Own.edit(|regions| regions.remove(&old.range()).and_then(|()| regions.add(new)))?;
    Ok(())
}

/// Moves the ends of a region. The caller has removed the pages outside of its new range.
pub(crate) fn resize(old: &Range<Va>, new: &Range<Va>) -> Result<(), Error> {
    Ok(Own.edit(|regions| regions.resize(old, new))?)
}

/// Moves the pages of a region to a new place, which must be free.
pub(crate) fn relocate(old: &Range<Va>, new: &Range<Va>) -> Result<(), Error> {
    with_room(|| ranges::relocate(&mut Sys, &Own, old, new))
}

// After its move the table grows by whole pages.
const _: () = assert!((2 * FIRST_SLOTS * size_of::<Region>()).is_multiple_of(PAGE_SIZE as usize));
const _: () = assert!(MAPPINGS.start.0 < MAPPINGS.end.0 && TABLE_END.0 < USER_LIMIT.0);
