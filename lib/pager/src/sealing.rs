//! Protection by tables: a table that is sealed protects everything that it translates against writes, in one step.
//!
//! The entries of the pages keep their rights, so lifting the seal needs no look at any page. Only a full table is sealed,
//! of regions whose pagers leave their pages alone: no page comes or changes its rights while the table is sealed.
//! A change to a part of the table [`open`]s it first: then the pages are protected one by one.

use crate::region::Region;
use crate::{Error, ME, PageCalls, rights::set_rights, touch::Fill, unshare};
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

/// Calls `f` with each run of tables in a range whose seals give these rights, READ or WRITE: their addresses, and their
/// number.
pub(crate) fn for_each_run<K: PageCalls>(
    kernel: &mut K,
    range: &Range<Va>,
    perms: Perms,
    mut f: impl FnMut(&mut K, Range<Va>, u32) -> Result<(), Error>,
) -> Result<(), Error> {
    let fits = |kernel: &K, entry: Pte| match perms.contains(Perms::WRITE) {
        true => entry.has(Pte::SEALED),
        false => kernel.count_entries(entry.frame()) == TABLE_ENTRIES as u32 && !entry.has(Pte::SEALED),
    };
    let mut at = range.start;
    while let Some((first, entry)) = unshare::next_table(kernel, &(at..range.end)) {
        let (mut end, mut count) = (first.end, 1);
        if fits(kernel, entry) {
            while let Some((next, entry)) = unshare::next_table(kernel, &(end..range.end))
                && next.start == end
                && fits(kernel, entry)
            {
                (end, count) = (next.end, count + 1);
            }
            f(kernel, first.start..end, count)?;
        }
        at = end;
    }
    Ok(())
}

/// Lifts the seal of each table that translates addresses of a range; its pages are protected one by one instead. The
/// tables are private.
///
/// # Errors
/// Those of the kernel.
pub(crate) fn open<K: PageCalls>(kernel: &mut K, range: &Range<Va>) -> Result<(), Error> {
    let mut at = range.start;
    while let Some((table, entry)) = unshare::next_table(kernel, &(at..range.end)) {
        if entry.has(Pte::SEALED) {
            set_rights(kernel, &table, Perms::READ, |_| true)?;
            kernel.op(PageOp::protect_tables(ME, table.start, 1, Level::L2, Perms::WRITE))?;
        }
        at = table.end;
    }
    Ok(())
}

/// [`open`]s the tables that translate addresses both inside a range and outside.
///
/// # Errors
/// Those of the kernel.
pub(crate) fn open_edges<K: PageCalls>(kernel: &mut K, range: &Range<Va>) -> Result<(), Error> {
    let inner = unshare::inner_tables(range);
    open(kernel, &(range.start..inner.start))?;
    open(kernel, &(inner.end..range.end))
}
