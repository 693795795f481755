//! Changes to ranges of an address space: first the table of regions, then the pages.
//!
//! The table is only used within [`Table::edit`], in steps that call nothing else. So a fault between two steps finds
//! a consistent table.

use crate::{
    Access, Error, ME, Order, PageCalls, Region, Regions, Touch,
    batch::Batch,
    region,
    region::Piece,
    rights::{RIGHTS, set_rights},
    runs::{Entries, runs},
    sealing,
    tables::{self, TABLE},
    unshare,
};
use abi::{Level, PageOp, Perms, Pte, Va};
use core::cell::Cell;
use core::ops::Range;

/// Access to the table of regions of an environment.
pub trait Table<K: 'static> {
    /// Calls `f` to read or change the table. `f` does nothing else.
    fn edit<T>(&self, f: impl FnOnce(&mut Regions<K>) -> T) -> T;
}

/// Advice from a program about its use of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advice {
    /// No advice: a page is brought in when it is touched, and others with it if the last touches were next to it.
    Normal,
    /// Pages are touched in ascending order: several are brought in at once.
    Sequential,
    /// Pages are touched in no order: each is brought in when it is touched.
    Random,
    /// Bring all pages in now: to be written if the memory can be written, else to be read.
    WillNeed,
    /// Bring all pages in now, to be read. (Memory that begins as zeros gets the shared page of zeros.)
    WillRead,
    /// Give the pages back. Their contents are lost: a page that is touched again is as if it had never been touched.
    DontNeed,
}

/// The lowest region in a range, and the part of the range that it covers.
fn next_piece<K: 'static>(table: &impl Table<K>, range: &Range<Va>) -> Option<Piece<K>> {
    let region = table.edit(|regions| {
        let all = regions.all();
        all.get(all.partition_point(|region| region.end <= range.start)).copied()
    })?;
    let piece = region.start.max(range.start)..region.end.min(range.end);
    (piece.start < piece.end).then_some((region, piece))
}

/// Calls `f` with each region that reaches into a range, and with the part of the range that it covers.
fn for_each_piece<K: 'static>(
    table: &impl Table<K>,
    range: &Range<Va>,
    mut f: impl FnMut(&Region<K>, Range<Va>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut rest = range.clone();
    while let Some((region, piece)) = next_piece(table, &rest) {
        rest.start = piece.end;
        f(&region, piece)?;
    }
    Ok(())
}

/// Removes all regions, pages and marks in a range, which may be empty.
///
/// # Errors
/// [`region::check`]'s, [`Error::TooManyRegions`], `NoMemory` for a shared table that must become private: then
/// nothing has changed.
pub fn unmap<K: PageCalls>(kernel: &mut K, table: &impl Table<K>, range: &Range<Va>) -> Result<(), Error> {
    region::check(range)?;
    // The part that may fail comes first. Pages that are in no region would show up in the next mapping at this place.
    let is_empty = tables::are_missing(kernel, range);
    if !is_empty {
        unshare::own_edges(kernel, range)?;
    }
    let mut rest = range.clone();
    while rest.start < rest.end {
        let Some((pager, piece)) = table.edit(|regions| regions.take(&rest))? else { break };
        rest.start = piece.end;
        pager.discard(kernel, &piece);
    }
    if is_empty { Ok(()) } else { remove(kernel, range) }
}

/// Removes all pages and marks in a range, and leaves the regions as they are.
///
/// # Errors
/// Those of the kernel.
#[inline]
pub fn clear<K: PageCalls>(kernel: &mut K, range: &Range<Va>) -> Result<(), Error> {
    if tables::are_missing(kernel, range) { Ok(()) } else { remove(kernel, range) }
}

fn remove<K: PageCalls>(kernel: &mut K, range: &Range<Va>) -> Result<(), Error> {
    if kernel.entries(range.clone()).next().is_none() {
        return Ok(()); // no shared table either: those are never empty
    }
    unshare::discard(kernel, range)?;
    let mut batch = Batch::new();
    for (va, count, ()) in runs(kernel.entries(range.clone()), |_, _| Some(())) {
        batch.add(kernel, PageOp::unmap(ME, va, count))?;
    }
    batch.finish(kernel)
}

/// Changes the rights of a range: none (it can be read), [`Perms::WRITE`], or [`Perms::EXEC`]. The whole range must be
/// in regions.
///
/// # Errors
/// [`region::check`]'s, [`Error::BadProtection`], [`Error::NoRegion`], [`Error::TooManyRegions`]; `NoRight` from the
/// kernel for a shared page that this environment got read-only. Then that page and shared pages above it keep their
/// rights; everything else in the range has changed.
pub fn protect<K: PageCalls>(
    kernel: &mut K,
    table: &impl Table<K>,
    range: &Range<Va>,
    perms: Perms,
) -> Result<(), Error> {
    if perms.contains(RIGHTS) || !RIGHTS.contains(perms) {
        return Err(Error::BadProtection(range.start));
    }
    region::check(range)?;
    unshare::own(kernel, range)?;
    let whole = match table.edit(|regions| sealing::common_rights(regions.all(), range)) {
        Some(before) if before != perms && !(before | perms).contains(Perms::EXEC) => tables::inner(range),
        _ => range.end..range.end,
    };
    for rest in [range.start..whole.start, whole.end..range.end] {
        sealing::open(kernel, &rest)?;
    }
    table.edit(|regions| regions.change(range, |region| region.perms = (region.perms - RIGHTS) | perms))?;
    set_rights_of_all(kernel, &(range.start..whole.start), perms)?;
    sealing::protect(kernel, &whole, perms, |kernel, rest| set_rights_of_all(kernel, &rest, perms))?;
    set_rights_of_all(kernel, &(whole.end..range.end), perms)
}

/// Gives these rights to all pages of a range.
fn set_rights_of_all<K: PageCalls>(kernel: &mut K, range: &Range<Va>, perms: Perms) -> Result<(), Error> {
    // Pages that are shared on purpose come last: only for them can the kernel refuse, and no other page must be left
    // with rights that its region no longer has.
    let is_shared = |entry: Pte| entry.has(Perms::KEEP.bits());
    let found_shared = Cell::new(false);
    set_rights(kernel, range, perms, |entry| {
        found_shared.set(found_shared.get() || is_shared(entry));
        !is_shared(entry)
    })?;
    if found_shared.get() { set_rights(kernel, range, perms, is_shared) } else { Ok(()) }
}

/// Gives advice about the future use of a range. The whole range must be in regions.
///
/// # Errors
/// [`region::check`]'s, [`Error::NoRegion`], [`Error::TooManyRegions`], [`Error::NotSupported`]; those of the
/// pagers.
pub fn advise<K: PageCalls>(
    kernel: &mut K,
    table: &impl Table<K>,
    range: &Range<Va>,
    advice: Advice,
) -> Result<(), Error> {
    region::check(range)?;
    table.edit(|regions| regions.require_covered(range))?;
    match advice {
        Advice::Normal => set_order(table, range, Order::Unknown),
        Advice::Sequential => set_order(table, range, Order::Sequential),
        Advice::Random => set_order(table, range, Order::Random),
        Advice::WillNeed => for_each_piece(table, range, |region, piece| {
            bring_in(kernel, region, piece, if region.is_writable() { Access::Write } else { Access::Read })
        }),
        Advice::WillRead => for_each_piece(table, range, |region, piece| bring_in(kernel, region, piece, Access::Read)),
        Advice::DontNeed => {
            for_each_piece(table, range, |region, piece| match region.pager.can_discard() {
                // First own the edges, as `unmap` does: a pager that has freed the data of its marks must not see them
                // again.
                true => unshare::own_edges(kernel, &piece),
                false => Err(Error::NotSupported(piece.start)),
            })?;
            for_each_piece(table, range, |region, piece| {
                region.pager.discard(kernel, &piece);
                clear(kernel, &piece)
            })
        }
    }
}

fn set_order<K: 'static>(table: &impl Table<K>, range: &Range<Va>, order: Order) -> Result<(), Error> {
    table.edit(|regions| regions.change(range, |region| region.order = order))
}

/// Makes this access to each page of a piece possible, as the access would, several pages at a time.
pub(crate) fn bring_in<K: PageCalls>(
    kernel: &mut K,
    region: &Region<K>,
    piece: Range<Va>,
    access: Access,
) -> Result<(), Error> {
    let region = Region { order: Order::Sequential, end: piece.end, ..*region };
    if access == Access::Write {
        unshare::own(kernel, &piece)?;
    }
    let mut va = piece.start;
    while va < piece.end {
        let mut entries = kernel.entries(va..piece.end.min(tables::around(va, Level::L2).end));
        let entry = entries.next().filter(|(at, _)| *at == va).map_or(Pte(0), |(_, entry)| entry);
        let must_own = access == Access::Write && entry.has(Perms::COW.bits());
        let mut count = 1;
        if entry.is_present() {
            count += entries.pass_alike(entry);
            if must_own {
                kernel.op(PageOp::own(va, count as u32))?;
            }
        } else {
            region.pager.fault(kernel, &Touch { va, access, entry }, &region)?;
        }
        va = va.add_pages(count);
    }
    Ok(())
}

/// Moves a region, which is named by its range and whose data does not depend on its address: its pages and marks
/// appear at the new place, which must be free, and nothing is copied.
///
/// # Errors
/// [`Error::NoRegion`], [`Error::NotSupported`] if the pager [knows pages by their addresses](crate::Pager::can_move),
/// [`region::check`]'s, [`Error::Overlap`], [`Error::TooManyRegions`], and those of the kernel: then nothing has changed.
pub fn relocate<K: PageCalls>(
    kernel: &mut K,
    table: &impl Table<K>,
    old: &Range<Va>,
    new: &Range<Va>,
) -> Result<(), Error> {
    let region = table.edit(|regions| {
        let region = region::find(regions.all(), old.start).filter(|region| region.range() == *old);
        let region = *region.ok_or(Error::NoRegion(old.start))?;
        if !region.pager.can_move() {
            return Err(Error::NotSupported(old.start));
        }
        regions.add(Region { start: new.start, end: new.end, ..region }).map(|()| region)
    })?;
    if let Err(error) = alias(kernel, &region, new) {
        // No `discard` for the pager: everything that was moved is still at the old place.
        table.edit(|regions| regions.remove(new))?;
        clear(kernel, new)?;
        return Err(error);
    }
    table.edit(|regions| regions.remove(old))?;
    clear(kernel, old)
}

/// The page or mark at an address.
#[derive(Clone, Copy, PartialEq)]
enum Held {
    Page(Perms),
    Mark(u64),
}

/// Makes the pages and marks of a region appear in the range `new` as well.
///
/// The kernel passes on no right to become writable later, only that of a page which is writable now. A private page
/// loses nothing by that, since it can be copied. Pages that stay shared get the right to write for the duration of
/// the call.
fn alias<K: PageCalls>(kernel: &mut K, region: &Region<K>, new: &Range<Va>) -> Result<(), Error> {
    let old = region.range();
    unshare::own(kernel, &old)?;
    if !region.perms.contains(Perms::KEEP) || region.is_writable() {
        return share_entries(kernel, &old, new.start);
    }
    let may = |entry: Pte| entry.has(Pte::MAY);
    let lent = set_rights(kernel, &old, Perms::WRITE, may);
    let done = lent.and_then(|()| copy_entries(kernel, &old, new.start));
    let rights = region.perms & RIGHTS;
    let is_lent = |entry: Pte| entry.has(Pte::WRITABLE);
    set_rights(kernel, &old, rights, is_lent)?;
    done?;
    set_rights(kernel, new, rights, is_lent)
}

/// Makes the pages and marks of `old` appear from `new` on as well. Whole tables are shared, if both places are equally
/// far from the start of a table.
fn share_entries<K: PageCalls>(kernel: &mut K, old: &Range<Va>, new: Va) -> Result<(), Error> {
    let distance = new.0.wrapping_sub(old.start.0);
    let whole = if distance.is_multiple_of(TABLE) { tables::inner(old) } else { old.end..old.end };
    for rest in [old.start..whole.start, whole.end..old.end] {
        sealing::open(kernel, &rest)?;
    }
    tables::for_each_run(
        kernel,
        &whole,
        |_, _| true,
        |kernel, run| {
            let to = Va(run.start.0.wrapping_add(distance));
            kernel.op(PageOp::share_tables(ME, run.start, ME, to, tables::count(&run), Level::L2))
        },
    )?;
    copy_entries(kernel, &(old.start..whole.start), new)?;
    copy_entries(kernel, &(whole.end..old.end), Va(whole.end.0.wrapping_add(distance)))
}

/// Makes the pages and marks of `old` appear from `new` on as well, each by itself.
fn copy_entries<K: PageCalls>(kernel: &mut K, old: &Range<Va>, new: Va) -> Result<(), Error> {
    let moved = |va: Va| Va(va.0 - old.start.0 + new.0);
    let held =
        |_, entry: Pte| Some(if entry.is_present() { Held::Page(entry.perms()) } else { Held::Mark(entry.word()) });
    let mut batch = Batch::new();
    for (va, count, held) in runs(kernel.entries(old.clone()), held) {
        let op = match held {
            Held::Page(perms) => PageOp::map(ME, va, ME, moved(va), count, perms),
            Held::Mark(word) => PageOp::mark(ME, moved(va), count, word),
        };
        batch.add(kernel, op)?;
    }
    batch.finish(kernel)
}
