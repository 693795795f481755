//! Protection by tables: a table that is sealed protects everything that it translates against writes, in one step.
//!
//! The entries of the pages keep their rights, so lifting the seal needs no look at any page. Only a full table is sealed,
//! of regions whose pagers leave their pages alone: no page comes or changes its rights while the table is sealed.
//! A change to a part of the table [`open`]s it first: then the pages are protected one by one.

use crate::region::Region;
use crate::tables::{self, Found, Tables};
use crate::{Error, ME, PageCalls, rights::set_rights, touch::Fill};
use abi::page::TABLE_ENTRIES;
use abi::{Level, PageOp, Perms, Pte, Va};
use core::ops::Range;

/// The rights that the regions of a range have in common, if their memory may be sealed.
pub(crate) fn common_rights<K>(regions: &[Region<K>], range: &Range<Va>) -> Option<Perms> {
    let first = regions.partition_point(|region| region.end <= range.start);
    let rights = regions.get(first)?.perms;
    let is_like =
        |region: &Region<K>| region.perms == rights && !matches!(region.pager.fill(), Fill::Ask | Fill::Never);
    let mut all = regions[first..].iter().take_while(|region| region.start < range.end);
    (all.all(is_like) && !rights.contains(Perms::KEEP)).then_some(rights)
}

/// Protects as many whole tables of a range as can be, or lifts their seals, with these rights, READ or WRITE. Calls `rest`
/// with each range of pages between them. The tables are private.
///
/// # Errors
/// Those of the kernel and of `rest`.
pub(crate) fn protect<K: PageCalls>(
    kernel: &mut K,
    range: &Range<Va>,
    perms: Perms,
    mut rest: impl FnMut(&mut K, Range<Va>) -> Result<(), Error>,
) -> Result<(), Error> {
    let fits = |kernel: &K, entry: Pte| match perms.contains(Perms::WRITE) {
        true => entry.has(Pte::SEALED),
        false => kernel.count_entries(entry.frame()) == TABLE_ENTRIES as u32 && !entry.has(Pte::SEALED),
    };
    let mut at = range.start;
    tables::for_each_run(kernel, range, fits, |kernel, run| {
        kernel.op(PageOp::protect_tables(ME, run.start, tables::count(&run), Level::L2, perms))?;
        rest(kernel, core::mem::replace(&mut at, run.end)..run.start)
    })?;
    rest(kernel, at..range.end)
}

/// Lifts the seals of the tables that translate addresses of a range. The tables are private.
///
/// # Errors
/// Those of the kernel.
pub(crate) fn open<K: PageCalls>(kernel: &mut K, range: &Range<Va>) -> Result<(), Error> {
    let mut tables = Tables::of(range);
    while let Some(found) = tables.next(kernel) {
        lift(kernel, &found)?;
    }
    Ok(())
}

/// Lifts the seal of a private table of level 1, if it has one; its pages are protected one by one instead.
///
/// # Errors
/// Those of the kernel.
#[inline]
pub(crate) fn lift<K: PageCalls>(kernel: &mut K, found: &Found) -> Result<(), Error> {
    if found.entry.has(Pte::SEALED) {
        set_rights(kernel, &tables::around(found.start, Level::L2), Perms::READ, |_| true)?;
        kernel.op(PageOp::protect_tables(ME, found.start, 1, Level::L2, Perms::WRITE))?;
    }
    Ok(())
}
