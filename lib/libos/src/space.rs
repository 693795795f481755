//! The address space of this environment: which ranges there are, and who serves them.
//!
//! A fault goes to the pager of the region that it hits; see [`pager`] for what pagers
//! are, and [`mmap`](crate::mmap) for mappings that clean up after themselves. Here are the ranges
//! that every program begins with, and functions to add, change and remove others.
//!
//! | range | pager | |
//! | --- | --- | --- |
//! | the program's segments | `code`, `constants`, `data` | pages of its file, as they are touched |
//! | the heap | `heap` | zeros; see [`heap`](mod@crate::heap) |
//! | the stack, and below it | `stack`, `stack guard` | see [`stack`](crate::stack) |
//! | below the exception stack | `exception stack guard` | |

use crate::kernel::Sys;
use crate::layout::{SCRATCH, STACK_TOP, USER_LIMIT};
use crate::resident::Guarded;
use crate::{EnvId, Error, PAGE_SIZE, Perms, Va, symbols, sys};
use core::ops::Range;
use executable::Program;
use pager::quick::Known;
use pager::region::Filled;
pub use pager::space::Advice;
use pager::space::{self, Table};
use pager::{Cause, Inherit, Regions, Zeros};

/// A range of addresses, and who serves it.
pub type Region = pager::Region<Sys>;

/// Where mappings go that do not ask for an address.
pub const MAPPINGS: Range<Va> = crate::layout::HEAP_END..SCRATCH;

/// Regions for which there is room from the beginning. It is part of what fork copies at once.
const FIRST_SLOTS: usize = 32;
/// Where the table goes when it outgrows that, and how far it can grow there.
const TABLE: Va = Va(SCRATCH.0 + 0x80_0000);
const TABLE_END: Va = Va(SCRATCH.0 + 0xc0_0000);

/// How far the stack may grow if the program does not say otherwise: 1 MiB.
pub const DEFAULT_STACK_BYTES: u64 = 1 << 20;

static STACK: Zeros = Zeros { name: "stack", cause: Cause::StackGrowth };
/// The stack of a program that begins.
pub(crate) const FIRST_STACK: Region =
    Region::new(Va(STACK_TOP.0 - DEFAULT_STACK_BYTES)..STACK_TOP, Perms::WRITE, &STACK);

/// The table of regions.
struct Book {
    slots: *mut Region,
    capacity: usize,
    filled: Filled,
    /// What [`find`] has found last: around the address of a fault the next one is most likely.
    known: Known<Sys>,
}

/// The table begins with the stack, since changing it takes some. Slots that are not in use hold just
/// anything.
#[unsafe(link_section = ".resident")]
static mut FIRST: [Region; FIRST_SLOTS] = [FIRST_STACK; FIRST_SLOTS];

#[unsafe(link_section = ".resident")]
static BOOK: Guarded<Book> = Guarded::new(Book {
    slots: (&raw mut FIRST).cast(),
    capacity: FIRST_SLOTS,
    filled: Filled::new(1),
    known: Known::NOTHING,
});

impl Book {
    fn slots(&self) -> &'static mut [Region] {
        // SAFETY: `slots` is `FIRST`, or memory of the same type from `TABLE` on; both are resident,
        // initialised as far as `capacity`, and reached through `BOOK` only, which gives out one
        // exclusive reference at a time.
        unsafe { core::slice::from_raw_parts_mut(self.slots, self.capacity) }
    }
}

/// The table of this environment, for the functions of [`pager::space`].
struct Own;

impl Table<Sys> for Own {
    fn edit<T>(&self, f: impl FnOnce(&mut Regions<Sys>) -> T) -> T {
        BOOK.edit(|book| {
            book.known.forget();
            f(&mut Regions::new(book.slots(), &mut book.filled))
        })
    }
}

/// The regions, upwards.
#[inline]
#[must_use]
pub fn regions() -> &'static [Region] {
    // SAFETY: nothing edits the table while the caller looks: that is this very thread. (A pager
    // that edits it while code which it interrupted looks at it spoils what that code sees.)
    BOOK.look(|book| unsafe { core::slice::from_raw_parts(book.slots, book.filled.slots()) })
}

/// The region at an address.
#[inline]
#[must_use]
pub fn find(va: Va) -> Option<Region> {
    let known = known(|known| known.at(va).map(Option::<&Region>::copied));
    known.unwrap_or_else(|| look_up(va))
}

/// Look at what the last look-up has found.
#[inline(always)]
pub(crate) fn known<T>(f: impl FnOnce(&Known<Sys>) -> T) -> T {
    BOOK.look(|book| f(&book.known))
}

#[inline(never)]
fn look_up(va: Va) -> Option<Region> {
    let known = Known::of(regions(), va);
    let region = known.at(va).flatten().copied();
    BOOK.edit(|book| book.known = known);
    region
}

/// Do something with the table, and once more with a larger one if it is full.
fn with_room<T>(mut f: impl FnMut() -> Result<T, pager::Error>) -> Result<T, Error> {
    loop {
        match f() {
            Err(pager::Error::TooManyRegions(_)) => grow()?,
            result => return Ok(result?),
        }
    }
}

/// Make the table twice as large. It moves once, to a place where there is room.
fn grow() -> Result<(), Error> {
    let (capacity, moved) = BOOK.look(|book| (book.capacity, book.slots as u64 == TABLE.0));
    let bytes = |slots: usize| (slots * size_of::<Region>()) as u64;
    let end = Va(TABLE.0 + bytes(2 * capacity)).page_up();
    let start = if moved { Va(TABLE.0 + bytes(capacity)) } else { TABLE };
    if end > TABLE_END {
        return Err(pager::Error::TooManyRegions(capacity).into());
    }
    // Resident from now on: it is there before anybody relies on it.
    sys::alloc(EnvId::SELF, start, (end.0 - start.0) / PAGE_SIZE, Perms::WRITE)?;
    BOOK.edit(|book| {
        let table = TABLE.0 as *mut Region;
        let from = if moved { capacity } else { 0 };
        for slot in from..2 * capacity {
            let region = if slot < book.filled.slots() { book.slots()[slot] } else { book.slots()[0] };
            // SAFETY: the pages are there, and nobody else uses this range.
            unsafe { table.add(slot).write(region) };
        }
        (book.slots, book.capacity) = (table, 2 * capacity);
    });
    Ok(())
}

/// The pages that the table has taken, apart from resident memory: fork copies them at once.
pub(crate) fn table_pages() -> Range<Va> {
    let moved = BOOK.look(|book| (book.slots as u64 == TABLE.0).then_some(book.capacity));
    TABLE..Va(TABLE.0 + (moved.unwrap_or(0) * size_of::<Region>()) as u64)
}

/// The segments of this very program.
pub(crate) fn own_program() -> Option<Program> {
    Program::parse(symbols::own_file()?.data).ok()
}

/// In a child, after a fork: it has not got everything.
pub(crate) fn forget_what_is_not_inherited() {
    let is_lost = |region: &&Region| region.pager.on_fork() == Inherit::Not;
    while let Some(lost) = regions().iter().find(is_lost).map(Region::range) {
        if Own.edit(|regions| regions.remove(&lost)).is_err() {
            return;
        }
    }
}

/// Add a region.
///
/// # Errors
/// `Memory`: the range makes no sense, meets another region, or there are too many.
pub fn add(region: Region) -> Result<(), Error> {
    with_room(|| Own.edit(|regions| regions.add(region)))
}

/// Add a region at an address that is free, a multiple of `align`. Returns where.
///
/// The range of `region` counts only for how many bytes it has.
///
/// # Errors
/// `Memory`: the range is empty, or no gap is large enough.
pub fn add_anywhere(bytes: u64, align: u64, make: impl Fn(Range<Va>) -> Region) -> Result<Range<Va>, Error> {
    with_room(|| Own.edit(|regions| regions.add_in_gap(&MAPPINGS, bytes, align, &make)))
}

/// Remove all regions, pages and marks in a range, whether there are any or not.
///
/// # Errors
/// `Memory`: the range makes no sense, or there are too many regions.
pub fn unmap(range: &Range<Va>) -> Result<(), Error> {
    with_room(|| space::unmap(&mut Sys, &Own, range))
}

/// Change what a range may be used for: nothing (it can be read), `WRITE` or `EXEC`.
///
/// # Errors
/// `Memory`: a part of the range is in no region, the rights exclude each other, or the kernel
/// refuses to make a page writable that was given to this environment read-only.
pub fn protect(range: &Range<Va>, perms: Perms) -> Result<(), Error> {
    with_room(|| space::protect(&mut Sys, &Own, range, perms))
}

/// Say what is going to happen to a range.
///
/// # Errors
/// `Memory`: a part of the range is in no region, its pager has nothing to do with such advice, or
/// there is no memory for pages that are wanted now.
pub fn advise(range: &Range<Va>, advice: Advice) -> Result<(), Error> {
    with_room(|| space::advise(&mut Sys, &Own, range, advice))
}

/// Move the ends of a region. Pages outside its new range must be gone.
pub(crate) fn resize(old: &Range<Va>, new: &Range<Va>) -> Result<(), Error> {
    Ok(Own.edit(|regions| regions.resize(old, new))?)
}

/// Move the pages of a region to a new place, which must be free.
pub(crate) fn relocate(old: &Range<Va>, new: &Range<Va>) -> Result<(), Error> {
    with_room(|| space::relocate(&mut Sys, &Own, old, new))
}

// When the table has moved, it grows by whole pages.
const _: () = assert!((2 * FIRST_SLOTS * size_of::<Region>()).is_multiple_of(PAGE_SIZE as usize));
const _: () = assert!(MAPPINGS.start.0 < MAPPINGS.end.0 && TABLE_END.0 < USER_LIMIT.0);
